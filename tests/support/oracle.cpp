#include "oracle.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace test {
namespace {

/// dL/dw through ŵ = w/|w| for one vector whose block has dL/dH = d.
Eigen::RowVectorXd through_norm(const Matrix& d, const Eigen::RowVectorXd& raw, double c) {
  const double length = raw.norm();
  const Eigen::RowVectorXd unit = raw / length;
  const Eigen::RowVectorXd g = c * unit * (d + d.transpose());
  return (g - g.dot(unit) * unit) / length;
}

}  // namespace

Matrix product(const Matrix& a, const Matrix& b) { return a * b; }

Matrix linear(const Matrix& x, const Matrix& w, const Matrix& bias) {
  Matrix y = x * w.transpose();
  if (bias.size() != 0) y.rowwise() += bias.row(0);
  return y;
}

Matrix Oracle::block(const Matrix& raw, Index blocks, Index k) const {
  const Index size = raw.cols() / blocks;
  Matrix h = Matrix::Identity(size, size);
  for (Index t = 0; t < raw.rows(); ++t) {
    const Eigen::RowVectorXd w = raw.block(t, k * size, 1, size).normalized();
    h += coefficient(config, t) * w.transpose() * w;
  }
  return h;
}

Matrix Oracle::h_in(Index o) const {
  Matrix h = Matrix::Identity(in(), in());
  if (input.rows() == 0) return h;
  const Index n = config.input_blocks, size = in() / n;
  for (Index c = 0; c < n; ++c)
    h.block(c * size, c * size, size, size) = block(input, n, block_of(o, c));
  return h;
}

Matrix Oracle::h_out() const {
  Matrix h = Matrix::Identity(out(), out());
  if (output.rows() == 0) return h;
  const Index size = out() / config.output_blocks;
  for (Index k = 0; k < config.output_blocks; ++k)
    h.block(k * size, k * size, size, size) = block(output, config.output_blocks, k);
  return h;
}

Matrix Oracle::weight_in() const {
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

/// From dL/dH_k = sum of W_chunk^T (H_out^T dL/dW')_chunk.
Matrix Oracle::grad_input(const Matrix& x, const Matrix& grad_y) const {
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

Matrix Oracle::grad_output(const Matrix& x, const Matrix& grad_y) const {
  Matrix grads = Matrix::Zero(output.rows(), output.cols());
  if (output.rows() == 0) return grads;
  const Matrix d = (grad_y.transpose() * x) * weight_in().transpose();
  const Index size = out() / config.output_blocks;
  for (Index k = 0; k < config.output_blocks; ++k)
    for (Index t = 0; t < output.rows(); ++t)
      grads.block(t, k * size, 1, size) =
          through_norm(d.block(k * size, k * size, size, size), output.block(t, k * size, 1, size),
                       coefficient(config, t));
  return grads;
}

Oracle::GradMagnitude Oracle::grad_magnitude(Side side, const Matrix& x,
                                             const Matrix& grad_y) const {
  const Matrix& raw = side == Side::input ? input : output;
  const Matrix t = side == Side::input ? x : product(x, weight_in().transpose());
  const Matrix r = side == Side::input ? product(grad_y, product(h_out(), weight)) : grad_y;
  const Index blocks = side == Side::input ? config.input_blocks : config.output_blocks;
  const Index size = raw.cols() / blocks;
  double squares = 0, of_tokens = 0, shortest = raw.norm();
  for (Index b = 0; b < blocks; ++b) {
    const double norms = t.middleCols(b * size, size).norm() * r.middleCols(b * size, size).norm();
    squares += norms * norms;
    for (Index token = 0; token < t.rows(); ++token)
      of_tokens += t.block(token, b * size, 1, size).squaredNorm() *
                   r.block(token, b * size, 1, size).squaredNorm();
    for (Index k = 0; k < raw.rows(); ++k)
      shortest = std::min(shortest, raw.block(k, b * size, 1, size).norm());
  }
  const double scale = h_norm() * 4 * std::abs(config.strength) / shortest;
  return {scale * std::sqrt(squares), scale * std::sqrt(of_tokens)};
}

}  // namespace test
