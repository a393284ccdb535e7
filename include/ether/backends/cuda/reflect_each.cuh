#pragma once

/// Rows that have adapters of their own (row_reflections.hpp): the row operation, and the gradients.
///
/// A thread block has one row, whose adapter says how it is cut: short blocks of H go to warps, long ones to
/// all threads. What a row becomes depends on nothing in the others.

#include <ether/backends/cuda/reflect_rows.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

inline constexpr int each_threads = 128;
/// The longest block of H that a warp takes by itself, in vectors for each of its threads.
inline constexpr int each_warp_steps = 4;

/// How row `row` is transformed; the identity where its id names no slot, which `bad_id` then says.
template <class W, class U>
ETHER_DEVICE SlotShape<W> shape_of(const RowReflections<W, U>& h, Index row) {
  const Index id = h.ids[row], slots = h.unit.rows / h.most_terms;
  if (id >= 0 && id < slots) return h.slots[id];
  if (id != -1 && h.bad_id != nullptr) *h.bad_id = 1;
  return {};
}

/// Calls f with the RowShape for blocks of H of `size`: a warp for short ones, all threads for long ones;
/// `vector` elements at a time where they fit.
template <int vector, class F>
ETHER_DEVICE void with_shape(int size, const F& f) {
  const auto choose = [&](auto elements) {
    constexpr int count = decltype(elements)::value;
    if (size <= each_warp_steps * warp * count)
      f(RowShape<warp, count>{});
    else
      f(RowShape<each_threads, count>{});
  };
  if (size % vector == 0)
    choose(std::integral_constant<int, vector>{});
  else
    choose(std::integral_constant<int, 1>{});
}

/// What is added to a row, if anything.
template <class T>
ETHER_DEVICE const T* row_of(const MatrixView<const T>& add, Index row) {
  return add.rows == 0 ? nullptr : add.data + row * add.stride;
}

/// out = in H + add for the blocks part, part + parts, ... of one row; with `biased`, in has the bias already:
/// out = (in - bias) H + bias.
template <class Shape, class A, class B, class W, class U>
ETHER_DEVICE void reflect_blocks(const SlotShape<W>& shape, Index width, const U* unit,
                                 Index unit_stride, const A* in, B* out, const B* add, bool biased,
                                 Index part, Index parts, W* scratch) {
  constexpr int vector = Shape::vector, scratch_size = group_sum_scratch<each_threads, 2>;
  const int size = shape.block_size;
  const int begin = static_cast<int>(threadIdx.x) % Shape::lanes * vector;
  const Index own = threadIdx.x / Shape::lanes, blocks = width / size;
  int turn = 0;
  for (Index first = part * Shape::groups; first < blocks; first += parts * Shape::groups) {
    const Index block = first + own, column = block * size;
    const bool live = block < blocks;
    W dot[2] = {}, x[vector];
    for (int i = begin; live && i < size; i += Shape::step) {
      load(in + column + i, x);
      if (biased) multiply_add(x, W(-1), add + column + i);
      ETHER_UNROLL
      for (int k = 0; k < 2; ++k)
        if (k < shape.terms) multiply_sum(dot[k], x, unit + k * unit_stride + column + i);
    }
    group_sum<Shape::lanes>(dot, scratch + turn % 2 * scratch_size);
    ++turn;
    for (int i = begin; live && i < size; i += Shape::step) {
      load(in + column + i, x);
      ETHER_UNROLL
      for (int k = 0; k < 2; ++k)
        if (k < shape.terms)
          multiply_add(x, shape.coefficient[k] * dot[k], unit + k * unit_stride + column + i);
      if (add != nullptr && !biased) multiply_add(x, W(1), add + column + i);
      store(out + column + i, x);
    }
  }
}

/// The same for a row without adapter.
template <int vector, class W, class A, class B>
ETHER_DEVICE void copy_row(Index width, const A* in, B* out, const B* add, bool biased, Index part,
                           Index parts) {
  const Index step = parts * each_threads * vector;
  for (Index i = (part * each_threads + threadIdx.x) * vector; i < width; i += step) {
    W x[vector];
    load(in + i, x);
    if (add != nullptr && !biased) multiply_add(x, W(1), add + i);
    store(out + i, x);
  }
}

