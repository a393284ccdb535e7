#pragma once

/// The benchmark's own kernels: what the library is measured beside, and what it is checked with.
/// All are enqueued on `stream` and throw ether::cuda_error where a launch fails. T: float, __half
/// or __nv_bfloat16.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace bench {

/// Does nothing: a launch alone.
void launch_empty(cudaStream_t stream);

/// to = from, 16 bytes at a time; `bytes` is a multiple of 16.
void copy_kernel(const void* from, void* to, std::size_t bytes, cudaStream_t stream);

/// Element i = scale * (uniform in [-1, 1) + offset), the same for the same seed.
template <class T>
void fill(T* to, std::ptrdiff_t count, std::uint64_t seed, double scale, double offset,
          cudaStream_t stream);

/// y (rows, cols) = gamma * x / sqrt(mean(x^2) + epsilon): a thread block for each row, which it
/// reads once, 16 bytes at a time. False for a cols that this does not suit.
template <class T>
bool rms_norm(const T* x, const T* gamma, double epsilon, T* y, std::ptrdiff_t rows,
              std::ptrdiff_t cols, cudaStream_t stream);

/// s (rows, out) = z (rows, in) w^T, all sums in double. Slow: a reference for a few rows.
template <class T>
void slow_product(const double* z, const T* w, double* s, std::ptrdiff_t rows, std::ptrdiff_t out,
                  std::ptrdiff_t in, cudaStream_t stream);

/// z (rows, in) = s (rows, out) w, likewise.
template <class T>
void slow_product_transposed(const double* s, const T* w, double* z, std::ptrdiff_t rows,
                             std::ptrdiff_t out, std::ptrdiff_t in, cudaStream_t stream);

}  // namespace bench
