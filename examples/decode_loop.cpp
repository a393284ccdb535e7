/// A decode loop on a GPU: one step is captured into a CUDA graph, and adapters are swapped between
/// launches of it. The graph is never captured again, and the weight is never written.
///
///   cmake -B build -DETHER_CUDA=ON && cmake --build build --target decode_loop

#include <ether/backends/cuda.hpp>
#include <ether/ether.hpp>

#include <cstdio>
#include <vector>

using T = __nv_bfloat16;
using Backend = ether::CudaBackend<T>;

static void check(cudaError_t status) {
  if (status != cudaSuccess) throw ether::cuda_error(cudaGetErrorString(status));
}

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  const ether::Index width = 1024, steps = 12;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Backend::Context ctx(stream);

  std::vector<T> host_w, host_x(width, T(1.0f));
  for (ether::Index i = 0; i < width * width; ++i)
    host_w.push_back(
        T(static_cast<float>((i * 7919 + i / width * 104729) % 2001 - 1000) * 5.4e-5f));
  Backend::Buffer<T> w(ctx, width, width), x(ctx, 1, width), y(ctx, 1, width);
  Backend::copy_in(ctx, ether::MatrixView<const T>(host_w.data(), width, width), w.view());

  ether::AdapterConfig config;
  config.input_blocks = 8;
  const auto french = ether::Adapter<float>::random(config, width, width, /*seed=*/1);
  const auto german = ether::Adapter<float>::random(config, width, width, /*seed=*/2);
  ether::EtherLinear<Backend> layer(ctx, ether::MatrixView<const T>(w.view()), french);

  const auto step = [&] {  // x becomes W' x
    layer.forward(ctx, x.view(), y.view());
    check(cudaMemcpyAsync(x.view().data, y.view().data, width * sizeof(T), cudaMemcpyDeviceToDevice,
                          stream));
  };
  const auto decode = [&](auto&& one_step) {
    std::vector<T> result(width);
    Backend::copy_in(ctx, ether::MatrixView<const T>(host_x.data(), 1, width), x.view());
    for (ether::Index i = 0; i < steps; ++i) {
      layer.set_adapter(ctx, i / 3 % 2 == 0 ? french : german);  // overwritten in place
      one_step();
    }
    Backend::copy_out(ctx, ether::MatrixView<const T>(x.view()),
                      ether::MatrixView<T>(result.data(), 1, width));
    Backend::synchronize(ctx);
    return result;
  };
  const std::vector<T> direct = decode(step);  // also lets the workspace grow before the capture

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  step();
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  const std::vector<T> replayed = decode([&] { check(cudaGraphLaunch(executable, stream)); });

  bool same = true, finite = true;
  for (std::size_t i = 0; i < direct.size(); ++i) {
    const float a = direct[i], b = replayed[i];
    same &= a == b;
    finite &= a - a == 0;
  }
  std::printf("%td steps, the adapter swapped after every third: the graph gives %s\n", steps,
              same ? "every bit of the direct calls" : "something else");
  return same && finite ? 0 : 1;
}
