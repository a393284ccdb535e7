#pragma once

/// Rows through a block-diagonal H: activations, gradients, and the input side of a merge.

#include <ether/backends/cuda/group_sum.cuh>
#include <ether/backends/cuda/launchers.hpp>
#include <ether/backends/cuda/vector.cuh>

#include <algorithm>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// Groups of `lanes` threads share a chunk of block_size columns, `vector` elements at a time.
template <int lanes_, int vector_>
struct RowShape {
  static constexpr int lanes = lanes_, vector = vector_;
  static constexpr int threads = lanes < 128 ? 128 : lanes;
  static constexpr int groups = threads / lanes;  // in a thread block
  static constexpr int step = lanes * vector;
};

/// Reflection::block, for device code.
template <class W>
ETHER_DEVICE Index block_of(const Reflection<W>& h, Index row, Index chunk) {
  const Index at = h.first + row * h.step + chunk;
  return h.period == 1 ? at : at / h.period;
}

/// What is added to a row after its reflection: see ColumnShare in launchers.hpp.
template <class W>
struct ShareOfRow {
  W factor[2] = {};
  const W* sums[2] = {};

  ETHER_DEVICE ShareOfRow(const ColumnShare<W>& share, Index row) {
    const Index block = share.terms == 0 ? 0 : row / share.height;
    ETHER_UNROLL
    for (int k = 0; k < 2; ++k)
      if (k < share.terms) {
        factor[k] = share.coefficient.data[k * share.coefficient.stride + block] *
                    share.unit.data[k * share.unit.stride + row];
        sums[k] = share.sums.data + (block * share.terms + k) * share.sums.stride;
      }
  }
};

/// value += factor * vector at `from`.
template <int vector, class T, class W>
ETHER_DEVICE void multiply_add(W (&value)[vector], W factor, const T* from) {
  W more[vector];
  load(from, more);
  ETHER_UNROLL
  for (int e = 0; e < vector; ++e) value[e] += factor * more[e];
}
/// sum += the vector at `from` times `value`, over its elements.
template <int vector, class T, class W>
ETHER_DEVICE void multiply_sum(W& sum, const W (&value)[vector], const T* from) {
  W more[vector];
  load(from, more);
  ETHER_UNROLL
  for (int e = 0; e < vector; ++e) sum += more[e] * value[e];
}

/// out = in H + add + share (see launchers.hpp). A group takes `rows_each` rows that follow each
/// other, in one chunk of columns. What a row reads for its dots comes from the L1 cache when it is
/// read again for the update, as do the unit vectors for the next row.
template <class A, class B, int terms, class Shape>
__global__ void __launch_bounds__(Shape::threads, 768 / Shape::threads)
    reflect_rows_kernel(Reflection<Wide<B>> h, MatrixView<const A> in, MatrixView<B> out,
                        MatrixView<const B> add, ColumnShare<Wide<B>> share, Index rows_each) {
  using W = Wide<B>;
  constexpr int vector = Shape::vector, sums = terms > 0 ? terms : 1;
  constexpr int scratch_size = group_sum_scratch<Shape::lanes, sums>;
  ETHER_SHARED(W, scratch, 2 * scratch_size);

  const Index group = Index{blockIdx.x} * Shape::groups + threadIdx.x / Shape::lanes;
  const Index chunk = group % h.blocks, first_row = group / h.blocks * rows_each;
  const int size = static_cast<int>(h.block_size);
  const int begin = static_cast<int>(threadIdx.x) % Shape::lanes * vector;

  wait_for_previous_kernel();
  for (Index step = 0; step < rows_each; ++step) {
    const Index row = first_row + step;
    const bool live = row < in.rows;
    const Index block = live ? block_of(h, row, chunk) : 0;
    const A* const from = in.data + row * in.stride + chunk * h.block_size;
    const W* const unit = h.unit.data + block * h.block_size;

    W dot[sums] = {}, x[vector];
    if (live) {
      ETHER_UNROLL_BY(2)
      for (int i = begin; i < size; i += Shape::step) {
        load(from + i, x);
        ETHER_UNROLL
        for (int k = 0; k < terms; ++k) multiply_sum(dot[k], x, unit + k * h.unit.stride + i);
      }
    }
    if constexpr (terms > 0) group_sum<Shape::lanes>(dot, scratch + step % 2 * scratch_size);
    if (!live) continue;

    ETHER_UNROLL
    for (int k = 0; k < terms; ++k) dot[k] *= h.coefficient.data[k * h.coefficient.stride + block];
    const ShareOfRow<W> share_of_row(share, row);
    ETHER_UNROLL_BY(2)
    for (int i = begin; i < size; i += Shape::step) {
      const Index column = chunk * h.block_size + i;
      load(from + i, x);
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) multiply_add(x, dot[k], unit + k * h.unit.stride + i);
      if (add.rows != 0) multiply_add(x, W(1), add.data + row * add.stride + column);
      ETHER_UNROLL
      for (int k = 0; k < 2; ++k)
        if (k < share.terms) multiply_add(x, share_of_row.factor[k], share_of_row.sums[k] + column);
      store(out.data + row * out.stride + column, x);
    }
  }
  let_next_kernel_start();
}

