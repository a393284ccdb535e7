// expect: needs a row-major matrix of T
#include <ether/ether.hpp>

using Backend = ether::EigenBackend<float>;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
#ifdef ETHER_COMPILE_OK
using Y = Matrix;
#else
using Y = const Matrix;
#endif

void use(Backend::Context& ctx, const ether::EtherLinear<Backend>& layer, const Matrix& x, Y& y) {
  layer.forward(ctx, x, y);
}
