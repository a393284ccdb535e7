// expect: ether: backward needs a Weight with multiply_transposed(ctx, grad_s, grad_z) const
#include <ether/ether.hpp>

using Backend = ether::EigenBackend<float>;
using ether::MatrixView;

struct Weight {
  ether::Index out_features() const;
  ether::Index in_features() const;
  void multiply(Backend::Context&, MatrixView<const float> z, MatrixView<float> s) const;
#ifdef ETHER_COMPILE_OK
  void multiply_transposed(Backend::Context&, MatrixView<const float> grad_s,
                           MatrixView<float> grad_z) const;
#endif
};

void use(Backend::Context& ctx, const Weight& weight, const ether::Adapter<float>& adapter,
         MatrixView<const float> x, MatrixView<const float> grad_y, MatrixView<float> grad_x) {
  const ether::EtherLinear<Backend, Weight> layer(ctx, weight, adapter);
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  layer.backward(ctx, x, grad_y, grad_x, grads);
}
