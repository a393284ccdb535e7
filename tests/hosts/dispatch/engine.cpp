// What an engine compiles once for each instruction set that it runs on, all into one program. ETHER_ENGINE
// is the function's name.

#include <ether/ether.hpp>

#include <cmath>
#include <cstring>
#include <vector>

/// All that the library does on the CPU, at small sizes: the sum of the absolute values of what came out, 0 where an error says
/// something else than it should.
double ETHER_ENGINE() {
  using T = Eigen::bfloat16;  // computed with in float
  using Backend = ether::EigenBackend<T>;
  const ether::Index tokens = 9, out = 24, in = 40;
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  config.input_blocks = config.output_blocks = 4;
  const auto adapter = ether::Adapter<float>::random(config, out, in, 7);
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  std::vector<T> w(out * in, T(0.25f)), x(tokens * in, T(0.5f)), y(tokens * out), z(x.size());
  Backend::Context ctx(1);
  ether::EtherLinear<Backend> layer(ctx, {w.data(), out, in}, adapter);
  layer.forward(ctx, {x.data(), tokens, in}, {y.data(), tokens, out});
  layer.backward(ctx, {x.data(), tokens, in}, {y.data(), tokens, out}, {z.data(), tokens, in},
                 grads);
  ether::reflect_input(ctx, layer.prepared(), {x.data(), tokens, in}, {x.data(), tokens, in});
  ether::reflect_output(ctx, layer.prepared(), {y.data(), tokens, out}, {y.data(), tokens, out});
  const ether::PreparedAdapter<Backend> reordered(
      ctx, out, in, {{adapter, 0, ether::interleaved_row_order(2, 12)}});
  ether::reflect_output(ctx, reordered, {y.data(), tokens, out}, {y.data(), tokens, out});
  layer.merge(ctx, {w.data(), out, in});
  double sum = 0;
  for (const auto* values : {&w, &x, &y, &z})
    for (const T value : *values) sum += std::fabs(static_cast<double>(value));
  for (ether::Index i = 0; i < grads.size(); ++i)
    sum += std::fabs(static_cast<double>(grads.data()[i]));
  try {
    layer.unmerge(ctx, {w.data(), out, in + 1});
  } catch (const ether::shape_error& e) {
    if (std::strstr(e.what(), "merged is (24, 41)") != nullptr) return sum;
  }
  return 0;
}
