#pragma once

/// Sums down the columns of a matrix: the first of two passes over a weight whose output blocks are
/// too tall for one, and the last step of every sum that was cut into parts.

#include <ether/backends/cuda/reflect_rows.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// The threads of a block on a tile of columns: `across` neighbours hold a vector each, and
/// row_lanes of such rows go down the tile.
template <int threads_, int across_, int vector_>
struct TileShape {
  static constexpr int threads = threads_, across = across_, vector = vector_;
  static constexpr int row_lanes = threads / across, warps = threads / warp;
  static constexpr int columns = across * vector;
};

/// Adds up sum[k] over the row lanes, in a fixed order; every thread gets the sums of its columns.
/// scratch: warps * count * columns elements.
template <class Shape, int count, class W>
ETHER_DEVICE void tile_sum(W (&sum)[count][Shape::vector], W* scratch) {
  ETHER_UNROLL
  for (int mask = Shape::across; mask < warp; mask *= 2) {
    ETHER_UNROLL
    for (int k = 0; k < count; ++k) {
      ETHER_UNROLL
      for (int e = 0; e < Shape::vector; ++e) sum[k][e] += shuffle_xor(sum[k][e], mask, warp);
    }
  }
  constexpr int sums = count * Shape::columns;
  const int thread = static_cast<int>(threadIdx.x), column = thread % Shape::across * Shape::vector;
  if (thread % warp < Shape::across) {
    ETHER_UNROLL
    for (int k = 0; k < count; ++k)
      store_shared(scratch + thread / warp * sums + k * Shape::columns + column, sum[k]);
  }
  barrier();
  ETHER_UNROLL_BY(1)
  for (int i = thread; i < sums; i += Shape::threads)  // each adds up the warps for one column
    for (int w = 1; w < Shape::warps; ++w) scratch[i] += scratch[w * sums + i];
  barrier();
  ETHER_UNROLL
  for (int k = 0; k < count; ++k) load(scratch + k * Shape::columns + column, sum[k]);
}

/// partial (see launchers.hpp): a thread block has one chunk of `height` rows and one tile of
/// columns.
template <class T, int terms, class Shape>
__global__ void __launch_bounds__(Shape::threads)
    column_sums_kernel(Reflection<Wide<T>> h, MatrixView<const T> in, Index height,
                       MatrixView<Wide<T>> partial) {
  using W = Wide<T>;
  constexpr int vector = Shape::vector;
  ETHER_SHARED(W, scratch, (Shape::warps * terms * Shape::columns));
  const Index tiles = (in.cols + Shape::columns - 1) / Shape::columns;
  const Index tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
  const Index parts = (h.block_size + height - 1) / height;
  const Index block = part / parts, first = part % parts * height;
  const Index behind = first + height < h.block_size ? first + height : h.block_size;
  const int thread = static_cast<int>(threadIdx.x);
  const Index column = tile * Shape::columns + thread % Shape::across * vector;
  const bool live = column < in.cols;

  W sum[terms][vector] = {}, x[vector];
  wait_for_previous_kernel();
  if (live) {
    ETHER_UNROLL_BY(2)
    for (Index i = first + thread / Shape::across; i < behind; i += Shape::row_lanes) {
      const Index row = block * h.block_size + i;
      load(in.data + row * in.stride + column, x);
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) {
        const W unit = h.unit.data[k * h.unit.stride + row];
        ETHER_UNROLL
        for (int e = 0; e < vector; ++e) sum[k][e] += unit * x[e];
      }
    }
  }
  tile_sum<Shape>(sum, scratch);
  let_next_kernel_start();
  if (live && thread < Shape::across) {
    ETHER_UNROLL
    for (int k = 0; k < terms; ++k)
      store(partial.data + (part * terms + k) * partial.stride + column, sum[k]);
  }
}

inline constexpr int sum_columns = warp, sum_slices = 8;

/// A thread block has 32 columns of one row of sums; its warps share the parts.
template <class W>
__global__ void __launch_bounds__(sum_columns* sum_slices, 1)
    sum_partials_kernel(MatrixView<const W> partial, Index count, Index inner, MatrixView<W> sums) {
  ETHER_SHARED(W, scratch, (sum_columns * sum_slices));
  const Index tiles = (sums.cols + sum_columns - 1) / sum_columns;
  const Index row = blockIdx.x / tiles;
  const int lane = static_cast<int>(threadIdx.x) % sum_columns;
  const int slice = static_cast<int>(threadIdx.x) / sum_columns;
  const Index column = blockIdx.x % tiles * sum_columns + lane;
  const Index first = row / inner * count * inner + row % inner;

  wait_for_previous_kernel();
  W sum = 0;
  if (column < sums.cols) {
    ETHER_UNROLL_BY(8)
    for (Index p = slice; p < count; p += sum_slices)
      sum += partial.data[(first + p * inner) * partial.stride + column];
  }
  scratch[threadIdx.x] = sum;
  barrier();
  let_next_kernel_start();
  if (slice != 0 || column >= sums.cols) return;
  for (int s = 1; s < sum_slices; ++s) sum += scratch[s * sum_columns + lane];
  sums.data[row * sums.stride + column] = sum;
}

template <class T>
void column_sums(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> in,
                 Index height, MatrixView<Wide<T>> partial) {
  const auto run = [&](auto shape, auto terms) {
    using Shape = decltype(shape);
    const Index tiles = (in.cols + Shape::columns - 1) / Shape::columns;
    const Index parts = (h.block_size + height - 1) / height * h.blocks;
    launch<column_sums_kernel<T, decltype(terms)::value, Shape>>(
        where, dim3(static_cast<unsigned>(tiles * parts)), Shape::threads, 0, h, in, height,
        partial);
  };
  constexpr int full = full_vector<T>;
  const bool fits = in.cols % full == 0 && aligned(in, full) && aligned(partial, full);
  const auto of_terms = [&](auto terms) {
    fits ? run(TileShape<256, 8, full>{}, terms) : run(TileShape<256, 32, 1>{}, terms);
  };
  h.terms() == 1 ? of_terms(std::integral_constant<int, 1>{})
                 : of_terms(std::integral_constant<int, 2>{});
}

template <class W>
void sum_partials(const Launch& where, MatrixView<const W> partial, Index count, Index inner,
                  MatrixView<W> sums) {
  const Index tiles = (sums.cols + sum_columns - 1) / sum_columns;
  launch<sum_partials_kernel<W>>(where, dim3(static_cast<unsigned>(tiles * sums.rows)),
                                 sum_columns * sum_slices, 0, partial, count, inner, sums);
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