template <class A, class B, class U, int vector>
__global__ void __launch_bounds__(each_threads, 4)
    reflect_each_kernel(RowReflections<Wide<B>, U> h, MatrixView<const A> in, MatrixView<B> out,
                        MatrixView<const B> add, bool biased, Index parts) {
  using W = Wide<B>;
  ETHER_SHARED(W, scratch, (2 * group_sum_scratch<each_threads, 2>));
  const Index row = Index{blockIdx.x} / parts, part = Index{blockIdx.x} % parts;
  wait_for_previous_kernel();
  const SlotShape<W> shape = shape_of(h, row);
  const A* const from = in.data + row * in.stride;
  B* const to = out.data + row * out.stride;
  const B* const add_row = row_of(add, row);
  if (shape.terms == 0) {
    copy_row<vector, W>(h.unit.cols, from, to, add_row, biased, part, parts);
  } else {
    const U* const unit = h.unit.data + h.ids[row] * h.most_terms * h.unit.stride;
    with_shape<vector>(shape.block_size, [&](auto shaped) {
      reflect_blocks<decltype(shaped)>(shape, h.unit.cols, unit, h.unit.stride, from, to, add_row,
                                       biased, part, parts, scratch);
    });
  }
  let_next_kernel_start();
}

/// Thread blocks for one row: enough of them all to fill the device.
inline Index parts_of_row(const Launch& where, Index rows) {
  return std::clamp<Index>(4 * Index{where.processors} / rows, 1, 8);
}

template <class A, class B, class U>
void reflect_each(const Launch& where, const RowReflections<Wide<B>, U>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const B> add, bool biased) {
  if (in.empty()) return;
  constexpr int full = full_vector<A>;
  const bool fits = in.cols % full == 0 && aligned(in, full) && aligned(out, full) &&
                    aligned(add, full) && aligned(h.unit, full);
  const Index parts = parts_of_row(where, in.rows);
  const dim3 grid(static_cast<unsigned>(in.rows * parts));
  if (fits)
    launch<reflect_each_kernel<A, B, U, full>>(where, grid, each_threads, 0, h, in, out, add,
                                               biased, parts);
  else
    launch<reflect_each_kernel<A, B, U, 1>>(where, grid, each_threads, 0, h, in, out, add, biased,
                                            parts);
}

