/// A program of nvcc's that includes the kernels and links no library of this project's.
#include <ether/ether.hpp>

#include <ether/backends/cuda.hpp>
#include <ether/backends/cuda/kernels.cuh>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  using Backend = ether::CudaBackend<float>;
  constexpr ether::Index in = 8, out = 4;
  ether::CudaContext ctx;
  const std::vector<float> ones(in * out, 1);
  Backend::Buffer<float> w(ctx, out, in), x(ctx, 1, in), y(ctx, 1, out);
  Backend::copy_in(ctx, ether::MatrixView<const float>(ones.data(), out, in), w.view());
  Backend::copy_in(ctx, ether::MatrixView<const float>(ones.data(), 1, in), x.view());
  ether::Adapter<float> adapter(ether::AdapterConfig{}, out, in);
  adapter.input_u()(0, 0) = 1;  // H flips the first element: y = 8 - 2
  const ether::EtherLinear<Backend> layer(ctx, ether::MatrixView<const float>(w.view()), adapter);
  layer.forward(ctx, x.view(), y.view());
  std::vector<float> result(out);
  Backend::copy_out(ctx, ether::MatrixView<const float>(y.view()),
                    ether::MatrixView<float>(result.data(), 1, out));
  Backend::synchronize(ctx);
  for (const float value : result)
    if (!(std::fabs(value - 6) <= 1e-6f)) return std::printf("%g instead of 6\n", value), 1;
}
