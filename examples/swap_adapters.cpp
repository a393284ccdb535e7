/// Two adapters on one frozen layer, swapped at run time. The weight is never written.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/swap_adapters.cpp -o swap_adapters

#include <ether/ether.hpp>

#include <cstdio>

using Backend = ether::EigenBackend<float>;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  const ether::Index tokens = 5, out = 32, in = 48;
  const Matrix weight = Matrix::Random(out, in), bias = Matrix::Random(1, out);
  const Matrix x = Matrix::Random(tokens, in);

  ether::AdapterConfig config;
  config.input_blocks = 4;
  const auto french = ether::Adapter<float>::random(config, out, in, /*seed=*/1);
  const auto german = ether::Adapter<float>::random(config, out, in, /*seed=*/2);
  config.strength = 0;
  const auto off = ether::Adapter<float>::random(config, out, in, /*seed=*/1);

  Backend::Context ctx;
  ether::EtherLinear<Backend> layer(ctx, weight, french, bias.data());
  const auto forward_with = [&](const ether::Adapter<float>& adapter) {
    layer.set_adapter(ctx, adapter);  // costs O(in + out), allocates nothing
    Matrix y(tokens, out);
    layer.forward(ctx, x, y);
    return y;
  };

  const Matrix y_french = forward_with(french);
  const Matrix y_german = forward_with(german);
  const Matrix y_french_again = forward_with(french);
  const Matrix y_off = forward_with(off);
  const Matrix y_frozen = (x * weight.transpose()).rowwise() + bias.row(0);

  const double swapped = static_cast<double>((y_german - y_french).norm() / y_frozen.norm());
  const double off_error = static_cast<double>((y_off - y_frozen).norm() / y_frozen.norm());
  const bool same_again = y_french_again == y_french;
  std::printf("swapping changes the output by %.0f %%; swapping back restores %s\n", 100 * swapped,
              same_again ? "every bit" : "something else");
  std::printf("strength 0 against the frozen layer: differs by %.1e\n", off_error);
  return swapped > 0.1 && same_again && off_error <= 1e-5 ? 0 : 1;
}
