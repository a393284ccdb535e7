/// A bfloat16 layer with oneDNN's products, on a weight that is reordered once.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/onednn_packed.cpp -o onednn_packed -ldnnl

#include <ether/ether.hpp>

#include <ether/backends/onednn.hpp>

#include <cstdio>

using Scalar = Eigen::bfloat16;
using Backend = ether::OneDnnBackend<Scalar>;  // EigenBackend<Scalar> is the other word
using Packed = ether::PackedWeight<Backend>;
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  const ether::Index tokens = 16, out = 1024, in = 1024;
  const Matrix x = Eigen::MatrixXf::Random(tokens, in).cast<Scalar>();
  Matrix weight = Eigen::MatrixXf::Random(out, in).cast<Scalar>();

  ether::AdapterConfig config;
  config.input_blocks = 32;
  const auto adapter = ether::Adapter<float>::random(config, out, in, /*seed=*/7);

  Backend::Context ctx;
  if (!Backend::is_accelerated()) {
    std::puts("oneDNN has no fast bfloat16 product on this processor");
    return 77;
  }
  const ether::EtherLinear<Backend, Packed> layer(ctx, Packed(ctx, weight), adapter);
  Matrix y(tokens, out), merged(out, in);
  layer.forward(ctx, x, y);
  layer.merge(ctx, merged);

  // The same through W'.
  const Eigen::MatrixXf expected = x.cast<float>() * merged.cast<float>().transpose();
  const float error = (y.cast<float>() - expected).norm() / expected.norm();
  std::printf("y and x W'^T differ by %.4f of their norm\n", static_cast<double>(error));
  return error < 0.01f ? 0 : 1;
}
