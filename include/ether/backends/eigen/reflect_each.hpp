#pragma once

/// Rows with adapters of their own on the CPU: the row operation, the packing for the product, and the
/// gradients. One row at a time, whatever its neighbours have, so that its bits do not depend on them.

#include <ether/backends/eigen/pack.hpp>
#include <ether/backends/eigen/reflect_grad.hpp>
#include <ether/row_reflections.hpp>

#include <algorithm>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// out = in H + add, one row; no add where it is nullptr. out may be in or add.
template <int Terms, class P, class U, class A, class B, class Add>
EIGEN_DONT_INLINE void reflect_row(const RowReflection<P, U>& h, const A* in, B* out, Add add) {
  P factors[Terms == 0 ? 1 : Terms];
  Vectors<Terms, U> w;
  for (Index b = 0; b < h.blocks; ++b) {
    const Index column = b * h.block_size;
    dot_block<Terms, 1>(h, b, in + column, 0, factors, Terms);
    for (int k = 0; k < Terms; ++k) w.vector[k] = h.unit.row(k) + column;
    const auto finish = [&](auto add_row) ETHER_INLINE_LAMBDA {
      add_vectors<Terms, 1, Place::cached>(in + column, 0, out + column, 0, add_row, 0,
                                           h.block_size, w, factors);
    };
    if constexpr (std::is_null_pointer_v<Add>)
      finish(nullptr);
    else
      finish(add + column);
  }
}

/// out (rows, width) = in H + add, see backend.hpp.
template <class P, class U, class A, class B, class C>
void reflect_rows(EigenContext& ctx, const RowReflections<P, U>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const C> add) {
  if (in.empty()) return;
  const bool stays = same_matrix(in, out) && add.rows == 0;  // without an H
  ctx.parallel_for(in.rows, in.rows * in.cols * (1 + h.terms()), [&](Index r, int) {
    const RowReflection<P, U> row = h.row(r);
    if (stays && row.terms() == 0) return;
    with_terms(row.terms(), [&](auto terms) {
      constexpr int count = decltype(terms)::value;
      if (add.rows == 0)
        reflect_row<count>(row, in.row(r), out.row(r), nullptr);
      else
        reflect_row<count>(row, in.row(r), out.row(r), add.row(r));
    });
  });
}

/// Packs a H, see pack.hpp. Rows that have an H are transformed in the cache, and packed from there.
template <class P, class U, class A>
void pack_tokens(EigenContext& ctx, const RowReflections<P, U>& h, MatrixView<const A> a,
                 P* packed) {
  constexpr Index group = pack_group_rows;
  const Index tokens = round_up(a.rows, panel_tokens<P>), tasks = tokens / group;
  const Index row_size = round_up(a.cols, line_of<P>) + line_of<P>;  // not a power of two apart
  EigenContext::Frame frame(ctx);
  P* const scratch = frame.array<P>(ctx.threads() * group * row_size);
  ctx.parallel_for(tasks, tokens * a.cols, [&](Index task, int thread) {
    const Index first = task * group, count = std::clamp<Index>(a.rows - first, 0, group);
    const MatrixView<P> rows{scratch + thread * group * row_size, group, a.cols, row_size};
    bool all_frozen = true;
    for (Index r = 0; r < count; ++r) all_frozen &= h.row(first + r).terms() == 0;
    if (all_frozen)
      return pack_group(identity<P>(a.cols), a.middle_rows(first, count), first, tokens, packed);
    for (Index r = 0; r < count; ++r) {
      const RowReflection<P, U> row = h.row(first + r);
      with_terms(row.terms(), [&](auto terms) {
        reflect_row<decltype(terms)::value>(row, a.row(first + r), rows.row(r), nullptr);
      });
    }
    pack_group(identity<P>(a.cols), MatrixView<const P>(rows.middle_rows(0, count)), first, tokens,
               packed);
  });
}

/// grads (slots * terms, width) += g_k - (ŵ_k.g_k) ŵ_k for the slots that occur, with
/// g_k = c_k sum_rows (ŵ_k.t) r + (ŵ_k.r) t: the gradients of vectors of length 1. The rows of a slot are
/// added up in their order, by one thread for each part of its blocks.
template <class P, class A, class B>
void reflect_grad(EigenContext& ctx, const RowReflections<P, P>& h, MatrixView<const A> t,
                  MatrixView<const B> r, MatrixView<P> grads) {
  constexpr Index parts = 8;
  EigenContext::Frame frame(ctx);
  Index* const order = frame.array<Index>(t.rows);  // of the rows that have an H, by slot
  Index count = 0;
  for (Index row = 0; row < t.rows; ++row)
    if (h.row(row).terms() != 0) order[count++] = row;
  std::sort(order, order + count,
            [&](Index a, Index b) { return h.ids[a] != h.ids[b] ? h.ids[a] < h.ids[b] : a < b; });
  Index* const first = frame.array<Index>(count + 1);  // of the rows of each slot, in `order`
  Index slots = 0;
  for (Index i = 0; i < count; ++i)
    if (i == 0 || h.ids[order[i]] != h.ids[order[i - 1]]) first[slots++] = i;
  first[slots] = count;

  const Index scratch_size = h.terms() * h.width();
  P* const scratch = frame.array<P>(ctx.threads() * scratch_size);
  ctx.parallel_for(slots * parts, count * scratch_size, [&](Index task, int thread) {
    const Index begin = first[task / parts], end = first[task / parts + 1], part = task % parts;
    const RowReflection<P, P> row = h.row(order[begin]);
    const Index size = row.block_size, slot = h.ids[order[begin]];
    P* const sums = scratch + thread * scratch_size;
    with_terms(row.terms(), [&](auto terms) {
      constexpr int k_end = decltype(terms)::value;
      if constexpr (k_end != 0)
        for (Index b = row.blocks * part / parts; b < row.blocks * (part + 1) / parts; ++b) {
          const Index column = b * size;
          std::fill_n(sums, k_end * size, P(0));
          for (Index i = begin; i < end; ++i)
            grad_block<k_end>(t.row(order[i]) + column, r.row(order[i]) + column, size,
                              row.unit.data + column, row.unit.stride, sums, size);
          for (Index k = 0; k < k_end; ++k)
            project_block(sums + k * size, row.unit.row(k) + column, row.coefficient(k, b), P(1),
                          size, grads.row(slot * h.terms() + k) + column);
        }
    });
  });
}

}  // namespace detail
ETHER_END_NAMESPACE
