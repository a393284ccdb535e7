// expect: ether: the backend lacks static constexpr const char* name
#include <ether/ether.hpp>

struct Backend : ether::EigenBackend<float> {
  using FusedWith = void;
#ifndef ETHER_COMPILE_OK
  static void name() = delete;  // hides the one inherited
#endif
};

void use(Backend::Context& ctx, const float* w, const ether::Adapter<float>& adapter,
         ether::MatrixView<const float> x, ether::MatrixView<float> y) {
  const ether::EtherLinear<Backend> layer(ctx, {w, 8, 4}, adapter);
  layer.forward(ctx, x, y);
}
