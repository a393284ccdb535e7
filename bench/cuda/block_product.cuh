#pragma once

/// OFT on activations in one kernel: a product with a block-diagonal matrix of small blocks.
///
///     z_i (tokens, b) = x_i H_i       b = 32 columns of x and z for each block i
///
/// A thread block takes one H_i and a tile of tokens through shared memory. A thread computes
/// `each` tokens by as many columns as it stores in one instruction.

#include "baseline_kernels.hpp"

#include <ether/backends/cuda/vector.cuh>

namespace bench {

namespace cuda = ether::detail::cuda;

inline constexpr int product_threads = 128;

/// How the threads share a tile of (tokens, oft_block).
template <class T, int each_>
struct ProductShape {
  static constexpr int each = each_, cols = cuda::full_vector<T>;
  static constexpr int across = oft_block / cols, down = product_threads / across;
  static constexpr int tokens = down * each;
  /// Of a row of x in shared memory: 16 bytes more, so that neighbours lie in other banks.
  static constexpr int stride = oft_block + 16 / static_cast<int>(sizeof(Wide<T>));
};

/// `live` rows of 32 elements at `from` into shared memory; 0 up to `rows`.
template <class T>
ETHER_DEVICE void copy_tile(const T* from, Index stride, int live, int rows, Wide<T>* to,
                            int to_stride) {
  constexpr int vector = cuda::full_vector<T>;
  for (int i = static_cast<int>(threadIdx.x) * vector; i < rows * oft_block;
       i += product_threads * vector) {
    const int row = i / oft_block, column = i % oft_block;
    Wide<T> value[vector] = {};
    if (row < live) cuda::load(from + row * stride + column, value);
    cuda::store_shared(to + row * to_stride + column, value);
  }
}

template <class T, class Shape>
__global__ void __launch_bounds__(product_threads, 1)
    block_product_kernel(MatrixView<const T> h, MatrixView<const T> x, MatrixView<T> z) {
  using W = Wide<T>;
  ETHER_SHARED(W, h_tile, oft_block * oft_block);
  ETHER_SHARED(W, x_tile, Shape::tokens * Shape::stride);
  const Index block = Index{blockIdx.x} * oft_block, first = Index{blockIdx.y} * Shape::tokens;
  const int live =
      static_cast<int>(x.rows - first < Shape::tokens ? x.rows - first : Shape::tokens);

  cuda::wait_for_previous_kernel();
  copy_tile(h.data + block * h.stride, h.stride, oft_block, oft_block, h_tile, oft_block);
  copy_tile(x.data + first * x.stride + block, x.stride, live, Shape::tokens, x_tile,
            Shape::stride);
  cuda::barrier();

  const int column = static_cast<int>(threadIdx.x) % Shape::across * Shape::cols;
  const int token = static_cast<int>(threadIdx.x) / Shape::across;
  W sum[Shape::each][Shape::cols] = {};
  constexpr int depth = 4;
  ETHER_UNROLL_BY(2)
  for (int k = 0; k < oft_block; k += depth) {
    W right[depth][Shape::cols], left[depth];
    ETHER_UNROLL
    for (int j = 0; j < depth; ++j) cuda::load(h_tile + (k + j) * oft_block + column, right[j]);
    ETHER_UNROLL
    for (int t = 0; t < Shape::each; ++t) {
      cuda::load(x_tile + (token + t * Shape::down) * Shape::stride + k, left);
      ETHER_UNROLL
      for (int j = 0; j < depth; ++j) {
        ETHER_UNROLL
        for (int c = 0; c < Shape::cols; ++c) sum[t][c] += left[j] * right[j][c];
      }
    }
  }
  ETHER_UNROLL
  for (int t = 0; t < Shape::each; ++t)
    if (const int own = token + t * Shape::down; own < live)
      cuda::store(z.data + (first + own) * z.stride + block + column, sum[t]);
  cuda::let_next_kernel_start();
}

template <class T>
bool block_product(const Launch& where, MatrixView<const T> h, MatrixView<const T> x,
                   MatrixView<T> z) {
  constexpr int full = cuda::full_vector<T>;
  if (x.empty() || x.cols % oft_block != 0 || !cuda::aligned(h, full) || !cuda::aligned(x, full) ||
      !cuda::aligned(z, full))
    return false;
  const Index blocks = x.cols / oft_block;
  const auto tiles = [&](auto shape) { return (x.rows + shape.tokens - 1) / shape.tokens; };
  const auto run = [&](auto shape) {
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(tiles(shape)));
    cuda::launch<block_product_kernel<T, decltype(shape)>>(where, grid, product_threads, 0, h, x,
                                                           z);
    return true;
  };
  // Large tiles once they still make two thread blocks for each multiprocessor.
  return blocks * tiles(ProductShape<T, 4>{}) >= Index{2} * where.processors
             ? run(ProductShape<T, 4>{})
             : run(ProductShape<T, 1>{});
}

}  // namespace bench
