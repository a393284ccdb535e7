/// Your own quantised product under an adapter: an int8 weight with one scale per output row.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/int8_weight.cpp -o int8_weight

#include <ether/ether.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>

using Backend = ether::EigenBackend<float>;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// W(o, i) = scale(o) * quantised(o, i). A handle; the memory is the engine's.
struct Int8Weight {
  ether::MatrixView<const std::int8_t> quantised;  // (out, in)
  const float* scale;                              // (out)

  ether::Index out_features() const { return quantised.rows; }
  ether::Index in_features() const { return quantised.cols; }

  /// s (tokens, out) = z (tokens, in) W^T.
  void multiply(Backend::Context&, ether::MatrixView<const float> z,
                ether::MatrixView<float> s) const {
    for (ether::Index t = 0; t < s.rows; ++t)
      for (ether::Index o = 0; o < s.cols; ++o) {
        float sum = 0;
        for (ether::Index i = 0; i < z.cols; ++i) sum += z(t, i) * quantised(o, i);
        s(t, o) = scale[o] * sum;
      }
  }
  /// grad_z (tokens, in) = grad_s (tokens, out) W. Only training needs it.
  void multiply_transposed(Backend::Context&, ether::MatrixView<const float> grad_s,
                           ether::MatrixView<float> grad_z) const {
    for (ether::Index t = 0; t < grad_z.rows; ++t) {
      std::fill_n(grad_z.row(t), grad_z.cols, 0.0f);
      for (ether::Index o = 0; o < grad_s.cols; ++o)
        for (ether::Index i = 0; i < grad_z.cols; ++i)
          grad_z(t, i) += grad_s(t, o) * scale[o] * quantised(o, i);
    }
  }
};

int main() {
  const ether::Index tokens = 5, out = 32, in = 48;
  const Matrix<float> x = Matrix<float>::Random(tokens, in), w = Matrix<float>::Random(out, in);
  const Eigen::VectorXf scale = w.rowwise().lpNorm<Eigen::Infinity>() / 127;
  const Matrix<std::int8_t> quantised =
      (scale.cwiseInverse().asDiagonal() * w).array().round().cast<std::int8_t>();
  const Matrix<float> dequantised = scale.asDiagonal() * quantised.cast<float>();

  Backend::Context ctx;
  const auto adapter = ether::Adapter<float>::random(ether::AdapterConfig{}, out, in, /*seed=*/7);
  const ether::EtherLinear<Backend, Int8Weight> layer(ctx, {quantised, scale.data()}, adapter);
  const ether::EtherLinear<Backend> dense(ctx, dequantised, adapter);

  auto grads = ether::Adapter<float>::zeros_like(adapter);
  Matrix<float> y(tokens, out), dense_y(tokens, out), grad_x(tokens, in), dense_grad_x(tokens, in);
  layer.forward(ctx, x, y);
  dense.forward(ctx, x, dense_y);
  layer.backward(ctx, x, /*grad_y=*/y, grad_x, grads);
  dense.backward(ctx, x, /*grad_y=*/y, dense_grad_x, grads);
  const double y_error = static_cast<double>((y - dense_y).norm() / y.norm());
  const double grad_error = static_cast<double>((grad_x - dense_grad_x).norm() / grad_x.norm());
  std::printf("int8 against dequantised: y differs by %.1e, grad_x by %.1e\n", y_error, grad_error);
  return y_error <= 1e-5 && grad_error <= 1e-5 ? 0 : 1;
}
