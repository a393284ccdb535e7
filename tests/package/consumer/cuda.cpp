// A program that no nvcc sees links the GPU's layer. Runs it where there is a GPU.
#include <ether/ether.hpp>

#include <ether/backends/cuda.hpp>

#include <vector>

template <class T>
static bool identity_at_strength_0() {
  using Backend = ether::CudaBackend<T>;
  ether::CudaContext ctx;
  ether::AdapterConfig config;
  config.strength = 0;
  const auto adapter = ether::Adapter<float>::random(config, 8, 8, 1);
  std::vector<T> w(64, T(0.0f)), x(8, T(3.0f)), y(8);
  for (std::size_t i = 0; i < 8; ++i) w[i * 8 + i] = T(1.0f);
  typename Backend::template Buffer<T> device_w(ctx, 8, 8), device_x(ctx, 1, 8),
      device_y(ctx, 1, 8);
  Backend::copy_in(ctx, ether::MatrixView<const T>(w.data(), 8, 8), device_w.view());
  Backend::copy_in(ctx, ether::MatrixView<const T>(x.data(), 1, 8), device_x.view());
  const ether::EtherLinear<Backend> layer(ctx, ether::MatrixView<const T>(device_w.view()),
                                          adapter);
  layer.forward(ctx, device_x.view(), device_y.view());
  Backend::copy_out(ctx, ether::MatrixView<const T>(device_y.view()),
                    ether::MatrixView<T>(y.data(), 1, 8));
  Backend::synchronize(ctx);
  for (const T value : y)
    if (!(static_cast<float>(value) == 3.0f)) return false;
  return true;
}

bool use_cuda();
bool use_cuda() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return true;
  return identity_at_strength_0<float>() && identity_at_strength_0<__nv_bfloat16>();
}
