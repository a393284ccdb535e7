// expect: ether: the backend lacks Context::Frame with matrix<T>(rows, cols)
#include <ether/ether.hpp>

struct Backend : ether::EigenBackend<float> {
  using FusedWith = void;
  struct Context : ether::EigenContext {
    struct Frame : ether::EigenContext::Frame {
      using ether::EigenContext::Frame::Frame;
#ifndef ETHER_COMPILE_OK
      void matrix() = delete;  // hides the one inherited
#endif
    };
  };
};

void use(Backend::Context& ctx, const float* w, const ether::Adapter<float>& adapter,
         ether::MatrixView<const float> x, ether::MatrixView<float> y) {
  const ether::EtherLinear<Backend> layer(ctx, {w, 8, 4}, adapter);
  layer.forward(ctx, x, y);
}
