// The layer's forward pass over the frozen product.

#include "tables.hpp"

#include <optional>

namespace bench {

namespace {

constexpr Index in = 4096;

/// The project's goals for one side, as a ratio to the frozen product.
std::optional<double> goal_of(Index out, Index tokens, Sides sides) {
  if (sides == Sides::both) return {};
  if (out == 4096 && tokens <= 8 && sides == Sides::input) return 1.02;
  if (out == 11008 && tokens >= 16 && tokens <= 256) return 1.05;
  if (out == 11008 && tokens == 4096) return 1.06;
  return {};
}

/// One adapter, every number of tokens, every path.
template <class T>
void paths_table(Session& s, Sides sides) {
  const std::string side = to_string(sides);
  Table table{"forward, paths, " + side,
              "ETHER, n = 1, " + side + " side: which path",
              "\"frozen again\" is the baseline a second time: what differs from 1 there is noise. "
              "\"fused\": up to 8 tokens in one kernel that is the product too; \"dependent\": "
              "programmatic dependent launch. Goals stand at the path taken by default.",
              {"shape", "tokens", "path"},
              "time / frozen product",
              false};
  const Adapter<float> narrow = make_adapter(make_config(Variant::ether, sides, 1), 4096, in, 5);
  const Adapter<float> wide = make_adapter(make_config(Variant::ether, sides, 1), 11008, in, 5);
  const auto all = s.tokens({1, 2, 4, 8, 16, 64, 256, 1024, 4096}, {1, 8, 256, 4096});
  for (Index out : {Index{4096}, Index{11008}}) {
    const Adapter<float>& adapter = out == 4096 ? narrow : wide;
    const Weights<T> w(s, out, in);
    const Layers<T> layers(s, w, adapter);
    const auto x = random_array<T>(s, all.back() * in, 22);
    const DeviceArray<T> y(all.back() * out);
    for (Index tokens : all) {
      const bool fuses = tokens <= 8 && sides == Sides::input;
      std::vector<Contestant> contestants;
      for (const char* name : {"frozen", "frozen again"})
        contestants.push_back(product_contestant(s, w, x.data(), y, tokens, name));
      const auto add = [&](const char* name, Path path) {
        contestants.push_back(
            forward_contestant(s, name, w, layers, adapter, x.data(), y, tokens, path));
      };
      if (fuses) add("fused", {true, false});
      if (fuses) add("fused, dependent", {true, true});
      add("separate", {false, false});
      add("separate, dependent", {false, true});
      const auto times = s.timer.compare(contestants);
      for (std::size_t i = 0; i < times.size(); ++i) {
        const std::string& name = contestants[i].name;
        const bool has_goal = name == (fuses ? "fused" : "separate");
        table.rows.push_back({{shape_name(in, out), std::to_string(tokens), name},
                              times[i],
                              product_bytes(w, tokens),
                              product_flops(w, tokens),
                              ratio(times[i], times[0]),
                              has_goal ? goal_of(out, tokens, sides) : std::nullopt});
      }
    }
  }
  s.take({});
  s.report.add(table);
}

/// Every variant, side and number of blocks, by the path taken by default.
template <class T>
void variants_table(Session& s) {
  Table table{"forward, variants",
              "variant, sides and number of blocks",
              "By the path taken by default: fused up to 8 tokens, no dependent launch.",
              {"shape", "tokens", "variant", "sides", "n"},
              "time / frozen product",
              false};
  const auto all = s.tokens({1, 16, 256, 4096}, {1, 256});
  for (Index out : {Index{4096}, Index{11008}}) {
    const Weights<T> w(s, out, in);
    const auto x = random_array<T>(s, all.back() * in, 23);
    const DeviceArray<T> y(all.back() * out);
    std::vector<Adapter<float>> adapters;
    for (Variant variant : {Variant::ether, Variant::ether_plus})
      for (Sides sides : {Sides::input, Sides::output, Sides::both})
        for (Index n : {1, 4, 32})
          adapters.push_back(make_adapter(make_config(variant, sides, n), out, in, 6));
    std::vector<Layers<T>> layers;
    layers.reserve(adapters.size());
    for (const auto& adapter : adapters) layers.emplace_back(s, w, adapter);

    for (Index tokens : all) {
      std::vector<Contestant> contestants = {
          product_contestant(s, w, x.data(), y, tokens, "the frozen product")};
      for (std::size_t i = 0; i < adapters.size(); ++i) {
        const AdapterConfig& c = adapters[i].config();
        contestants.push_back(forward_contestant(
            s,
            "forward, " + name_of(c.variant) + ", " + to_string(c.sides) + ", n = " +
                std::to_string(c.input_blocks) + ", " + std::to_string(tokens) + " tokens",
            w, layers[i], adapters[i], x.data(), y, tokens, Path{}));
      }
      const auto times = s.timer.compare(contestants);
      const std::string shape = shape_name(in, out), count = std::to_string(tokens);
      const double bytes = product_bytes(w, tokens), flops = product_flops(w, tokens);
      table.rows.push_back({{shape, count, "frozen"}, times[0], bytes, flops, 1.0, {}});
      for (std::size_t i = 0; i < adapters.size(); ++i) {
        const AdapterConfig& c = adapters[i].config();
        table.rows.push_back(
            {{shape, count, name_of(c.variant), to_string(c.sides), std::to_string(c.input_blocks)},
             times[i + 1],
             bytes,
             flops,
             ratio(times[i + 1], times[0]),
             goal_of(out, tokens, c.sides)});
      }
    }
  }
  s.report.add(table);
}

}  // namespace

template <class T>
void forward_tables(Session& s) {
  paths_table<T>(s, Sides::input);
  paths_table<T>(s, Sides::output);
  variants_table<T>(s);
}

}  // namespace bench

ETHER_BENCH_TABLE(forward_tables)
