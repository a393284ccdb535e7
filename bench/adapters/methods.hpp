#pragma once

/// The methods that are compared, one interface for all: the layer itself and the baselines.

#include "../adapter.hpp"
#include "../baselines/frozen.hpp"
#include "../baselines/hra.hpp"
#include "../baselines/lora.hpp"
#include "../baselines/oft.hpp"
#include "../baselines/weight_space.hpp"
#include "shapes.hpp"

#include <ether/ether.hpp>

#include <Eigen/Dense>

#include <functional>
#include <memory>

namespace bench {

template <class T>
using MatrixOf = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// One adapted layer. backward overwrites grad_x and adds to gradients that it keeps. prologue: what
/// forward does before its product's first tile, for prologue_tokens. Empty: what a method has not.
template <class T>
struct Adapted {
  using View = MatrixView<T>;
  using Input = MatrixView<const T>;
  using Context = ether::EigenContext;

  std::function<void(Context&, Input x, View y)> forward;
  std::function<void(Context&, Input x, Input grad_y, View grad_x)> backward;
  std::function<void(Context&, View merged)> merge;
  std::function<void(Context&, Input x)> prologue;
  Index parameters = 0;
  Index bytes = 0;               ///< of the parameters
  double flops_per_token = 0;    ///< beyond the frozen product's
  double flops_per_forward = 0;  ///< likewise, whatever the number of tokens
};

/// Enough for the products that pack all tokens before their first tile, and no more than that.
inline constexpr Index prologue_tokens = 128;
static_assert(prologue_tokens > ether::detail::few_rows<float, true> &&
              prologue_tokens <= ether::detail::most_tokens);

/// Uniform in (-scale, scale).
inline MatrixOf<float> random_matrix(Index rows, Index cols, float scale) {
  return scale * MatrixOf<float>::Random(rows, cols);
}

/// `layer` behind the common interface, but for what layers do not name alike.
template <class T, class Layer>
Adapted<T> adapted(std::shared_ptr<Layer> layer) {
  using A = Adapted<T>;
  A result;
  result.forward = [=](auto& ctx, auto x, auto y) { layer->forward(ctx, x, y); };
  result.merge = [=](auto& ctx, auto merged) { layer->merge(ctx, merged); };
  return result;
}

template <class T, class Layer>
Adapted<T> baseline(std::shared_ptr<Layer> layer) {
  Adapted<T> result = adapted<T>(layer);
  result.parameters = layer->parameters();
  result.bytes = layer->bytes();
  result.flops_per_token = layer->flops_per_token();
  result.flops_per_forward = layer->flops_per_forward();
  return result;
}

/// ETHER on the input side or ETHER+ on both, on activations: what this library is for. `keeps`: its
/// forward pass keeps s, the tokens before H_out, for backward.
template <class T>
Adapted<T> ether_layer(MatrixView<const T> weight, const ether::AdapterConfig& config,
                       bool keeps = false) {
  using Layer = ether::EtherLinear<ether::EigenBackend<T>>;
  ether::EigenContext ctx;
  const auto adapter = ether_adapter(config, weight.rows, weight.cols);
  const auto layer = std::make_shared<Layer>(ctx, weight, adapter);
  const auto grads =
      std::make_shared<ether::Adapter<float>>(ether::Adapter<float>::zeros_like(adapter));
  // Made at its largest, so that the counts of allocations are the layer's own.
  const auto kept =
      std::make_shared<MatrixOf<float>>(random_matrix(keeps ? most_tokens : 0, weight.rows, 1));
  const auto s = [=](Index tokens) { return kept->topRows(keeps ? tokens : 0); };
  Adapted<T> result = adapted<T>(layer);
  result.forward = [=](auto& context, auto x, auto y) { layer->forward(context, x, y, s(x.rows)); };
  result.backward = [=](auto& context, auto x, auto grad_y, auto grad_x) {
    layer->backward(context, {x, grad_y, grad_x, s(x.rows)}, *grads);
  };
  result.prologue = [=](auto& context, auto x) {
    Frozen<ether::EigenBackend<T>>::pack(context, layer->prepared().reflection(ether::Side::input),
                                         x);
  };
  result.parameters = adapter.size();
  result.bytes = adapter.size() * Index(sizeof(float));
  result.flops_per_token = 4.0 * double(adapter.size());
  return result;
}

template <class T>
Adapted<T> weight_space_layer(MatrixView<const T> weight, const ether::AdapterConfig& config) {
  using Layer = WeightSpace<ether::EigenBackend<T>>;
  return baseline<T>(
      std::make_shared<Layer>(weight, ether_adapter(config, weight.rows, weight.cols)));
}

template <class T>
Adapted<T> lora_layer(MatrixView<const T> weight, Index rank) {
  struct Parameters {
    MatrixOf<float> a, b, grad_a, grad_b;
  };
  const auto p = std::make_shared<Parameters>();
  const float scale = 2 / std::sqrt(float(rank));  // of a change about as large as W itself
  p->a = p->grad_a = random_matrix(rank, weight.cols, scale);
  p->b = p->grad_b = random_matrix(rank, weight.rows, 1);
  const auto layer = std::make_shared<Lora<ether::EigenBackend<T>>>(weight, p->a, p->b, 1);
  Adapted<T> result = baseline<T>(layer);
  result.backward = [=](auto& ctx, auto x, auto grad_y, auto grad_x) {  // keeps A and B alive
    layer->backward(ctx, x, grad_y, grad_x, p->grad_a, p->grad_b);
  };
  result.prologue = [=](auto& ctx, auto x) {
    ether::EigenContext::Frame frame(ctx);
    layer->project(ctx, frame, x);
    Frozen<ether::EigenBackend<T>>::pack(ctx, ether::identity<float>(x.cols), x);
  };
  return result;
}

/// OFT and HRA: `Layer`(ctx, weight, raw) with gradients like raw.
template <class Layer, class T>
Adapted<T> transform_layer(MatrixView<const T> weight, MatrixOf<float> raw) {
  ether::EigenContext ctx;
  const auto layer = std::make_shared<Layer>(ctx, weight, raw);
  const auto grads = std::make_shared<MatrixOf<float>>(std::move(raw));
  Adapted<T> result = baseline<T>(layer);
  result.backward = [=](auto& context, auto x, auto grad_y, auto grad_x) {
    layer->backward(context, x, grad_y, grad_x, *grads);
  };
  return result;
}

enum class Family {
  ether,
  ether_plus,
  ether_plus_s_kept,
  lora,
  oft,
  hra,
  weight_space_ether,
  weight_space_ether_plus
};

/// `number`: blocks n of ETHER, ranks r, block sizes b of OFT.
struct Method {
  const char* name;
  Family family;
  Index number;
};

inline constexpr Method methods[] = {
    {"ether_n1", Family::ether, 1},
    {"ether_n4", Family::ether, 4},
    {"ether_n32", Family::ether, 32},
    {"ether_plus_n1", Family::ether_plus, 1},
    {"ether_plus_n4", Family::ether_plus, 4},
    {"ether_plus_n32", Family::ether_plus, 32},
    {"ether_plus_s_kept_n1", Family::ether_plus_s_kept, 1},
    {"ether_plus_s_kept_n32", Family::ether_plus_s_kept, 32},
    {"lora_r4", Family::lora, 4},
    {"lora_r8", Family::lora, 8},
    {"lora_r16", Family::lora, 16},
    {"lora_r64", Family::lora, 64},
    {"oft_b16", Family::oft, 16},
    {"oft_b32", Family::oft, 32},
    {"hra_r8", Family::hra, 8},
    {"weight_space_ether_n32", Family::weight_space_ether, 32},
    {"weight_space_ether_plus_n32", Family::weight_space_ether_plus, 32},
};

inline bool has_backward(Family family) {
  return family != Family::weight_space_ether && family != Family::weight_space_ether_plus;
}

/// Of the others it would be a transform of x, packed.
inline bool has_prologue(Family family) {
  return family == Family::ether || family == Family::ether_plus || family == Family::lora;
}

/// `method` on `weight`, which must outlive it.
template <class T>
Adapted<T> make_adapted(const Method& method, MatrixView<const T> weight) {
  using Backend = ether::EigenBackend<T>;
  using ether::Sides;
  using ether::Variant;
  const auto ether_input = ether_config(Variant::ether, Sides::input, method.number);
  const auto ether_plus_both = ether_config(Variant::ether_plus, Sides::both, method.number);
  switch (method.family) {
    case Family::ether:
      return ether_layer(weight, ether_input);
    case Family::ether_plus:
      return ether_layer(weight, ether_plus_both);
    case Family::ether_plus_s_kept:
      return ether_layer(weight, ether_plus_both, /*keeps=*/true);
    case Family::weight_space_ether:
      return weight_space_layer(weight, ether_input);
    case Family::weight_space_ether_plus:
      return weight_space_layer(weight, ether_plus_both);
    case Family::lora:
      return lora_layer(weight, method.number);
    case Family::oft:
      return transform_layer<Oft<Backend>>(weight, random_matrix(weight.cols, method.number, 0.3f));
    case Family::hra:
      return transform_layer<Hra<Backend>>(weight, random_matrix(method.number, weight.cols, 1));
  }
  return {};
}

}  // namespace bench
