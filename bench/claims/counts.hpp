#pragma once

/// Parameters and FLOPs of adapters on layers of given shapes, as the library and the baselines
/// count them. A multiply-add is 2 FLOPs.

#include <ether/ether.hpp>

#include "../baselines/lora.hpp"
#include "../baselines/oft.hpp"
#include "../baselines/weight_space.hpp"
#include "models.hpp"

#include <memory>

namespace claims {

using Backend = ether::EigenBackend<float>;

/// Memory of the shape of a weight, for objects that only tell their size. Its pages are never
/// touched, so that they take no memory.
class ShapeOnly {
 public:
  explicit ShapeOnly(const Shape& shape)
      : memory_(new float[static_cast<std::size_t>(shape.out * shape.in)]),
        view_{memory_.get(), shape.out, shape.in} {}
  ether::MatrixView<const float> view() const { return view_; }

 private:
  std::unique_ptr<float[]> memory_;
  ether::MatrixView<const float> view_;
};

/// What an adapter costs on one layer.
struct Cost {
  double parameters = 0;
  double flops_per_token = 0;  ///< forward, on activations, beside the frozen product
};

inline ether::Adapter<float> adapter_for(const Shape& shape, ether::Variant variant,
                                         ether::Sides sides, Index blocks) {
  ether::AdapterConfig config;
  config.variant = variant, config.sides = sides;
  config.input_blocks = config.output_blocks = blocks;
  return ether::Adapter<float>(config, shape.out, shape.in);
}

/// Each vector of a side costs a dot product and an update: 4 FLOPs for each column.
inline Cost ether_cost(const ether::Adapter<float>& adapter) {
  double flops = 0;
  for (ether::Side side : {ether::Side::input, ether::Side::output})
    flops += 4.0 * static_cast<double>(adapter.terms(side) * adapter.width(side));
  return {static_cast<double>(adapter.size()), flops};
}

/// ETHER and ETHER+ as the paper counts them, on one side and on both; the number of blocks is of no
/// consequence.
inline Cost paper_cost(const Shape& shape, ether::Variant variant) {
  const bool plus = variant == ether::Variant::ether_plus;
  const auto sides = plus ? ether::Sides::both : ether::Sides::input;
  return ether_cost(adapter_for(shape, variant, sides, /*blocks=*/1));
}

inline Cost lora_cost(const Shape& shape, Index rank) {
  const std::vector<float> a(static_cast<std::size_t>(rank * shape.in));
  const std::vector<float> b(static_cast<std::size_t>(rank * shape.out));
  const ShapeOnly weight(shape);
  const bench::Lora<Backend> layer(weight.view(), {a.data(), rank, shape.in},
                                   {b.data(), rank, shape.out}, /*scale=*/1);
  return {static_cast<double>(layer.parameters()), layer.flops_per_token()};
}

inline Cost oft_cost(const Shape& shape, Index blocks) {
  Backend::Context ctx(/*threads=*/1);
  const Index size = shape.in / blocks;
  const std::vector<float> r(static_cast<std::size_t>(shape.in * size));
  const ShapeOnly weight(shape);
  const bench::Oft<Backend> layer(ctx, weight.view(), {r.data(), shape.in, size});
  return {static_cast<double>(layer.parameters()), layer.flops_per_token()};
}

/// VeRA (arXiv 2310.11454), by formula: vectors of r and of out elements are trained; A (r, in) and
/// B (out, r), frozen and shared by all layers, are applied as LoRA's.
inline Cost vera_cost(const Shape& shape, Index rank) {
  return {static_cast<double>(rank + shape.out),
          lora_cost(shape, rank).flops_per_token + static_cast<double>(rank + shape.out)};
}

/// FLOPs of multiplying W (out, in) by the blocks of one side: H_out W or W H_in.
inline double weight_space_product(const Shape& shape, ether::Sides side, Index blocks) {
  const ShapeOnly weight(shape);
  const auto adapter = adapter_for(shape, ether::Variant::ether, side, blocks);
  return bench::WeightSpace<Backend>(weight.view(), adapter).flops_per_forward();
}

}  // namespace claims
