#pragma once

/// Columns through a block-diagonal H, the output side of a merge, in one reading of the weight.

#include <ether/backends/cuda/column_sums.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// out = H in. A thread block has one block of h and a tile of columns, which it keeps in dynamic
/// shared memory, every thread its own vectors, between the sums and the update.
template <class T, int terms, class Shape>
__global__ void __launch_bounds__(Shape::threads, 1024 / Shape::threads)
    reflect_columns_kernel(Reflection<Wide<T>> h, MatrixView<const T> in, MatrixView<T> out) {
  using W = Wide<T>;
  constexpr int vector = Shape::vector;
  ETHER_SHARED(W, scratch, (Shape::warps * terms * Shape::columns));
  ETHER_DYNAMIC_SHARED(T, kept);  // (block_size / row_lanes, threads, vector)
  const Index tiles = (in.cols + Shape::columns - 1) / Shape::columns;
  const Index block = blockIdx.x / tiles;
  const int thread = static_cast<int>(threadIdx.x), lane = thread / Shape::across;
  const Index column = blockIdx.x % tiles * Shape::columns + thread % Shape::across * vector;
  const Index first_row = block * h.block_size;
  const int size = static_cast<int>(h.block_size);
  const int behind = column < in.cols ? size : 0;  // no rows for columns that do not exist
  const W* const unit = h.unit.data + first_row;
  const auto slot = [&](int i) {
    return kept + (i / Shape::row_lanes * Shape::threads + thread) * vector;
  };

  W sum[terms][vector] = {}, x[vector];
  wait_for_previous_kernel();
  ETHER_UNROLL_BY(4)
  for (int i = lane; i < behind; i += Shape::row_lanes) {
    load(in.data + (first_row + i) * in.stride + column, x);
    store_shared(slot(i), x);  // a value of T: no rounding
    ETHER_UNROLL
    for (int k = 0; k < terms; ++k) {
      ETHER_UNROLL
      for (int e = 0; e < vector; ++e) sum[k][e] += unit[k * h.unit.stride + i] * x[e];
    }
  }
  tile_sum<Shape>(sum, scratch);
  let_next_kernel_start();

  ETHER_UNROLL
  for (int k = 0; k < terms; ++k) {
    ETHER_UNROLL
    for (int e = 0; e < vector; ++e)
      sum[k][e] *= h.coefficient.data[k * h.coefficient.stride + block];
  }
  ETHER_UNROLL_BY(4)
  for (int i = lane; i < behind; i += Shape::row_lanes) {
    load(slot(i), x);
    ETHER_UNROLL
    for (int k = 0; k < terms; ++k) {
      ETHER_UNROLL
      for (int e = 0; e < vector; ++e) x[e] += unit[k * h.unit.stride + i] * sum[k][e];
    }
    store(out.data + (first_row + i) * out.stride + column, x);
  }
}

template <class T>
bool reflect_columns(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> in,
                     MatrixView<T> out) {
  constexpr int full = full_vector<T>;
  if (in.cols % full != 0 || !aligned(in, full) || !aligned(out, full)) return false;
  const auto run = [&](auto shape, auto terms) {
    using Shape = decltype(shape);
    constexpr std::size_t scratch =
        Shape::warps * decltype(terms)::value * Shape::columns * sizeof(Wide<T>);
    const auto rows =
        static_cast<std::size_t>((h.block_size + Shape::row_lanes - 1) / Shape::row_lanes);
    const std::size_t kept = rows * Shape::threads * full * sizeof(T);
    if (kept + scratch > where.shared_bytes) return false;
    const Index tiles = (in.cols + Shape::columns - 1) / Shape::columns;
    launch<reflect_columns_kernel<T, decltype(terms)::value, Shape>>(
        where, dim3(static_cast<unsigned>(tiles * h.blocks)), Shape::threads, kept, h, in, out);
    return true;
  };
  const auto of_terms = [&](auto terms) {
    return h.block_size <= 64 ? run(TileShape<128, 8, full>{}, terms)
                              : run(TileShape<512, 8, full>{}, terms);
  };
  return h.terms() == 1 ? of_terms(std::integral_constant<int, 1>{})
                        : of_terms(std::integral_constant<int, 2>{});
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