/// For the first row of each slot that occurs: the slot's rows in their order, then the projection. A thread
/// adds to the same elements throughout, so that no two meet.
template <class Shape, class T>
ETHER_DEVICE void grad_blocks(const RowReflections<Wide<T>>& h, const SlotShape<Wide<T>>& shape,
                              Index first_row, const MatrixView<const T>& t,
                              const MatrixView<const T>& r, const MatrixView<Wide<T>>& sums,
                              const MatrixView<Wide<T>>& grads, Index part, Index parts,
                              Wide<T>* scratch) {
  using W = Wide<T>;
  constexpr int vector = Shape::vector, scratch_size = group_sum_scratch<each_threads, 4>;
  const int size = shape.block_size;
  const int begin = static_cast<int>(threadIdx.x) % Shape::lanes * vector;
  const Index id = h.ids[first_row], own = threadIdx.x / Shape::lanes, blocks = h.unit.cols / size;
  int turn = 0;
  for (Index first = part * Shape::groups; first < blocks; first += parts * Shape::groups) {
    const bool live = first + own < blocks;
    const Index column = (first + own) * size;
    const W* const unit = h.unit.data + id * h.most_terms * h.unit.stride + column;
    W* const sum = sums.data + first_row * h.most_terms * sums.stride + column;
    for (Index row = first_row; row < t.rows; ++row) {
      if (h.ids[row] != id) continue;
      W dot[4] = {}, t_value[vector], r_value[vector];
      for (int i = begin; live && i < size; i += Shape::step) {
        load(t.data + row * t.stride + column + i, t_value);
        load(r.data + row * r.stride + column + i, r_value);
        ETHER_UNROLL
        for (int k = 0; k < 2; ++k)
          if (k < shape.terms) {
            multiply_sum(dot[k], t_value, unit + k * h.unit.stride + i);
            multiply_sum(dot[2 + k], r_value, unit + k * h.unit.stride + i);
          }
      }
      group_sum<Shape::lanes>(dot, scratch + turn % 2 * scratch_size);
      ++turn;
      for (int i = begin; live && i < size; i += Shape::step) {
        load(t.data + row * t.stride + column + i, t_value);
        load(r.data + row * r.stride + column + i, r_value);
        ETHER_UNROLL
        for (int k = 0; k < 2; ++k)
          if (k < shape.terms) {
            W* const at = sum + k * sums.stride + i;
            W more[vector] = {};
            if (row != first_row) load(at, more);
            ETHER_UNROLL
            for (int e = 0; e < vector; ++e)
              more[e] += dot[k] * r_value[e] + dot[2 + k] * t_value[e];
            store(at, more);
          }
      }
    }
    W dot[2] = {}, value[vector];
    for (int i = begin; live && i < size; i += Shape::step) {
      ETHER_UNROLL
      for (int k = 0; k < 2; ++k)
        if (k < shape.terms) {
          load(sum + k * sums.stride + i, value);
          multiply_sum(dot[k], value, unit + k * h.unit.stride + i);
        }
    }
    group_sum<Shape::lanes>(dot, scratch + turn % 2 * scratch_size);
    ++turn;
    for (int i = begin; live && i < size; i += Shape::step) {
      ETHER_UNROLL
      for (int k = 0; k < 2; ++k)
        if (k < shape.terms) {
          W* const at = grads.data + (id * h.most_terms + k) * grads.stride + column + i;
          W g[vector];
          load(at, g);
          load(sum + k * sums.stride + i, value);
          multiply_add(value, -dot[k], unit + k * h.unit.stride + i);
          ETHER_UNROLL
          for (int e = 0; e < vector; ++e) g[e] += shape.coefficient[k] * value[e];
          store(at, g);
        }
    }
  }
}

template <class T, int vector>
__global__ void __launch_bounds__(each_threads, 3)
    reflect_grad_each_kernel(RowReflections<Wide<T>> h, MatrixView<const T> t,
                             MatrixView<const T> r, MatrixView<Wide<T>> sums,
                             MatrixView<Wide<T>> grads, Index parts) {
  using W = Wide<T>;
  ETHER_SHARED(W, scratch, (2 * group_sum_scratch<each_threads, 4>));
  const Index row = Index{blockIdx.x} / parts, part = Index{blockIdx.x} % parts;
  wait_for_previous_kernel();
  const SlotShape<W> shape = shape_of(h, row);
  bool is_first = shape.terms != 0;
  for (Index before = 0; before < row && is_first; ++before) is_first = h.ids[before] != h.ids[row];
  if (is_first)
    with_shape<vector>(shape.block_size, [&](auto shaped) {
      grad_blocks<decltype(shaped), T>(h, shape, row, t, r, sums, grads, part, parts, scratch);
    });
  let_next_kernel_start();
}

template <class T>
void reflect_grad_each(const Launch& where, const RowReflections<Wide<T>>& h, MatrixView<const T> t,
                       MatrixView<const T> r, MatrixView<Wide<T>> sums, MatrixView<Wide<T>> grads) {
  constexpr int full = full_vector<T>;
  const bool fits = t.cols % full == 0 && aligned(t, full) && aligned(r, full) &&
                    aligned(h.unit, full) && aligned(sums, full) && aligned(grads, full);
  const Index parts = 8;  // the same on every device
  const dim3 grid(static_cast<unsigned>(t.rows * parts));
  if (fits)
    launch<reflect_grad_each_kernel<T, full>>(where, grid, each_threads, 0, h, t, r, sums, grads,
                                              parts);
  else
    launch<reflect_grad_each_kernel<T, 1>>(where, grid, each_threads, 0, h, t, r, sums, grads,
                                           parts);
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
