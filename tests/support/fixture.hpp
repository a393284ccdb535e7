#pragma once

/// The cases that the conformance suite goes through, and a layer for each with its oracle.

#include "catch.hpp"
#include "oracle.hpp"
#include "random.hpp"

#include <ether/ether.hpp>

#include <functional>
#include <sstream>

namespace test {

using ether::Adapter;
using ether::Sides;
using ether::Variant;

struct Case {
  AdapterConfig config;
  Index out, in, tokens, pad;
};

inline std::string describe(const Case& c) {
  const AdapterConfig& a = c.config;
  std::ostringstream s;
  s << to_string(a.variant) << ", sides " << to_string(a.sides) << ", " << to_string(a.layout)
    << ", blocks " << a.input_blocks << "/" << a.output_blocks << ", strength " << a.strength
    << ", weight (" << c.out << ", " << c.in << "), tokens " << c.tokens << ", pad " << c.pad;
  return s.str();
}

/// Variants x sides x shapes: ragged sizes, one block and blocks of one element, token counts on
/// every side of a backend's thresholds, rows further apart than they are long.
inline void for_each_case(const std::function<void(const Case&)>& body) {
  struct Shape {
    Index out, in, input_blocks, output_blocks, tokens, pad;
    double strength;
  };
  const Shape shapes[] = {
      {7, 5, 1, 1, 1, 0, 1},      {24, 40, 5, 3, 3, 1, 1},      {57, 92, 4, 19, 17, 3, 0.75},
      {40, 24, 24, 40, 6, 2, 1},  {129, 66, 2, 3, 70, 5, 1},    {33, 130, 10, 1, 130, 7, -0.5},
      {300, 258, 6, 4, 29, 0, 1}, {96, 64, 1, 2, 300, 4, 1.25}, {1, 48, 3, 1, 2, 0, 1},
  };
  for (Variant variant : {Variant::ether, Variant::ether_plus})
    for (Sides sides : {Sides::input, Sides::output, Sides::both})
      for (BlockLayout layout : {BlockLayout::diagonal, BlockLayout::row_chunk})
        for (const Shape& s : shapes) {
          if (layout == BlockLayout::row_chunk && sides == Sides::output) continue;
          Case c{{}, s.out, s.in, s.tokens, s.pad};
          c.config.variant = variant;
          c.config.sides = sides;
          c.config.layout = layout;
          c.config.input_blocks = s.input_blocks;
          c.config.output_blocks = s.output_blocks;
          c.config.strength = s.strength;
          INFO(describe(c));
          body(c);
        }
}

/// A layer in backend memory and the same layer in double.
template <class Backend>
struct Fixture {
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;

  explicit Fixture(typename Backend::Context& ctx, const Case& c)
      : adapter(random_adapter<P>(c.config, c.out, c.in, 1)),
        host_weight(random_matrix<Scalar>(c.out, c.in, 2)),
        host_bias(random_matrix<Scalar>(1, c.out, 3)),
        host_x(random_matrix<Scalar>(c.tokens, c.in, 4)),
        host_grad_y(random_matrix<Scalar>(c.tokens, c.out, 5)),
        weight(ctx, host_weight, c.pad),
        bias(ctx, host_bias, 0),
        x(ctx, host_x, c.pad),
        grad_y(ctx, host_grad_y, c.pad),
        oracle(adapter, to_double(host_weight)),
        layer(ctx, weight.const_view(), adapter, bias.view().data) {}

  /// |H|^2-weighted norm of the weight with all products by absolute value; roundings of a product
  /// followed by two transforms.
  double weight_magnitude() const {
    return oracle.h_norm() * oracle.h_norm() * oracle.weight.norm();
  }
  Index roundings() const { return 2 * (oracle.in() + oracle.out()) + 20; }

  Adapter<P> adapter;
  MatrixOf<Scalar> host_weight, host_bias, host_x, host_grad_y;
  DeviceMatrix<Backend, Scalar> weight, bias, x, grad_y;
  Oracle oracle;
  ether::EtherLinear<Backend> layer;
};

}  // namespace test
