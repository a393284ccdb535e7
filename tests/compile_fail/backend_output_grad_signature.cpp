// expect: ether: the backend's output_grad has another signature than bool output_grad
#include <ether/ether.hpp>

struct Backend : ether::EigenBackend<float> {
  using FusedWith = Backend;
#ifndef ETHER_COMPILE_OK
  static void output_grad(Context&, int) {}
#endif
};

void use(Backend::Context& ctx, const float* w, const ether::Adapter<float>& adapter,
         ether::MatrixView<const float> x, ether::MatrixView<float> y) {
  const ether::EtherLinear<Backend> layer(ctx, {w, 8, 4}, adapter);
  layer.forward(ctx, x, y);
}
