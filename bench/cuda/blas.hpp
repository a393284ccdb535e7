#pragma once

/// Batched products through cuBLAS, for what the library is compared with.

#include "session.hpp"

namespace bench {

class Blas {
 public:
  explicit Blas(Session& s) : workspace_(Index{32} << 20) {
    using ether::detail::cuda::check;
    cublasHandle_t handle = nullptr;
    check(cublasCreate(&handle), "cublasCreate");
    handle_.reset(handle);
    check(cublasSetStream(handle, s.stream()), "cublasSetStream");
    // After the stream, which takes it back; without it a capture may allocate.
    check(cublasSetWorkspace(handle, workspace_.data(), workspace_.bytes()), "cublasSetWorkspace");
  }

  /// Column-major c_b (m, n) = a_b (m, k) b_b (k, n), matrices at fixed distances.
  template <class T>
  void strided(Index m, Index n, Index k, const T* a, Index lda, Index stride_a, const T* b,
               Index ldb, Index stride_b, T* c, Index ldc, Index stride_c, Index count) const {
    const auto type = ether::detail::cuda::data_type<T>();
    const float one = 1, zero = 0;
    ether::detail::cuda::check(
        cublasGemmStridedBatchedEx(handle_.get(), CUBLAS_OP_N, CUBLAS_OP_N, int_of(m), int_of(n),
                                   int_of(k), &one, a, type, int_of(lda), stride_a, b, type,
                                   int_of(ldb), stride_b, &zero, c, type, int_of(ldc), stride_c,
                                   int_of(count), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
  }

  /// Column-major c_b (m, 1) = a_b^T b_b + beta c_b, a_b (k, m), by pointers in device memory.
  template <class T>
  void vectors(Index m, Index k, const T* const* a, const T* const* b, float beta, T* const* c,
               Index count) const {
    const auto type = ether::detail::cuda::data_type<T>();
    const float one = 1;
    ether::detail::cuda::check(
        cublasGemmBatchedEx(handle_.get(), CUBLAS_OP_T, CUBLAS_OP_N, int_of(m), 1, int_of(k), &one,
                            reinterpret_cast<const void* const*>(a), type, int_of(k),
                            reinterpret_cast<const void* const*>(b), type, int_of(k), &beta,
                            reinterpret_cast<void* const*>(c), type, int_of(m), int_of(count),
                            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmBatchedEx");
  }

 private:
  static int int_of(Index value) { return static_cast<int>(value); }
  struct Destroy {
    void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
  };
  DeviceArray<std::byte> workspace_;
  std::unique_ptr<std::remove_pointer_t<cublasHandle_t>, Destroy> handle_;
};

}  // namespace bench
