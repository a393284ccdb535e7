#pragma once

/// Gradients of u and v, with the reflection of the gradient itself in the same reading.
///
/// Sums over rows are cut into chunks by the number of rows alone and added in a fixed order: no
/// atomics, the same bits in every run and on every device.

#include <ether/backends/cuda/reflect_rows.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// A RowShape whose threads keep the sums of `held` vectors in registers; those of a longer block
/// lie in memory, each touched by one thread only.
template <int lanes, int vector, int held_>
struct GradShape : RowShape<lanes, vector> {
  static constexpr int held = held_;
};

/// partial (chunks * terms, width) and out (see launchers.hpp); a group has one chunk of `height`
/// rows and one of block_size columns.
template <class T, int terms, class Shape>
__global__ void __launch_bounds__(Shape::threads, 512 / Shape::threads)
    reflect_grad_kernel(Reflection<Wide<T>> h, MatrixView<const T> t, MatrixView<const T> r,
                        MatrixView<T> out, Index height, MatrixView<Wide<T>> partial) {
  using W = Wide<T>;
  constexpr int vector = Shape::vector, held = Shape::held;
  constexpr int scratch_size = group_sum_scratch<Shape::lanes, 2 * terms>;
  ETHER_SHARED(W, scratch, 2 * scratch_size);

  const Index group = Index{blockIdx.x} * Shape::groups + threadIdx.x / Shape::lanes;
  const Index chunk = group % h.blocks, part = group / h.blocks, first_row = part * height;
  const int size = static_cast<int>(h.block_size);
  const int begin = static_cast<int>(threadIdx.x) % Shape::lanes * vector;
  const Index column = chunk * h.block_size, block = block_of(h, 0, chunk);
  const W* const unit = h.unit.data + block * h.block_size;
  W* const sums = partial.data + part * terms * partial.stride + column;

  // of row after row: sum += (ŵ.t) r + (ŵ.r) t
  W sum[terms][held][vector] = {};
  wait_for_previous_kernel();
  for (Index step = 0; step < height; ++step) {
    const Index row = first_row + step;
    const bool live = row < t.rows;
    const T* const t_row = t.data + row * t.stride + column;
    const T* const r_row = r.data + row * r.stride + column;

    W dot[2 * terms] = {}, t_value[vector], r_value[vector];  // ŵ_k.t, then ŵ_k.r
    if (live) {
      ETHER_UNROLL_BY(2)
      for (int i = begin; i < size; i += Shape::step) {
        load(t_row + i, t_value);
        load(r_row + i, r_value);
        ETHER_UNROLL
        for (int k = 0; k < terms; ++k) {
          multiply_sum(dot[k], t_value, unit + k * h.unit.stride + i);
          multiply_sum(dot[terms + k], r_value, unit + k * h.unit.stride + i);
        }
      }
    }
    group_sum<Shape::lanes>(dot, scratch + step % 2 * scratch_size);
    if (!live) continue;

    const auto write = [&](int i) {  // r_value H
      if (out.rows == 0) return;
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k)
        multiply_add(r_value, h.coefficient.data[k * h.coefficient.stride + block] * dot[terms + k],
                     unit + k * h.unit.stride + i);
      store(out.data + row * out.stride + column + i, r_value);
    };
    ETHER_UNROLL
    for (int v = 0; v < held; ++v)
      if (const int i = begin + v * Shape::step; i < size) {
        load(t_row + i, t_value);
        load(r_row + i, r_value);
        ETHER_UNROLL
        for (int k = 0; k < terms; ++k) {
          ETHER_UNROLL
          for (int e = 0; e < vector; ++e)
            sum[k][v][e] += dot[k] * r_value[e] + dot[terms + k] * t_value[e];
        }
        write(i);
      }
    for (int i = begin + held * Shape::step; i < size; i += Shape::step) {
      load(t_row + i, t_value);
      load(r_row + i, r_value);
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) {
        W* const at = sums + k * partial.stride + i;
        W more[vector] = {};
        if (step > 0) load(at, more);
        ETHER_UNROLL
        for (int e = 0; e < vector; ++e)
          more[e] += dot[k] * r_value[e] + dot[terms + k] * t_value[e];
        store(at, more);
      }
      write(i);
    }
  }
  let_next_kernel_start();
  if (first_row < t.rows) {
    ETHER_UNROLL
    for (int v = 0; v < held; ++v)
      if (const int i = begin + v * Shape::step; i < size) {
        ETHER_UNROLL
        for (int k = 0; k < terms; ++k) store(sums + k * partial.stride + i, sum[k][v]);
      }
  }
}

