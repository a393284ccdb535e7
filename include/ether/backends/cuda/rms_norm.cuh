#pragma once

/// RMSNorm followed by H in one kernel: H (gamma x / rms) = (H (gamma x)) / rms, so that the mean
/// of squares and all dot products are sums of one reading.

#include <ether/backends/cuda/row_dots.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// z = (gamma * x / sqrt(mean(x^2) + epsilon)) H; one row for each thread block.
template <class T, int terms, int vector>
__global__ void __launch_bounds__(row_threads, 1)
    rms_norm_kernel(Reflection<Wide<T>> h, MatrixView<const T> x, const T* gamma, Wide<T> epsilon,
                    MatrixView<T> z) {
  using W = Wide<T>;
  constexpr int stride = terms + 1;  // of a segment: its dots, and its sum of squares
  ETHER_DYNAMIC_SHARED(W, partial);
  const Segments segments(h.blocks, h.block_size, vector);
  const int count = segments.count(), first = static_cast<int>(threadIdx.x) / warp;
  const T* const from = x.data + Index{blockIdx.x} * x.stride;
  T* const to = z.data + Index{blockIdx.x} * z.stride;
  W value[vector], scale[vector];

  wait_for_previous_kernel();
  for (int s = first; s < count; s += row_warps) {
    W sum[stride] = {};
    if (const int i = segments.element(s, vector); i >= 0) {
      load(from + i, value);
      load(gamma + i, scale);
      ETHER_UNROLL
      for (int e = 0; e < vector; ++e) {
        sum[terms] += value[e] * value[e];
        value[e] *= scale[e];
      }
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) multiply_sum(sum[k], value, unit_at<vector>(h, k, i));
    }
    group_sum<warp>(sum, static_cast<W*>(nullptr));
    if (threadIdx.x % warp == 0) {
      ETHER_UNROLL
      for (int k = 0; k < stride; ++k) partial[s * stride + k] = sum[k];
    }
  }
  barrier();

  W squares = 0;
  for (int s = 0; s < count; ++s) squares += partial[s * stride + terms];
  const W inverse = W(1) / std::sqrt(squares / static_cast<W>(x.cols) + epsilon);
  for (int s = first; s < count; s += row_warps) {
    const int i = segments.element(s, vector);
    if (i < 0) continue;
    load(from + i, value);
    load(gamma + i, scale);
    ETHER_UNROLL
    for (int e = 0; e < vector; ++e) value[e] *= scale[e];
    if constexpr (terms > 0) {
      W dot[terms];
      dots_of_block(h, segments, s, partial, stride, dot);
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) multiply_add(value, dot[k], unit_at<vector>(h, k, i));
    }
    ETHER_UNROLL
    for (int e = 0; e < vector; ++e) value[e] *= inverse;
    store(to + i, value);
  }
  let_next_kernel_start();
}

template <class T>
bool rms_norm_reflect(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> x,
                      const T* gamma, Wide<T> epsilon, MatrixView<T> z) {
  if (x.empty()) return true;
  const auto run = [&](auto terms, auto vector) {
    const Segments segments(h.blocks, h.block_size, decltype(vector)::value);
    const std::size_t shared =
        static_cast<std::size_t>(segments.count()) * (decltype(terms)::value + 1) * sizeof(Wide<T>);
    if (shared > where.shared_bytes) return false;
    launch<rms_norm_kernel<T, decltype(terms)::value, decltype(vector)::value>>(
        where, dim3(static_cast<unsigned>(x.rows)), row_threads, shared, h, x, gamma, epsilon, z);
    return true;
  };
  const auto of_vector = [&](auto vector) {
    return h.terms() == 0   ? run(std::integral_constant<int, 0>{}, vector)
           : h.terms() == 1 ? run(std::integral_constant<int, 1>{}, vector)
                            : run(std::integral_constant<int, 2>{}, vector);
  };
  constexpr int full = full_vector<T>;
  return h.block_size % full == 0 && aligned(x, full) && aligned(z, full) &&
                 aligned(gamma, 0, full) && aligned(h.unit, full)
             ? of_vector(std::integral_constant<int, full>{})
             : of_vector(std::integral_constant<int, 1>{});
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
