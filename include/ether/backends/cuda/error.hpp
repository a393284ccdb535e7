#pragma once

/// Errors of CUDA and cuBLAS as cuda_error.

#include <ether/error.hpp>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

ETHER_BEGIN_NAMESPACE
namespace detail::cuda {

/// Throws cuda_error, naming the call, where its status is not success.
inline void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess)
    fail<cuda_error>(call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
                     ")");
}
inline void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail<cuda_error>(call, " failed: ", cublasLtGetStatusString(status), " (",
                     cublasLtGetStatusName(status), ")");
}

}  // namespace detail::cuda
ETHER_END_NAMESPACE
