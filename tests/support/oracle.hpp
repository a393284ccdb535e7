#pragma once

/// The paper's formulas with every H built as a dense matrix in double. Shares no computation with
/// the library; slow on purpose.

#include "compare.hpp"

#include <ether/adapter.hpp>

#include <Eigen/Dense>

namespace test {

using ether::AdapterConfig;
using ether::BlockLayout;
using ether::Side;

inline Matrix absolute(const Matrix& m) { return m.cwiseAbs(); }

/// a b, and x w^T + bias, where a bias of no elements is none.
Matrix product(const Matrix& a, const Matrix& b);
Matrix linear(const Matrix& x, const Matrix& w, const Matrix& bias);

/// One layer's exact results. Vectors are (terms, width), as ether::Adapter::parameters gives them.
struct Oracle {
  AdapterConfig config;
  Matrix weight;         // (out, in)
  Matrix input, output;  // raw vectors; 0 rows for a side not adapted

  template <class P>
  Oracle(const ether::Adapter<P>& adapter, const Matrix& weight_)
      : config(adapter.config()),
        weight(weight_),
        input(to_double(adapter.parameters(Side::input))),
        output(to_double(adapter.parameters(Side::output))) {}

  static double coefficient(const AdapterConfig& c, Index term) {
    if (c.variant == ether::Variant::ether) return -2 * c.strength;
    return term == 0 ? -c.strength : c.strength;
  }

  /// H_k of block k: I + sum c ŵ ŵ^T, (size, size).
  Matrix block(const Matrix& raw, Index blocks, Index k) const;

  Index in() const { return weight.cols(); }
  Index out() const { return weight.rows(); }
  Index input_blocks() const { return input.rows() == 0 ? 1 : config.input_blocks; }

  /// Which H transforms chunk c of output row o (the authors' reshape of the row-major weight).
  Index block_of(Index o, Index c) const {
    if (config.layout == BlockLayout::diagonal) return c;
    return (o * config.input_blocks + c) / out();
  }

  /// H_in as output row o meets it, and H_out.
  Matrix h_in(Index o) const;
  Matrix h_out() const;
  /// W H_in, row by row and chunk by chunk.
  Matrix weight_in() const;
  Matrix merged() const { return product(h_out(), weight_in()); }

  Matrix forward(const Matrix& x, const Matrix& bias) const { return linear(x, merged(), bias); }
  Matrix grad_x(const Matrix& grad_y) const { return product(grad_y, merged()); }

  /// Gradients of the raw vectors of a side.
  Matrix grad_input(const Matrix& x, const Matrix& grad_y) const;
  Matrix grad_output(const Matrix& x, const Matrix& grad_y) const;
  Matrix grad(Side side, const Matrix& x, const Matrix& grad_y) const {
    return side == Side::input ? grad_input(x, grad_y) : grad_output(x, grad_y);
  }

  /// What bounds the errors of these gradients. Behind them are sums over tokens of
  /// (ŵ.t) r + (ŵ.r) t, at most 2 |t_b| |r_b| for each block, then divided by the vector's length.
  struct GradMagnitude {
    double sums;    // where errors add up over the tokens
    double tokens;  // where those of each token are independent
  };
  GradMagnitude grad_magnitude(Side side, const Matrix& x, const Matrix& grad_y) const;

  /// Bound of |H|_2 of either side: 1 + 2|s| for both variants.
  double h_norm() const { return 1 + 2 * std::abs(config.strength); }
};

}  // namespace test
