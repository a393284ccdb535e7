// expect: ether: the Weight lacks multiply(ctx, z, s) const
#include <ether/ether.hpp>

using Backend = ether::EigenBackend<float>;
using ether::MatrixView;

struct Weight {
  ether::Index out_features() const;
  ether::Index in_features() const;
#ifdef ETHER_COMPILE_OK
  void multiply(Backend::Context&, MatrixView<const float> z, MatrixView<float> s) const;
#endif
};

void use(Backend::Context& ctx, const Weight& weight, const ether::Adapter<float>& adapter,
         MatrixView<const float> x, MatrixView<float> y) {
  const ether::EtherLinear<Backend, Weight> layer(ctx, weight, adapter);
  layer.forward(ctx, x, y);
}
