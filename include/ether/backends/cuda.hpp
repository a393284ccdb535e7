#pragma once

/// CudaBackend: an NVIDIA GPU, with the library's kernels and cuBLAS's products.
///
/// Compiles with any C++17 compiler that finds the CUDA headers; link ether::cuda, or, under nvcc,
/// include <ether/backends/cuda/kernels.cuh> too. All pointers and views of weights, biases and
/// activations are device memory. forward, backward into device memory, and merge enqueue work on the
/// Context's stream and return: nothing waits, and after the first call of a size nothing allocates,
/// so they can be captured into a CUDA graph. It stays valid when set_adapter overwrites the adapter
/// between two launches of it; that copies from the host, and so may wait for the stream's earlier
/// work, as backward into a host Adapter and unmerge do. set_adapter is ordered on its Context's
/// stream; synchronise other streams yourself.

#include <ether/backends/cuda/context.hpp>
#include <ether/backends/cuda/gemm.hpp>
#include <ether/backends/cuda/operations.hpp>
#include <ether/prepared_adapter.hpp>

ETHER_BEGIN_NAMESPACE

namespace detail::cuda {

template <class T>
constexpr const char* backend_name() {
  if constexpr (std::is_same_v<T, double>) return "cuda_double";
  if constexpr (std::is_same_v<T, __half>) return "cuda_half";
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return "cuda_bfloat16";
  return "cuda_float";
}

}  // namespace detail::cuda

/// T: float, double, __half or __nv_bfloat16, the type of weight, bias, x and y. Sums are in float
/// (double for double); z = x H_in and s = z W^T are rounded to T, as products in tensor cores
/// want them.
template <class T>
struct CudaBackend : detail::cuda::Operations<CudaBackend<T>, T, CudaContext> {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                    std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>,
                "ether: CudaBackend is for float, double, __half and __nv_bfloat16");

  using Scalar = T;
  using Parameter = detail::cuda::Wide<T>;
  using Intermediate = T;
  using Context = CudaContext;
  static constexpr const char* name = detail::cuda::backend_name<T>();
  static constexpr bool host_memory = false;

  template <class U>
  class Buffer {
   public:
    Buffer(Context& ctx, Index rows, Index cols)
        : bytes_(allocate(ctx, static_cast<std::size_t>(rows * cols) * sizeof(U))),
          view_(reinterpret_cast<U*>(bytes_.get()), rows, cols) {}
    MatrixView<U> view() const { return view_; }

   private:
    static detail::cuda::DeviceBytes allocate(Context& ctx, std::size_t size) {
      detail::cuda::check_not_capturing(ctx.stream(), "device memory would be allocated",
                                        "make layers and buffers before the capture");
      return detail::cuda::device_bytes(size);
    }

    detail::cuda::DeviceBytes bytes_;
    MatrixView<U> view_;
  };

  /// From memory that may be changed as soon as this returns, if it is ordinary (pageable) memory.
  template <class U>
  static void copy_in(Context& ctx, MatrixView<const U> host, MatrixView<U> device) {
    copy(ctx, host, device, cudaMemcpyHostToDevice);
  }
  /// Into memory that is filled once synchronize returns.
  template <class U>
  static void copy_out(Context& ctx, MatrixView<const U> device, MatrixView<U> host) {
    copy(ctx, device, host, cudaMemcpyDeviceToHost);
  }
  static void synchronize(Context& ctx) {
    detail::cuda::check(cudaStreamSynchronize(ctx.stream()), "cudaStreamSynchronize");
  }

  template <class U>
  static void gemm(Context& ctx, MatrixView<const U> a, MatrixView<const U> b, bool transpose_b,
                   MatrixView<U> c, bool accumulate) {
    detail::cuda::gemm<U>(ctx, a, b, transpose_b, c, accumulate, nullptr);
  }

  /// y = z w^T + bias, the bias in the product's epilogue where cuBLAS has one for T.
  static void gemm_bias(Context& ctx, MatrixView<const T> z, MatrixView<const T> w,
                        MatrixView<const T> bias, MatrixView<T> y) {
    constexpr bool epilogue = !std::is_same_v<T, double>;
    detail::cuda::gemm<T>(ctx, z, w, true, y, false, epilogue ? bias.data : nullptr);
    if (!epilogue && bias.rows != 0)
      CudaBackend::reflect(ctx, identity<Parameter>(y.cols), MatrixView<const T>(y), y, bias);
  }

 private:
  template <class A, class B>
  static void copy(Context& ctx, MatrixView<A> from, MatrixView<B> to, cudaMemcpyKind kind) {
    if (from.empty()) return;
    detail::cuda::check_not_capturing(
        ctx.stream(), "host memory would be copied",
        "do that before the capture, or between launches of the graph");
    const auto bytes = [](Index count) { return static_cast<std::size_t>(count) * sizeof(B); };
    const auto pitch = [&](const auto& v) { return bytes(v.rows > 1 ? v.stride : v.cols); };
    detail::cuda::check(
        cudaMemcpy2DAsync(to.data, pitch(to), from.data, pitch(from), bytes(from.cols),
                          static_cast<std::size_t>(from.rows), kind, ctx.stream()),
        "cudaMemcpy2DAsync");
  }
};

/// z = (gamma * x / sqrt(mean(x^2) + epsilon)) H_in in one kernel, the mean over each row: RMSNorm as
/// engines put it before a linear layer, for engines that keep their norm and their product.
/// x, z (tokens, in); gamma (in); overwrites z, which may be x. Throws shape_error, and
/// parameter_error for row_chunk with several blocks or blocks too many for shared memory.
template <class T>
void rms_norm_reflect_input(CudaContext& ctx, const PreparedAdapter<CudaBackend<T>>& prepared,
                            MatrixView<const T> x, const T* gamma, double epsilon,
                            MatrixView<T> z) {
  detail::check_shape("x", x, x.rows, prepared.in_features(), "(tokens, in_features)").require();
  detail::check_shape("z", z, x.rows, prepared.in_features(), "(tokens of x, in_features)")
      .require();
  detail::check_in_place_or_disjoint("x", x, "z", z).require();
  const auto h = prepared.reflection(Side::input);
  if (h.step != 0)
    detail::fail<parameter_error>("layout row_chunk with ", h.blocks, " input blocks has up to ",
                                  2 * h.blocks - 1,
                                  " different H_in; norm first, then reflect_input for each slice");
  if (!detail::cuda::rms_norm_reflect<T>(ctx.launch(), h, x, gamma,
                                         static_cast<detail::cuda::Wide<T>>(epsilon), z))
    detail::fail<parameter_error>(h.blocks, " input blocks have more sums than the ",
                                  ctx.launch().shared_bytes,
                                  " bytes of a thread block's shared memory hold; norm first, then "
                                  "reflect_input");
}

ETHER_END_NAMESPACE
