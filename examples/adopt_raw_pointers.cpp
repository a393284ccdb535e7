/// An inference function on raw pointers adopts an adapter: two new lines around its own product.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/adopt_raw_pointers.cpp -o adopt_raw_pointers

#include <ether/ether.hpp>

#include <cstdio>

using Backend = ether::EigenBackend<float>;

// The engine's own product: x (tokens, in), w (out, in), y (tokens, out).
void multiply(const float* x, const float* w, float* y, int tokens, int in, int out) {
  for (int t = 0; t < tokens; ++t)
    for (int o = 0; o < out; ++o) {
      float sum = 0;
      for (int i = 0; i < in; ++i) sum += x[t * in + i] * w[o * in + i];
      y[t * out + o] = sum;
    }
}
// The inference function. Without its two marked lines, and with a loop that adds the bias, it is what it was
// before. x stays as it is, since q, k and v all read it; z (tokens, in) is memory for x H_in. It may run
// on any thread, and at the same time on several.
void linear(const ether::PreparedAdapter<Backend>& adapter, const float* x, const float* w,
            const float* bias, float* z, float* y, int tokens, int in, int out) {
  ether::reflect_input(adapter, {x, tokens, in}, {z, tokens, in});  // new
  multiply(z, w, y, tokens, in, out);
  ether::reflect_output(adapter, {y, tokens, out}, {y, tokens, out}, {bias});  // new
}

int main() {
  const int tokens = 5, in = 48, out = 32;
  using Floats = Eigen::VectorXf;  // any memory will do
  Floats y(tokens * out), z(tokens * in), expected(tokens * out);
  const Floats x = Floats::Random(tokens * in), w = Floats::Random(out * in),
               bias = Floats::Random(out);

  ether::AdapterConfig config;
  config.sides = ether::Sides::both;
  config.input_blocks = 4;
  const auto adapter = ether::Adapter<float>::random(config, out, in, /*seed=*/7);

  // What it must compute: the product with W' = H_out W H_in, which merge writes.
  Backend::Context ctx;
  Floats merged(out * in);
  const ether::EtherLinear<Backend> layer(ctx, {w.data(), out, in}, adapter);
  layer.merge(ctx, {merged.data(), out, in});
  multiply(x.data(), merged.data(), expected.data(), tokens, in, out);
  for (int i = 0; i < tokens * out; ++i) expected[i] += bias[i % out];

  const ether::PreparedAdapter<Backend> prepared(ctx, adapter);
  linear(prepared, x.data(), w.data(), bias.data(), z.data(), y.data(), tokens, in, out);
  const double error = static_cast<double>((y - expected).norm() / expected.norm());
  std::printf("adapter on the activations, against the merged weight: differs by %.1e\n", error);
  return error <= 1e-5 ? 0 : 1;
}
