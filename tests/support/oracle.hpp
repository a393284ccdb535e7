#pragma once

/// The paper's formulas with every H built as a dense matrix in double. Shares no computation with
/// the library; slow on purpose.

#include "compare.hpp"

#include <ether/adapter.hpp>

#include <Eigen/Dense>

#include <vector>

namespace test {

using ether::AdapterConfig;
using ether::BlockLayout;
using ether::Side;

inline Matrix absolute(const Matrix& m) { return m.cwiseAbs(); }

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
  Matrix block(const Matrix& raw, Index blocks, Index k) const {
    const Index size = raw.cols() / blocks;
    Matrix h = Matrix::Identity(size, size);
    for (Index t = 0; t < raw.rows(); ++t) {
      const Eigen::RowVectorXd w = raw.block(t, k * size, 1, size).normalized();
      h += coefficient(config, t) * w.transpose() * w;
    }
    return h;
  }

  Index in() const { return weight.cols(); }
  Index out() const { return weight.rows(); }
  Index input_blocks() const { return input.rows() == 0 ? 1 : config.input_blocks; }

  /// Which H transforms chunk c of output row o (the authors' reshape of the row-major weight).
  Index block_of(Index o, Index c) const {
    if (config.layout == BlockLayout::diagonal) return c;
    return (o * config.input_blocks + c) / out();
  }

  Matrix h_out() const {
    Matrix h = Matrix::Identity(out(), out());
    if (output.rows() == 0) return h;
    const Index size = out() / config.output_blocks;
    for (Index k = 0; k < config.output_blocks; ++k)
      h.block(k * size, k * size, size, size) = block(output, config.output_blocks, k);
    return h;
  }

  /// W H_in, row by row and chunk by chunk.
  Matrix weight_in() const {
    if (input.rows() == 0) return weight;
    const Index n = config.input_blocks, size = in() / n;
    std::vector<Matrix> h;
    for (Index k = 0; k < n; ++k) h.push_back(block(input, n, k));
    Matrix result(out(), in());
    for (Index o = 0; o < out(); ++o)
      for (Index c = 0; c < n; ++c)
        result.block(o, c * size, 1, size) =
            weight.block(o, c * size, 1, size) * h[static_cast<std::size_t>(block_of(o, c))];
    return result;
  }

  Matrix merged() const { return h_out() * weight_in(); }

  Matrix forward(const Matrix& x, const Matrix& bias) const {
    Matrix y = x * merged().transpose();
    if (bias.size() != 0) y.rowwise() += bias.row(0);
    return y;
  }

  Matrix grad_x(const Matrix& grad_y) const { return grad_y * merged(); }

  /// dL/dw through ŵ = w/|w| for one vector whose block has dL/dH = d.
  static Eigen::RowVectorXd through_norm(const Matrix& d, const Eigen::RowVectorXd& raw, double c) {
    const double length = raw.norm();
    const Eigen::RowVectorXd unit = raw / length;
    const Eigen::RowVectorXd g = c * unit * (d + d.transpose());
    return (g - g.dot(unit) * unit) / length;
  }

  /// Gradients of the raw input vectors, from dL/dH_k = sum of W_chunk^T (H_out^T dL/dW')_chunk.
  Matrix grad_input(const Matrix& x, const Matrix& grad_y) const {
    Matrix grads = Matrix::Zero(input.rows(), input.cols());
    const Index n = input_blocks(), size = in() / n;
    const Matrix d_weight_in = h_out().transpose() * (grad_y.transpose() * x);
    for (Index k = 0; k < n && input.rows() != 0; ++k) {
      Matrix d = Matrix::Zero(size, size);
      for (Index o = 0; o < out(); ++o)
        for (Index c = 0; c < n; ++c)
          if (block_of(o, c) == k)
            d += weight.block(o, c * size, 1, size).transpose() *
                 d_weight_in.block(o, c * size, 1, size);
      for (Index t = 0; t < input.rows(); ++t)
        grads.block(t, k * size, 1, size) =
            through_norm(d, input.block(t, k * size, 1, size), coefficient(config, t));
    }
    return grads;
  }

  /// Gradients of the raw output vectors, from dL/dH_out = dL/dW' (W H_in)^T.
  Matrix grad_output(const Matrix& x, const Matrix& grad_y) const {
    Matrix grads = Matrix::Zero(output.rows(), output.cols());
    if (output.rows() == 0) return grads;
    const Matrix d = (grad_y.transpose() * x) * weight_in().transpose();
    const Index size = out() / config.output_blocks;
    for (Index k = 0; k < config.output_blocks; ++k)
      for (Index t = 0; t < output.rows(); ++t)
        grads.block(t, k * size, 1, size) =
            through_norm(d.block(k * size, k * size, size, size),
                         output.block(t, k * size, 1, size), coefficient(config, t));
    return grads;
  }

  /// Bound of |H|_2 of either side: 1 + 2|s| for both variants.
  double h_norm() const { return 1 + 2 * std::abs(config.strength); }
};

}  // namespace test
