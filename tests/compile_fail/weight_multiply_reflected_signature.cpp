// expect: ether: the Weight has an optional member with another signature than multiply_reflected
#include <ether/ether.hpp>

using Backend = ether::EigenBackend<float>;
using ether::MatrixView;

struct Weight {
  ether::Index out_features() const;
  ether::Index in_features() const;
  void multiply(Backend::Context&, MatrixView<const float> z, MatrixView<float> s) const;
#ifndef ETHER_COMPILE_OK
  void multiply_reflected(Backend::Context&, MatrixView<const float>, MatrixView<float>) const;
#endif
};

void use(Backend::Context& ctx, const Weight& weight, const ether::Adapter<float>& adapter,
         MatrixView<const float> x, MatrixView<float> y) {
  const ether::EtherLinear<Backend, Weight> layer(ctx, weight, adapter);
  layer.forward(ctx, x, y);
}
