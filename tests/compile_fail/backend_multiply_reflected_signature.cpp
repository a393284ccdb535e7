// expect: ether: the backend's multiply_reflected has another signature
#include <ether/ether.hpp>

struct Backend : ether::EigenBackend<float> {
  using FusedWith = Backend;
#ifndef ETHER_COMPILE_OK
  static void multiply_reflected(Context&, ether::MatrixView<const float>, float) {}
#endif
};

void use(Backend::Context& ctx, const float* w, const ether::Adapter<float>& adapter,
         ether::MatrixView<const float> x, ether::MatrixView<float> y) {
  const ether::EtherLinear<Backend> layer(ctx, {w, 8, 4}, adapter);
  layer.forward(ctx, x, y);
}
