// expect: needs a row-major matrix of T
#include <ether/ether.hpp>

using Backend = ether::EigenBackend<float>;
#ifdef ETHER_COMPILE_OK
constexpr int order = Eigen::RowMajor;
#else
constexpr int order = Eigen::ColMajor;  // Eigen's default
#endif
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, order>;

void use(Backend::Context& ctx, const ether::EtherLinear<Backend>& layer, const Matrix& x,
         ether::MatrixView<float> y) {
  layer.forward(ctx, x, y);
}
