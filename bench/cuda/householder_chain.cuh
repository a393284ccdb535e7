#pragma once

/// HRA on activations in one kernel: rows go through the whole chain in registers.
///
///     z = x H_r ... H_1       H_k = I - 2 û_k û_k^T       z <- z - 2 (z.û_k) û_k,  k = r, ..., 1
///
/// Each reflection is one sum over the thread block. While it is taken the next vector is on its
/// way. With many rows a thread block takes several, which share what it reads of a vector.

#include "baseline_kernels.hpp"

#include <ether/backends/cuda/group_sum.cuh>
#include <ether/backends/cuda/vector.cuh>

namespace bench {

namespace cuda = ether::detail::cuda;

inline constexpr int chain_threads = 256, chain_held = 16;  // elements of a row in each thread

/// A thread's elements of a row: `vector` neighbours of each chain_threads * vector.
template <class T, int vector>
struct ChainShare {
  using Piece = cuda::Packed<T, vector>;
  Piece piece[chain_held / vector];

  static ETHER_DEVICE int column(int p) {
    return (p * chain_threads + static_cast<int>(threadIdx.x)) * vector;
  }
  /// 0 behind the row's end.
  ETHER_DEVICE void read(const T* row, int width) {
    ETHER_UNROLL
    for (int p = 0; p < chain_held / vector; ++p) {
      piece[p] = {};
      if (column(p) >= width) continue;
      cuda::check_aligned<sizeof(Piece)>(row + column(p));
      piece[p] = *reinterpret_cast<const Piece*>(row + column(p));
    }
  }
  ETHER_DEVICE void widen(Wide<T> (&to)[chain_held]) const {
    ETHER_UNROLL
    for (int e = 0; e < chain_held; ++e)
      to[e] = static_cast<Wide<T>>(piece[e / vector].element[e % vector]);
  }
};

/// a.b as so many sums, a power of two, which do not wait for one another.
template <int sums, class W>
ETHER_DEVICE W chain_dot(const W (&a)[chain_held], const W (&b)[chain_held]) {
  W sum[sums] = {};
  ETHER_UNROLL
  for (int e = 0; e < chain_held; ++e) sum[e % sums] += a[e] * b[e];
  ETHER_UNROLL
  for (int half = sums / 2; half > 0; half /= 2) {
    ETHER_UNROLL
    for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
  }
  return sum[0];
}

/// A thread block takes `rows` rows. Behind the last row it computes that one again, and leaves it.
template <class T, int rows, int vector>
__global__ void __launch_bounds__(chain_threads, rows > 1 ? 2 : 3)
    householder_chain_kernel(MatrixView<const T> unit, MatrixView<const T> x, MatrixView<T> z) {
  using W = Wide<T>;
  constexpr int sums = rows == 1 ? 4 : 1;  // of a dot; several rows are enough at a time
  constexpr int scratch_size = cuda::group_sum_scratch<chain_threads, rows>;
  ETHER_SHARED(W, scratch, 2 * scratch_size);
  const int width = static_cast<int>(x.cols);
  const Index first = Index{blockIdx.x} * rows, last = x.rows - 1;
  ChainShare<T, vector> share;
  W value[rows][chain_held], u[chain_held];

  cuda::wait_for_previous_kernel();
  ETHER_UNROLL
  for (int r = 0; r < rows; ++r) {
    share.read(x.data + (first + r < last ? first + r : last) * x.stride, width);
    share.widen(value[r]);
  }
  int k = static_cast<int>(unit.rows) - 1;
  const T* next = unit.data + k * unit.stride;
  share.read(next, width);
  for (; k >= 0; --k) {
    share.widen(u);
    if (k > 0) share.read(next -= unit.stride, width);
    W dot[rows];
    ETHER_UNROLL
    for (int r = 0; r < rows; ++r) dot[r] = chain_dot<sums>(value[r], u);
    cuda::group_sum<chain_threads>(dot, scratch + k % 2 * scratch_size);
    ETHER_UNROLL
    for (int r = 0; r < rows; ++r) {
      ETHER_UNROLL
      for (int e = 0; e < chain_held; ++e) value[r][e] -= 2 * dot[r] * u[e];
    }
  }
  ETHER_UNROLL
  for (int r = 0; r < rows; ++r) {
    ETHER_UNROLL
    for (int p = 0; p < chain_held / vector; ++p) {
      const int column = share.column(p);
      W part[vector];
      ETHER_UNROLL
      for (int e = 0; e < vector; ++e) part[e] = value[r][p * vector + e];
      if (first + r <= last && column < width)
        cuda::store(z.data + (first + r) * z.stride + column, part);
    }
  }
  cuda::let_next_kernel_start();
}

template <class T>
bool householder_chain(const Launch& where, MatrixView<const T> unit, MatrixView<const T> x,
                       MatrixView<T> z) {
  constexpr int full = cuda::full_vector<T>, together = 3;
  if (unit.rows < 1 || x.empty() || x.cols > chain_threads * chain_held) return false;
  const auto run = [&](auto rows, auto vector) {
    constexpr int each = decltype(rows)::value;
    const Index blocks = (x.rows + each - 1) / each;
    cuda::launch<householder_chain_kernel<T, each, decltype(vector)::value>>(
        where, dim3(static_cast<unsigned>(blocks)), chain_threads, 0, unit, x, z);
    return true;
  };
  const std::integral_constant<int, 1> one;
  if (x.cols % full != 0 || !cuda::aligned(unit, full) || !cuda::aligned(x, full) ||
      !cuda::aligned(z, full))
    return run(one, one);
  // Rows together once they still make two thread blocks for each multiprocessor.
  return x.rows >= Index{2} * together * where.processors
             ? run(std::integral_constant<int, together>{}, std::integral_constant<int, full>{})
             : run(one, std::integral_constant<int, full>{});
}

}  // namespace bench
