// expect: ether: the backend has, perhaps from one that it derives from, multiply_reflected
#include <ether/ether.hpp>

struct Backend
    : ether::EigenBackend<float> {  // inherits a fused product that is not with this gemm
  static void gemm(Context& ctx, ether::MatrixView<const float> a, ether::MatrixView<const float> b,
                   bool transpose_b, ether::MatrixView<float> c, bool accumulate);
#ifdef ETHER_COMPILE_OK
  using FusedWith = void;
#endif
};

void use(Backend::Context& ctx, const float* w, const ether::Adapter<float>& adapter,
         ether::MatrixView<const float> x, ether::MatrixView<float> y) {
  const ether::EtherLinear<Backend> layer(ctx, {w, 8, 4}, adapter);
  layer.forward(ctx, x, y);
}
