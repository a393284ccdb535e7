// The least that a host does: a layer's forward and merge, and the row operation, in float.
// The tests compile it in every way that hosts do.

#include <ether/ether.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  using T = float;
  using Backend = ether::EigenBackend<T>;
  const ether::Index tokens = 9, out = 24, in = 40;
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  config.input_blocks = 5;
  config.output_blocks = 3;
  auto adapter = ether::Adapter<float>::random(config, out, in, 7);  // at the identity
  for (ether::Index i = 0; i < adapter.size(); ++i)
    adapter.data()[i] += static_cast<float>(i % 5) * 0.1f;
  std::vector<T> w(static_cast<std::size_t>(out * in)), x(static_cast<std::size_t>(tokens * in)),
      y(static_cast<std::size_t>(tokens * out)), z(x.size()), merged(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = T(static_cast<float>(i * 7 % 11) - 5);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = T(static_cast<float>(i * 3 % 7) - 3);

  Backend::Context ctx(1);
  const ether::EtherLinear<Backend> layer(ctx, {w.data(), out, in}, adapter);
  layer.forward(ctx, {x.data(), tokens, in}, {y.data(), tokens, out});
  layer.merge(ctx, {merged.data(), out, in});
  ether::reflect_input(layer.prepared(), {x.data(), tokens, in}, {z.data(), tokens, in});
  double error = 0, norm = 0;
  std::vector<T> s(y.size());
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t o = 0; o < out; ++o) {
      double by_merged = 0, before = 0;
      for (std::size_t i = 0; i < in; ++i) {
        by_merged += static_cast<double>(x[t * in + i]) * static_cast<double>(merged[o * in + i]);
        before += static_cast<double>(z[t * in + i]) * static_cast<double>(w[o * in + i]);
      }
      const double by_layer = static_cast<double>(y[t * out + o]);
      error += (by_merged - by_layer) * (by_merged - by_layer);
      norm += by_layer * by_layer;
      s[t * out + o] = static_cast<T>(static_cast<float>(before));
    }
  ether::reflect_output(layer.prepared(), {s.data(), tokens, out}, {s.data(), tokens, out});
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double difference = static_cast<double>(s[i]) - static_cast<double>(y[i]);
    error += difference * difference;
  }
  const double distance = std::sqrt(error / norm);
  const bool right = distance <= 1e-5;  // some roundings, on norms a few times those of the result
  std::printf("differs by %.1e\n", distance);
  return right ? 0 : 1;
}
