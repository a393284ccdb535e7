// What the layer adds to the frozen product, beside what LoRA, OFT and HRA add.

#include "baseline_layers.hpp"
#include "tables.hpp"

namespace bench {

namespace {

constexpr const char* note =
    "All in turns over the same copies of W, with as many copies of their parameters, which for "
    "LoRA, OFT and HRA are of the type of W, for ETHER float. All stand on the frozen product of "
    "cuBLAS, but ETHER and ETHER+ of up to 8 tokens on the library's fused kernel, which is their "
    "default; \"separate\" is without it. \"added\" is a difference of medians: one that is not "
    "well above that of \"frozen again\" is noise.";

/// The lines of the table at one number of tokens.
struct Lines {
  std::vector<Contestant> contestants;
  std::vector<Index> parameters;  // of each

  void add(Contestant contestant, Index count) {
    contestants.push_back(std::move(contestant));
    parameters.push_back(count);
  }
};

template <class T>
Contestant baseline_contestant(Session& s, const Baseline<T>& baseline, const Weights<T>& w,
                               const T* x, const DeviceArray<T>& y, Index tokens) {
  Contestant c = product_contestant(s, w, x, y, tokens, baseline.name);
  c.outputs.push_back(baseline.intermediate);
  T* const to = y.data();
  c.enqueue = [&baseline, &w, x, to, tokens](int call) {
    baseline.forward(call, MatrixView<const T>(x, tokens, w.in), MatrixView<T>(to, tokens, w.out));
  };
  c.check = [&s, &baseline, &w, x, to, tokens] {
    check_rows<T>(s, baseline.name, w.last(), w.out, w.in, baseline.oracle, x, to, tokens);
  };
  return c;
}

/// All methods over one weight, with what they compute on.
template <class T>
class Methods {
 public:
  Methods(Session& s, const Blas& blas, Index out, Index in, Index most_tokens)
      : s_(s),
        w_(s, out, in),
        x_(random_array<T>(s, most_tokens * in, 24)),
        y_(most_tokens * out),
        z_(most_tokens * in) {
    for (Variant variant : {Variant::ether, Variant::ether_plus})
      for (Index n : {1, 32}) {
        const Sides sides = variant == Variant::ether ? Sides::input : Sides::both;
        adapters_.push_back(make_adapter(make_config(variant, sides, n), out, in, 10));
      }
    layers_.reserve(adapters_.size());
    for (const auto& adapter : adapters_) layers_.emplace_back(s, w_, adapter);
    for (Index rank : {4, 8, 16, 64}) baselines_.push_back(lora(s, w_, rank, most_tokens));
    for (auto& form : oft(s, blas, w_, z_)) baselines_.push_back(std::move(form));
    baselines_.push_back(hra(s, w_, 8, z_));
  }
  Methods(const Methods&) = delete;  // its baselines refer to it
  Methods& operator=(const Methods&) = delete;

  /// The frozen product first.
  Lines lines(Index tokens) const {
    Lines all;
    const T* const x = x_.data();
    for (const char* name : {"frozen", "frozen again"})
      all.add(product_contestant(s_, w_, x, y_, tokens, name), 0);
    for (std::size_t i = 0; i < adapters_.size(); ++i) {
      const AdapterConfig& c = adapters_[i].config();
      const std::string name = name_of(c.variant) + ", " + to_string(c.sides) +
                               ", n = " + std::to_string(c.input_blocks);
      const auto add = [&](const std::string& form, Path path) {
        all.add(
            forward_contestant(s_, name + form, w_, layers_[i], adapters_[i], x, y_, tokens, path),
            adapters_[i].size());
      };
      add("", Path{});
      if (tokens <= 8) add(", separate", Path{false, false});
    }
    for (const Baseline<T>& baseline : baselines_)
      all.add(baseline_contestant(s_, baseline, w_, x, y_, tokens), baseline.parameters);
    return all;
  }

 private:
  Session& s_;
  Weights<T> w_;
  DeviceArray<T> x_, y_, z_;
  std::vector<Adapter<float>> adapters_;
  std::vector<Layers<T>> layers_;
  std::vector<Baseline<T>> baselines_;
};

}  // namespace

template <class T>
void baselines_table(Session& s) {
  const std::string unit_of_added = "LoRA, r = 8";
  Table table{"baselines",
              "forward, beside LoRA, OFT and HRA",
              note,
              {"shape", "tokens", "method", "parameters"},
              "added / " + unit_of_added,
              false};
  table.more = {{"time / frozen", 3}, {"added µs", 2}};
  const Index in = 4096;
  const auto all = s.tokens({1, 16, 128, 512, 4096}, {1, 128});
  const Blas blas(s);
  for (Index out : {Index{4096}, Index{11008}}) {
    const Methods<T> methods(s, blas, out, in, all.back());
    for (Index tokens : all) {
      const auto [contestants, parameters] = methods.lines(tokens);
      const auto times = s.timer.compare(contestants);
      std::vector<double> added;
      double unit = 0;
      for (std::size_t i = 0; i < times.size(); ++i) {
        added.push_back(times[i].median - times[0].median);
        if (contestants[i].name == unit_of_added) unit = added[i];
      }
      for (std::size_t i = 0; i < times.size(); ++i) {
        Row row{{shape_name(in, out), std::to_string(tokens), contestants[i].name,
                 std::to_string(parameters[i])},
                times[i],
                0,
                0,
                {},
                {}};
        row.more = {ratio(times[i], times[0]), added[i] * 1e6};
        if (i != 0 && unit > 0) row.metric = added[i] / unit;
        table.rows.push_back(row);
      }
    }
  }
  s.take({});
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(baselines_table)
