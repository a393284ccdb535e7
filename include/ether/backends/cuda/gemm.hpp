#pragma once

/// Matrix products by cuBLASLt.
///
/// Row-major c (m, n) = a (m, k) b^T is, column-major, c^T (n, m) = op(b) a^T: the factors change
/// places and keep their memory.

#include <ether/backends/cuda/context.hpp>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

ETHER_BEGIN_NAMESPACE
namespace detail::cuda {

template <class T>
constexpr cudaDataType_t data_type() {
  if constexpr (std::is_same_v<T, double>) return CUDA_R_64F;
  if constexpr (std::is_same_v<T, __half>) return CUDA_R_16F;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return CUDA_R_16BF;
  return CUDA_R_32F;
}

/// The largest power of two, up to 256, that divides the address.
inline std::int64_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<std::int64_t>(address & (~address + 1));
}

/// One product as cuBLASLt describes it. Lives on the stack: cuBLASLt allocates nothing for it.
struct BlasProblem {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t b, a, c;

  template <class T>
  BlasProblem(bool tf32, MatrixView<const T> a_, MatrixView<const T> b_, bool transpose_b,
              MatrixView<T> c_, const T* bias) {
    constexpr bool wide = std::is_same_v<T, double>;
    const auto compute = wide   ? CUBLAS_COMPUTE_64F
                         : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                : CUBLAS_COMPUTE_32F;
    check(cublasLtMatmulDescInit(&operation, compute, wide ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescInit");
    set(CUBLASLT_MATMUL_DESC_TRANSA, transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    layout(b, b_);
    layout(a, a_);
    layout(c, c_);
  }

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, V value) {
    check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }
  template <class T>
  static void layout(cublasLtMatrixLayoutOpaque_t& to, const MatrixView<T>& view) {
    check(cublasLtMatrixLayoutInit(
              &to, data_type<std::remove_const_t<T>>(), static_cast<std::uint64_t>(view.cols),
              static_cast<std::uint64_t>(view.rows), view.rows > 1 ? view.stride : view.cols),
          "cublasLtMatrixLayoutInit");
  }
};

/// cuBLASLt's first choice for a problem, asked once for each shape and alignment.
inline const CudaContext::BlasPlan& blas_plan(CudaContext& ctx, const CudaContext::BlasKey& key,
                                              BlasProblem& problem) {
  auto& plans = ctx.blas_plans();
  if (const auto found = plans.find(key); found != plans.end()) return found->second;

  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{ctx.blas_workspace_size()});
  // Parts of a sum are added in the type it is computed in, never rounded in between.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key[6]));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key[7]));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key[8]));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key[8]));
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(ctx.blas(), &problem.operation, &problem.b, &problem.a,
                                       &problem.c, &problem.c, &preference, 1, &result, &found),
        "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0 || result.state != CUBLAS_STATUS_SUCCESS)
    fail<cuda_error>("cublasLtMatmulAlgoGetHeuristic finds no algorithm for the product (", key[0],
                     ", ", key[2], ") x (", key[2], ", ", key[1], ")");
  return plans.emplace(key, CudaContext::BlasPlan{result.algo, result.workspaceSize}).first->second;
}

/// c (m, n) (+)= a (m, k) b^T + bias with b (n, k), or a b with b (k, n). bias (n) or null.
template <class T>
void gemm(CudaContext& ctx, MatrixView<const T> a, MatrixView<const T> b, bool transpose_b,
          MatrixView<T> c, bool accumulate, const T* bias) {
  if (c.empty()) return;
  const Index m = c.rows, n = c.cols, k = a.cols;
  if (k == 0) {
    if (!accumulate)
      check(cudaMemset2DAsync(c.data, sizeof(T) * static_cast<std::size_t>(m > 1 ? c.stride : n), 0,
                              sizeof(T) * static_cast<std::size_t>(n), static_cast<std::size_t>(m),
                              ctx.stream()),
            "cudaMemset2DAsync");
    return;
  }
  BlasProblem problem(ctx.tf32() && std::is_same_v<T, float>, a, b, transpose_b, c, bias);
  const auto stride = [](const auto& v) { return v.rows > 1 ? v.stride : v.cols; };
  const std::int64_t flags = (transpose_b ? 1 : 0) | (accumulate ? 2 : 0) |
                             (bias != nullptr ? 4 : 0) | (ctx.tf32() ? 8 : 0);
  const CudaContext::BlasKey key = {m,
                                    n,
                                    k,
                                    stride(a),
                                    stride(b),
                                    stride(c),
                                    alignment_of(b.data),
                                    alignment_of(a.data),
                                    alignment_of(c.data),
                                    alignment_of(bias),
                                    flags,
                                    static_cast<std::int64_t>(data_type<T>())};
  const CudaContext::BlasPlan& plan = blas_plan(ctx, key, problem);
  const Wide<T> one = 1, beta = accumulate ? 1 : 0;
  check(cublasLtMatmul(ctx.blas(), &problem.operation, &one, b.data, &problem.b, a.data, &problem.a,
                       &beta, c.data, &problem.c, c.data, &problem.c, &plan.algorithm,
                       ctx.blas_workspace(), ctx.blas_workspace_size(), ctx.stream()),
        "cublasLtMatmul");
}

}  // namespace detail::cuda
ETHER_END_NAMESPACE