inline constexpr int project_threads = 256;

/// One thread block for each block of h and term. In layout row_chunk several chunks of columns
/// share a block: their sums are added.
template <class W>
__global__ void __launch_bounds__(project_threads, 1)
    project_grad_kernel(Reflection<W> h, MatrixView<const W> sums, MatrixView<W> grads) {
  ETHER_SHARED(W, scratch, (group_sum_scratch<project_threads, 1>));
  const Index block = blockIdx.x % h.blocks, k = blockIdx.x / h.blocks;
  const int size = static_cast<int>(h.block_size), begin = static_cast<int>(threadIdx.x);
  const Index first_chunk = block * h.period - h.first, behind_chunks = first_chunk + h.period;
  const Index from = first_chunk > 0 ? first_chunk : 0;
  const Index to = behind_chunks < h.blocks ? behind_chunks : h.blocks;
  const W* const unit = h.unit.data + k * h.unit.stride + block * h.block_size;
  const auto of_chunks = [&](int i) {
    W g = 0;
    for (Index chunk = from; chunk < to; ++chunk)
      g += sums.data[k * sums.stride + chunk * h.block_size + i];
    return g;
  };

  wait_for_previous_kernel();
  W dot[1] = {};
  for (int i = begin; i < size; i += project_threads) dot[0] += unit[i] * of_chunks(i);
  group_sum<project_threads>(dot, scratch);
  const W factor = h.coefficient.data[k * h.coefficient.stride + block] *
                   h.inverse_length.data[k * h.inverse_length.stride + block];
  W* const grad = grads.data + k * grads.stride + block * h.block_size;
  for (int i = begin; i < size && from < to; i += project_threads)
    grad[i] += factor * (of_chunks(i) - dot[0] * unit[i]);
  let_next_kernel_start();
}

template <class T, int terms>
void launch_reflect_grad(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> t,
                         MatrixView<const T> r, MatrixView<T> out, Index height,
                         MatrixView<Wide<T>> partial) {
  const auto run = [&](auto shape) {
    using Shape = decltype(shape);
    const Index groups = (t.rows + height - 1) / height * h.blocks;
    const Index blocks = (groups + Shape::groups - 1) / Shape::groups;
    launch<reflect_grad_kernel<T, terms, Shape>>(where, dim3(static_cast<unsigned>(blocks)),
                                                 Shape::threads, 0, h, t, r, out, height, partial);
  };
  constexpr int full = full_vector<T>;
  if (h.block_size % full != 0 || !aligned(t, full) || !aligned(r, full) || !aligned(out, full) ||
      !aligned(h.unit, full) || !aligned(partial, full))
    return h.block_size <= 128 ? run(GradShape<32, 1, 4>{}) : run(GradShape<256, 1, 8>{});
  if (h.block_size <= 16 * full) return run(GradShape<16, full, 1>{});
  if (h.block_size <= 64 * full) return run(GradShape<32, full, 2>{});
  run(GradShape<256, full, 2>{});
}

template <class T>
void reflect_grad(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> t,
                  MatrixView<const T> r, MatrixView<T> out, Index height,
                  MatrixView<Wide<T>> partial) {
  h.terms() == 1 ? launch_reflect_grad<T, 1>(where, h, t, r, out, height, partial)
                 : launch_reflect_grad<T, 2>(where, h, t, r, out, height, partial);
}

template <class W>
void project_grad(const Launch& where, const Reflection<W>& h, MatrixView<const W> sums,
                  MatrixView<W> grads) {
  launch<project_grad_kernel<W>>(where, dim3(static_cast<unsigned>(h.blocks * h.terms())),
                                 project_threads, 0, h, sums, grads);
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
