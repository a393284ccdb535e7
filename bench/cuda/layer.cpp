// The linear layers and norms of one Llama-2-7B layer, end to end.

#include "tables.hpp"

#include <array>
#include <memory>

namespace bench {

namespace {

constexpr Index width = 4096, inner = 11008;
constexpr double epsilon = 1e-5;

enum Projection { q, k, v, o, gate, up, down, projections };

Index out_of(int p) { return p == gate || p == up ? inner : width; }
Index in_of(int p) { return p == down ? inner : width; }

/// Which projections have an adapter, and which.
template <class T>
struct Adaptation {
  std::string name;
  std::vector<Adapter<float>> adapters;  // one for each projection, or none at all
  std::array<std::unique_ptr<Layers<T>>, projections> layers;
};

template <class T>
class LlamaLayer {
 public:
  explicit LlamaLayer(Session& s) : gamma_(random_array<T>(s, width, 61, 0.5, 2)) {
    Index bytes = 0;
    for (int p = 0; p < projections; ++p)
      bytes += out_of(p) * in_of(p) * static_cast<Index>(sizeof(T));
    const int copies = s.rotation(bytes);
    for (int p = 0; p < projections; ++p)
      weights_.push_back(std::make_unique<Weights<T>>(s, out_of(p), in_of(p), 0.0, copies));
    x_ = std::make_unique<DeviceArray<T>>(random_array<T>(s, most_tokens * width, 62));
    for (auto* buffer : {&norm1_, &norm2_})
      *buffer = std::make_unique<DeviceArray<T>>(most_tokens * width);
    for (int p = 0; p < projections; ++p)
      y_.push_back(std::make_unique<DeviceArray<T>>(most_tokens * out_of(p)));
  }

  Adaptation<T> adaptation(Session& s, const std::string& name, Variant variant, Sides sides,
                           Index blocks, const std::vector<int>& where) const {
    Adaptation<T> a;
    a.name = name;
    for (int p = 0; p < projections; ++p)
      a.adapters.push_back(make_adapter(make_config(variant, sides, blocks), out_of(p), in_of(p),
                                        70 + static_cast<std::uint64_t>(p)));
    for (int p : where)
      a.layers[static_cast<std::size_t>(p)] = std::make_unique<Layers<T>>(
          s, *weights_[static_cast<std::size_t>(p)], a.adapters[static_cast<std::size_t>(p)]);
    return a;
  }

  Contestant contestant(Session& s, const Adaptation<T>& a, Index tokens, Path path) const {
    Contestant c;
    c.name = a.name;
    c.rotation = weights_[0]->copies;
    for (const auto& y : y_) c.outputs.push_back(y->output());
    c.enqueue = [this, &s, &a, tokens, path](int call) {
      s.take(path);
      norm(s, *x_, *norm1_, tokens);
      for (int p : {q, k, v}) project(s, a, p, *norm1_, tokens, call);
      project(s, a, o, *y_[q], tokens, call);  // q stands for what attention makes
      norm(s, *y_[o], *norm2_, tokens);
      for (int p : {gate, up}) project(s, a, p, *norm2_, tokens, call);
      project(s, a, down, *y_[up], tokens, call);
    };
    c.check = [this, &s, &a, tokens] {
      for (int p = 0; p < projections; ++p) {
        const auto at = static_cast<std::size_t>(p);
        const DeviceArray<T>& from = p == o      ? *y_[q]
                                     : p == down ? *y_[up]
                                     : p < o     ? *norm1_
                                                 : *norm2_;
        check_forward<T>(s, a.name + ", projection " + std::to_string(p), weights_[at]->last(),
                         out_of(p), in_of(p), a.layers[at] ? &a.adapters[at] : nullptr, from.data(),
                         y_[at]->data(), tokens);
      }
    };
    return c;
  }

  double bytes() const {
    double sum = 0;
    for (const auto& w : weights_) sum += w->bytes();
    return sum;
  }

  static constexpr Index most_tokens = 64;

 private:
  void norm(Session& s, const DeviceArray<T>& from, const DeviceArray<T>& to, Index tokens) const {
    if (!rms_norm<T>(from.data(), gamma_.data(), epsilon, to.data(), tokens, width, s.stream()))
      throw Wrong("the benchmark's rms_norm does not take this width");
  }

  void project(Session& s, const Adaptation<T>& a, int p, const DeviceArray<T>& from, Index tokens,
               int call) const {
    const auto at = static_cast<std::size_t>(p);
    const MatrixView<const T> x(from.data(), tokens, in_of(p));
    const MatrixView<T> y(y_[at]->data(), tokens, out_of(p));
    if (a.layers[at])
      (*a.layers[at])[call].forward(s.ctx, x, y);
    else
      ether::CudaBackend<T>::gemm(s.ctx, x, weights_[at]->view(call), true, y, false);
  }

  DeviceArray<T> gamma_;
  std::vector<std::unique_ptr<Weights<T>>> weights_;
  std::unique_ptr<DeviceArray<T>> x_, norm1_, norm2_;
  std::vector<std::unique_ptr<DeviceArray<T>>> y_;
};

}  // namespace

template <class T>
void layer_table(Session& s) {
  Table table{
      "layer",
      "one Llama-2-7B layer, all its products and norms in one graph",
      "q, k, v, o 4096→4096, gate and up 4096→11008, down 11008→4096, two RMSNorms. Without "
      "attention, rotary embedding, SiLU and residual sums, which adapters do not touch: "
      "with them the ratios would be nearer to 1. \"q, v\": as the paper adapts them.",
      {"tokens", "adapters", "launches"},
      "time / frozen",
      false};
  const LlamaLayer<T> layer(s);
  const std::vector<int> some = {q, v}, all = {q, k, v, o, gate, up, down};
  std::vector<Adaptation<T>> adaptations;
  const auto add = [&](const char* name, Variant variant, Sides sides, Index blocks,
                       const std::vector<int>& where) {
    adaptations.push_back(layer.adaptation(s, name, variant, sides, blocks, where));
  };
  add("none", Variant::ether, Sides::input, 1, {});
  add("ETHER on q, v, input side, n = 1", Variant::ether, Sides::input, 1, some);
  add("ETHER on q, v, input side, n = 32", Variant::ether, Sides::input, 32, some);
  add("ETHER+ on all, both sides, n = 1", Variant::ether_plus, Sides::both, 1, all);
  add("ETHER+ on all, both sides, n = 32", Variant::ether_plus, Sides::both, 32, all);
  for (Index tokens : s.tokens({1, 16, 64}, {1, 64})) {
    std::vector<Contestant> contestants;
    std::vector<std::string> launches;
    for (std::size_t i = 0; i < adaptations.size(); ++i)
      for (bool dependent : {false, true}) {
        if (i == 0 && dependent) continue;
        contestants.push_back(layer.contestant(s, adaptations[i], tokens, {true, dependent}));
        launches.push_back(i == 0 ? "" : dependent ? "dependent" : "plain");
      }
    const auto times = s.timer.compare(contestants);
    for (std::size_t i = 0; i < times.size(); ++i)
      table.rows.push_back({{std::to_string(tokens), contestants[i].name, launches[i]},
                            times[i],
                            layer.bytes(),
                            layer.bytes() / sizeof(T) * 2 * static_cast<double>(tokens),
                            ratio(times[i], times[0]),
                            {}});
  }
  s.take({});
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(layer_table)
