#pragma once

/// Stream, cuBLAS and workspace of the CUDA backend.

#include <ether/backends/cuda/error.hpp>
#include <ether/backends/cuda/launch.hpp>
#include <ether/workspace.hpp>

#include <cublasLt.h>
#include <cublas_v2.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>

ETHER_BEGIN_NAMESPACE

namespace detail::cuda {

/// Throws cuda_error while the stream is being captured into a graph.
inline void check_not_capturing(cudaStream_t stream, const char* what, const char* advice) {
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone)
    fail<cuda_error>(what, " while its stream is captured into a CUDA graph; ", advice);
}

struct FreeDevice {
  bool owned = true;
  void operator()(std::byte* p) const {
    if (owned) cudaFree(p);  // an error here is an earlier call's, and shows there
  }
};
using DeviceBytes = std::unique_ptr<std::byte, FreeDevice>;

inline DeviceBytes device_bytes(std::size_t size) {
  void* p = nullptr;
  if (cudaMalloc(&p, size == 0 ? 1 : size) != cudaSuccess) {
    const cudaError_t status = cudaGetLastError();
    fail<cuda_error>("cudaMalloc of ", size, " bytes failed: ", cudaGetErrorString(status));
  }
  return DeviceBytes(static_cast<std::byte*>(p));
}

struct AllocateDevice {
  static constexpr std::size_t alignment = 256;
  cudaStream_t stream = nullptr;
  std::byte* given = nullptr;  // the caller's workspace, all that there is; or null
  std::size_t given_size = 0;
  bool handed_out = false;

  DeviceBytes operator()(std::size_t& size) {
    if (given == nullptr) {
      check_not_capturing(stream, "the workspace would have to grow",
                          "call once with these sizes before");
      return device_bytes(size);
    }
    if (handed_out || size > given_size)
      fail<cuda_error>("this call needs ", size,
                       " bytes of workspace at once, but the Context was "
                       "given ",
                       given_size, " bytes for all intermediate results",
                       handed_out ? " and has lent some of them to the same call" : "",
                       "; give it a larger workspace");
    handed_out = true;
    size = given_size;
    return DeviceBytes(given, FreeDevice{false});
  }
};

struct DestroyBlasLt {
  void operator()(cublasLtHandle_t handle) const { cublasLtDestroy(handle); }
};

}  // namespace detail::cuda

/// One per calling thread. Work is enqueued on its stream, in order; nothing waits, and once a call
/// of some size has been made, the next like it allocates and asks the device nothing. Movable, not
/// copyable; the device is the one that was current when the Context was made, and has to be current
/// at every call.
class CudaContext {
 public:
  /// Makes its own cuBLAS handle and workspaces, which grow as calls need.
  explicit CudaContext(cudaStream_t stream = nullptr) : CudaContext(stream, nullptr, nullptr, 0) {}

  /// Uses the caller's: nothing is created. `workspace` is `bytes` of device memory at a multiple of
  /// 256; cuBLAS gets half of it, at most blas_bytes(), and intermediate results the rest. forward
  /// needs tokens * in * sizeof(Scalar) of those where the input side is adapted, backward at most
  /// 2 * tokens * (in + out) * sizeof(Scalar) + 2048 * (in + out); merge at most 128 MiB, except with
  /// row_chunk on both sides, which needs a block of output rows in float. The handle's own stream and
  /// workspace are not used. A call that needs more throws cuda_error.
  CudaContext(cudaStream_t stream, cublasHandle_t handle, void* workspace, std::size_t bytes)
      : stream_(stream) {
    using detail::cuda::check;
    launch_.stream = stream;
    check(cudaGetDevice(&launch_.device), "cudaGetDevice");
    launch_.processors = attribute(cudaDevAttrMultiProcessorCount);
    launch_.shared_bytes =
        static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
    major_ = attribute(cudaDevAttrComputeCapabilityMajor);
    if (workspace == nullptr) {
      blas_size_ = blas_bytes();
      blas_workspace_ = detail::cuda::device_bytes(blas_size_);
      check(cublasLtCreate(&blas_), "cublasLtCreate");
      owned_blas_.reset(blas_);
      frames_ = Frames({stream, nullptr, 0});
    } else {
      auto* const at = static_cast<std::byte*>(workspace);
      if (const auto behind = reinterpret_cast<std::uintptr_t>(workspace) % 256; behind != 0)
        detail::fail<shape_error>("the workspace is at an address ", behind,
                                  " behind a multiple of "
                                  "256; give it at one, as cudaMalloc does");
      blas_size_ = (std::min)(bytes / 2, blas_bytes()) / 256 * 256;
      blas_workspace_ = detail::cuda::DeviceBytes(at, detail::cuda::FreeDevice{false});
      blas_ = reinterpret_cast<cublasLtHandle_t>(handle);  // as cuBLAS documents it
      frames_ = Frames({stream, at + blas_size_, bytes - blas_size_});
    }
  }

  cudaStream_t stream() const { return stream_; }
  /// What cuBLAS is given to work in: 32 MiB on Hopper and later, 4 MiB before, as it asks for.
  std::size_t blas_bytes() const { return std::size_t{major_ >= 9 ? 32u : 4u} << 20; }

  /// Whether products of up to 8 tokens go through the library's own kernel, with H in it. On at
  /// first; for benchmarks, or to have all tokens' results from one kernel.
  bool fused_gemv() const { return fused_gemv_; }
  void set_fused_gemv(bool on) { fused_gemv_ = on; }

  /// Whether a kernel may start while the one before it still runs (programmatic dependent launch).
  /// forward then reads the frozen weight early: nothing just before it on the stream may write that,
  /// neither merge or unmerge in place nor a kernel of the caller's. Off at first; does nothing before
  /// Hopper.
  bool dependent_launch() const { return launch_.dependent; }
  void set_dependent_launch(bool on) { launch_.dependent = on && major_ >= 9; }

  /// Whether float products may round their factors to TF32, 10 bits. Off at first.
  bool tf32() const { return tf32_; }
  void set_tf32(bool on) { tf32_ = on; }

 private:
  using Frames = detail::Workspace<detail::cuda::AllocateDevice>;

 public:
  class Frame : public Frames::Frame {
   public:
    explicit Frame(CudaContext& ctx) : Frames::Frame(ctx.frames_) {}
  };

  /// For the backend.
  struct BlasPlan {
    cublasLtMatmulAlgo_t algorithm;
    std::size_t workspace;
  };
  using BlasKey = std::array<std::int64_t, 12>;
  const detail::cuda::Launch& launch() const { return launch_; }
  cublasLtHandle_t blas() const { return blas_; }
  void* blas_workspace() const { return blas_workspace_.get(); }
  std::size_t blas_workspace_size() const { return blas_size_; }
  std::map<BlasKey, BlasPlan>& blas_plans() { return blas_plans_; }

 private:
  int attribute(cudaDeviceAttr which) const {
    int value = 0;
    detail::cuda::check(cudaDeviceGetAttribute(&value, which, launch_.device),
                        "cudaDeviceGetAttribute");
    return value;
  }

  cudaStream_t stream_;
  detail::cuda::Launch launch_;
  int major_ = 0;
  bool fused_gemv_ = true, tf32_ = false;
  cublasLtHandle_t blas_ = nullptr;
  std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, detail::cuda::DestroyBlasLt> owned_blas_;
  detail::cuda::DeviceBytes blas_workspace_;
  std::size_t blas_size_ = 0;
  Frames frames_;
  std::map<BlasKey, BlasPlan> blas_plans_;
};

ETHER_END_NAMESPACE