/// How many rows a group takes: enough groups to fill the device several times, then longer ones,
/// which find the unit vectors in the cache.
inline Index rows_for_a_group(const Launch& where, Index rows, Index blocks, int lanes) {
  const Index groups_at_once = Index{where.processors} * (2048 / lanes);
  return std::max<Index>(1, rows * blocks / (4 * groups_at_once));
}

template <class A, class B, int terms, class Shape>
void launch_reflect_rows(const Launch& where, const Reflection<Wide<B>>& h, MatrixView<const A> in,
                         MatrixView<B> out, MatrixView<const B> add,
                         const ColumnShare<Wide<B>>& share) {
  const Index each = rows_for_a_group(where, in.rows, h.blocks, Shape::lanes);
  const Index groups = (in.rows + each - 1) / each * h.blocks;
  const Index blocks = (groups + Shape::groups - 1) / Shape::groups;
  launch<reflect_rows_kernel<A, B, terms, Shape>>(where, dim3(static_cast<unsigned>(blocks)),
                                                  Shape::threads, 0, h, in, out, add, share, each);
}

/// Vectors of 16 bytes where sizes and addresses allow it, else of 4, else single elements.
template <class A, class B, int terms>
void reflect_rows_of(const Launch& where, const Reflection<Wide<B>>& h, MatrixView<const A> in,
                     MatrixView<B> out, MatrixView<const B> add,
                     const ColumnShare<Wide<B>>& share) {
  const auto fits = [&](int vector) {
    return h.block_size % vector == 0 && aligned(in, vector) && aligned(out, vector) &&
           aligned(add, vector) && aligned(h.unit, vector) && aligned(share.sums, vector);
  };
  const auto run = [&](auto shape) {
    launch_reflect_rows<A, B, terms, decltype(shape)>(where, h, in, out, add, share);
  };
  constexpr int full = full_vector<A>, pair = sizeof(A) < 4 ? 2 : 1;
  if constexpr (std::is_same_v<A, B>) {
    if (fits(full)) {
      if (h.block_size <= 16 * full) return run(RowShape<16, full>{});
      if (h.block_size <= 128 * full) return run(RowShape<32, full>{});
      return run(RowShape<256, full>{});
    }
    if (pair > 1 && fits(pair))
      return h.block_size <= 128 * pair ? run(RowShape<32, pair>{}) : run(RowShape<256, pair>{});
  }
  h.block_size <= 128 ? run(RowShape<32, 1>{}) : run(RowShape<256, 1>{});
}

template <class A, class B>
void reflect_rows(const Launch& where, const Reflection<Wide<B>>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const B> add, const ColumnShare<Wide<B>>& share) {
  if (in.empty()) return;
  const auto run = [&](auto terms) {
    reflect_rows_of<A, B, decltype(terms)::value>(where, h, in, out, add, share);
  };
  h.terms() == 0   ? run(std::integral_constant<int, 0>{})
  : h.terms() == 1 ? run(std::integral_constant<int, 1>{})
                   : run(std::integral_constant<int, 2>{});
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
