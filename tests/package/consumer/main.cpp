// Transforms a 4x6 weight, and checks that the merged weight gives the same output.
#include <ether/ether.hpp>

#include <cmath>
#include <cstdio>

#ifdef _OPENMP
#error ether::ether compiles its users with OpenMP
#endif

#ifdef ETHER_CONSUMER_CUDA
bool use_cuda();
#endif

int main() {
#ifdef ETHER_CONSUMER_CUDA
  if (!use_cuda()) return 1;
#endif
  constexpr int tokens = 2, in = 6, out = 4;
  float weight[out * in], x[tokens * in], y[tokens * out], merged[out * in];
  for (int i = 0; i < out * in; ++i) weight[i] = std::sin(1.0f + 7.0f * static_cast<float>(i));
  for (int i = 0; i < tokens * in; ++i) x[i] = std::cos(2.0f + 5.0f * static_cast<float>(i));

  ether::AdapterConfig config;
  config.variant = ether::Variant::ether;
  config.sides = ether::Sides::both;
  config.input_blocks = 3;
  config.output_blocks = 2;
  const auto adapter = ether::Adapter<float>::random(config, out, in, /*seed=*/7);

  using Backend = ether::EigenBackend<float>;
  Backend::Context ctx;
  const ether::EtherLinear<Backend> layer(ctx, ether::MatrixView<const float>{weight, out, in},
                                          adapter, nullptr);
  layer.forward(ctx, ether::MatrixView<const float>{x, tokens, in},
                ether::MatrixView<float>{y, tokens, out});
  layer.merge(ctx, ether::MatrixView<float>{merged, out, in});

  float error = 0, change = 0;
  for (int t = 0; t < tokens; ++t) {
    for (int o = 0; o < out; ++o) {
      float frozen_y = 0, merged_y = 0;
      for (int i = 0; i < in; ++i) {
        frozen_y += x[t * in + i] * weight[o * in + i];
        merged_y += x[t * in + i] * merged[o * in + i];
      }
      error = std::fmax(error, std::fabs(merged_y - y[t * out + o]));
      change = std::fmax(change, std::fabs(merged_y - frozen_y));
    }
  }
  std::printf("forward and merged forward differ by %g, the adapter changes %g\n", error, change);
  return error <= 1e-5f && change > 0.1f ? 0 : 1;
}
