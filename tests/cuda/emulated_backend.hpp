#pragma once

/// The CUDA backend with its own kernels, on the CPU: what CudaBackend composes of launches, run by
/// the emulator, with plain loops where CudaBackend calls cuBLAS.

#include "cuda/emulator/control.hpp"

#include <ether/backends/cuda/kernels.cuh>
#include <ether/backends/cuda/operations.hpp>
#include <ether/workspace.hpp>

#include <memory>

namespace test {

struct ReleaseEmulated {
  void operator()(std::byte* p) const { emulator::release(p); }
};
using EmulatedBytes = std::unique_ptr<std::byte, ReleaseEmulated>;

inline EmulatedBytes emulated_bytes(std::size_t size) {
  return EmulatedBytes(static_cast<std::byte*>(emulator::allocate(size)));
}

struct AllocateEmulated {
  static constexpr std::size_t alignment = 256;
  EmulatedBytes operator()(std::size_t& size) const { return emulated_bytes(size); }
};

class EmulatedContext : public ether::detail::Workspace<AllocateEmulated> {
 public:
  EmulatedContext() {
    launch_.processors = 2;
    launch_.shared_bytes = 99 << 10;
  }
  const ether::detail::cuda::Launch& launch() const { return launch_; }
  bool fused_gemv() const { return fused_gemv_; }
  void set_fused_gemv(bool on) { fused_gemv_ = on; }

 private:
  ether::detail::cuda::Launch launch_;
  bool fused_gemv_ = true;
};

/// T: float, double, Eigen::bfloat16 or Eigen::half.
template <class T>
struct EmulatedBackend : ether::detail::cuda::Operations<EmulatedBackend<T>, T, EmulatedContext> {
  using Scalar = T;
  using Parameter = ether::detail::cuda::Wide<T>;
  using Intermediate = T;
  using Context = EmulatedContext;
  using Index = ether::Index;
  template <class U>
  using View = ether::MatrixView<U>;
  static constexpr const char* name = "emulated_cuda";
  static constexpr bool host_memory = false;

  template <class U>
  class Buffer {
   public:
    Buffer(Context&, Index rows, Index cols)
        : bytes_(emulated_bytes(static_cast<std::size_t>(rows * cols) * sizeof(U))),
          view_(reinterpret_cast<U*>(bytes_.get()), rows, cols) {}
    View<U> view() const { return view_; }

   private:
    EmulatedBytes bytes_;
    View<U> view_;
  };

  template <class U>
  static void copy_in(Context&, View<const U> host, View<U> device) {
    for (Index r = 0; r < host.rows; ++r) std::copy_n(host.row(r), host.cols, device.row(r));
  }
  template <class U>
  static void copy_out(Context& ctx, View<const U> device, View<U> host) {
    copy_in(ctx, device, host);
  }
  static void synchronize(Context&) {}

  template <class U>
  static void gemm(Context&, View<const U> a, View<const U> b, bool transpose_b, View<U> c,
                   bool accumulate) {
    for (Index i = 0; i < c.rows; ++i)
      for (Index j = 0; j < c.cols; ++j) {
        auto sum = static_cast<Parameter>(accumulate ? c(i, j) : U(0));
        for (Index k = 0; k < a.cols; ++k)
          sum += static_cast<Parameter>(a(i, k)) *
                 static_cast<Parameter>(transpose_b ? b(j, k) : b(k, j));
        c(i, j) = static_cast<U>(sum);
      }
  }
  static void gemm_bias(Context& ctx, View<const T> z, View<const T> w, View<const T> bias,
                        View<T> y) {
    gemm<T>(ctx, z, w, true, y, false);
    if (bias.rows != 0)
      EmulatedBackend::reflect(ctx, ether::identity<Parameter>(y.cols), View<const T>(y), y, bias);
  }
};

}  // namespace test
