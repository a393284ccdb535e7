#pragma once

/// The row operation on the CPU: out = in H + add.

#include <ether/backends/eigen/context.hpp>
#include <ether/backends/eigen/simd.hpp>
#include <ether/transform.hpp>

namespace ether::detail {

/// Elements that one task should have at least: a few microseconds of work.
inline constexpr Index task_elements = 16384;

/// One block of one row: out[i] = in[i] + add[i] + sum_k alpha_k w_k[i], alpha_k = c_k (in . w_k),
/// with w_k = unit + k * unit_stride, c_k = coefficient[k * coefficient_stride]. `add` may be null.
/// out may be in or add.
template <int Terms, class P, class A, class B, class C>
void reflect_block(const A* in, B* out, const C* addend, Index size, const P* unit,
                   Index unit_stride, const P* coefficient, Index coefficient_stride) {
  constexpr Index L = lanes<P>;
  constexpr int size_k = Terms == 0 ? 1 : Terms;  // no arrays of length 0
  using V = Packet<P>;
  const Index vector_end = size / L * L, pair_end = size / (2 * L) * (2 * L);
  const auto w = [&](int k, Index i) { return unit + k * unit_stride + i; };

  P alpha[size_k] = {};
  if constexpr (Terms != 0) {
    V even[Terms], odd[Terms];
    for (int k = 0; k < Terms; ++k) even[k] = odd[k] = broadcast(P(0));
    Index i = 0;
    for (; i < pair_end; i += 2 * L) {
      const V a = load<P>(in + i), b = load<P>(in + i + L);
      for (int k = 0; k < Terms; ++k) {
        even[k] = multiply_add(a, load<P>(w(k, i)), even[k]);
        odd[k] = multiply_add(b, load<P>(w(k, i + L)), odd[k]);
      }
    }
    for (; i < vector_end; i += L)
      for (int k = 0; k < Terms; ++k)
        even[k] = multiply_add(load<P>(in + i), load<P>(w(k, i)), even[k]);
    for (int k = 0; k < Terms; ++k) alpha[k] = sum(add(even[k], odd[k]));
    for (; i < size; ++i)
      for (int k = 0; k < Terms; ++k) alpha[k] += static_cast<P>(in[i]) * *w(k, i);
    for (int k = 0; k < Terms; ++k) alpha[k] *= coefficient[k * coefficient_stride];
  }

  V factor[size_k];
  for (int k = 0; k < size_k; ++k) factor[k] = broadcast(alpha[k]);
  Index i = 0;
  for (; i < vector_end; i += L) {
    V value = load<P>(in + i);
    if (addend != nullptr) value = add(value, load<P>(addend + i));
    for (int k = 0; k < Terms; ++k) value = multiply_add(factor[k], load<P>(w(k, i)), value);
    store<P>(out + i, value);
  }
  for (; i < size; ++i) {
    P value = static_cast<P>(in[i]);
    if (addend != nullptr) value += static_cast<P>(addend[i]);
    for (int k = 0; k < Terms; ++k) value += alpha[k] * *w(k, i);
    out[i] = static_cast<B>(value);
  }
}

/// The blocks `chunk` to `chunk_end` of row `row`; the pointers are at the first of them.
template <class P, class A, class B, class C>
void reflect_chunks(const Reflection<P>& h, Index row, Index chunk, Index chunk_end, const A* in,
                    B* out, const C* addend) {
  const Index size = h.block_size;
  for (; chunk < chunk_end; ++chunk, in += size, out += size) {
    const Index b = h.terms() == 0 ? 0 : h.block(row, chunk);
    const P* const unit = h.unit.data + b * size;
    const P* const c = h.coefficient.data + b;
    if (h.terms() == 0)
      reflect_block<0>(in, out, addend, size, unit, 0, c, 0);
    else if (h.terms() == 1)
      reflect_block<1>(in, out, addend, size, unit, 0, c, 0);
    else
      reflect_block<2>(in, out, addend, size, unit, h.unit.stride, c, h.coefficient.stride);
    if (addend != nullptr) addend += size;
  }
}

/// out (rows, width) = in H + add, see backend.hpp. Memory is read once and written once.
template <class P, class A, class B, class C>
void reflect_rows(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const C> add) {
  if (in.empty()) return;
  const bool stream = worth_streaming(in, out);
  // A task is a run of neighbouring blocks of one row, so that the threads share a long row too, or
  // several whole rows where they are short. Streamed rows stay whole.
  const Index run =
      stream ? h.blocks : std::clamp<Index>(task_elements / h.block_size, 1, h.blocks);
  const Index runs = (h.blocks + run - 1) / run;
  const Index rows = runs > 1 ? 1 : std::max<Index>(1, task_elements / h.width());
  const Index row_tasks = (in.rows + rows - 1) / rows;

  EigenContext::Frame frame(ctx);
  const MatrixView<B> staging = frame.matrix<B>(stream ? ctx.threads() : 0, h.width());
  ctx.parallel_for(row_tasks * runs, [&](Index task, int thread) {
    const Index chunk = task % runs * run, chunk_end = std::min(h.blocks, chunk + run);
    const Index column = chunk * h.block_size, first = task / runs * rows;
    for (Index row = first; row < std::min(in.rows, first + rows); ++row) {
      B* const to = out.row(row) + column;
      B* const result = stream ? staging.row(thread) : to;
      const C* const addend = add.rows == 0 ? nullptr : add.row(row) + column;
      reflect_chunks(h, row, chunk, chunk_end, in.row(row) + column, result, addend);
      if (stream) stream_copy(result, h.width(), to);
    }
    if (stream) finish_streaming();
  });
}

}  // namespace ether::detail
