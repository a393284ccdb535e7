#pragma once

/// The row operation on the CPU.

#include <ether/backends/eigen/context.hpp>
#include <ether/simd/stream.hpp>
#include <ether/transform.hpp>

#include <type_traits>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// Elements that one task should have at least: a few microseconds of work.
inline constexpr Index task_elements = 16384;

/// Calls f(std::integral_constant<int, terms>) for a Reflection's number of terms.
template <class F>
void with_terms(Index terms, F&& f) {
  if (terms == 0) f(std::integral_constant<int, 0>{});
  if (terms == 1) f(std::integral_constant<int, 1>{});
  if (terms == 2) f(std::integral_constant<int, 2>{});
}

/// Where the rows are: in the cache; perhaps in memory, so that the next ones are asked for early;
/// or too many for the cache, so that besides, out is written past it. Packed: as cached, but out is
/// written transposed, in_r[i] to out[i * out_stride + r], and is not in.
enum class Place { cached, memory, streamed, packed };

/// Vectors that a row operation adds, from the block at hand on.
template <int Count, class U>
struct Vectors {
  const U* vector[Count == 0 ? 1 : Count] = {};  // no arrays of length 0
};

/// factor(r, k) = c_k (in_r . w_k) for Rows neighbouring rows and block b of h, a Reflection or a
/// RowReflection; factor(r, k) = factors[r * stride + k].
template <int Dots, int Rows, class H, class P, class A>
EIGEN_ALWAYS_INLINE void dot_block(const H& h, Index b, const A* in, Index in_stride, P* factors,
                                   int stride) {
  if constexpr (Dots != 0) {
    constexpr Index L = lanes<P>;
    using V = Packet<P>;
    const Index size = h.block_size;
    const auto* const unit = h.unit.data + b * size;
    // Fewer rows take more partial sums each, to keep the multipliers busy.
    constexpr int ways = Rows == 1 ? 4 : 1;
    V sums[ways * Rows * Dots];  // way, row, vector
    unroll<ways * Rows * Dots>([&](auto at) ETHER_INLINE_LAMBDA { sums[at] = broadcast(P(0)); });
    Index i = 0;
    const auto accumulate = [&](auto way, Index at, const auto& load_at) ETHER_INLINE_LAMBDA {
      V w[Dots];
      unroll<Dots>([&](auto k)
                       ETHER_INLINE_LAMBDA { w[k] = load_at(unit + k * h.unit.stride + at); });
      unroll<Rows>([&](auto r) ETHER_INLINE_LAMBDA {
        const V x = load_at(in + r * in_stride + at);
        unroll<Dots>([&](auto k) ETHER_INLINE_LAMBDA {
          V& total = sums[(way * Rows + r) * Dots + k];
          total = multiply_add(x, w[k], total);
        });
      });
    };
    const auto whole = [](const auto* from) { return load<P>(from); };
    constexpr std::integral_constant<int, 0> first{};
    for (; i + ways * L <= size; i += ways * L)
      unroll<ways>([&](auto way) ETHER_INLINE_LAMBDA { accumulate(way, i + way * L, whole); });
    for (; i + L <= size; i += L) accumulate(first, i, whole);
    if (i != size)
      accumulate(first, i, [&](const auto* from) { return load_tail<P>(from, size - i); });
    unroll<Rows * Dots>([&](auto at) ETHER_INLINE_LAMBDA {
      V total = sums[at];
      unroll<ways - 1>([&](auto way) ETHER_INLINE_LAMBDA {
        total = add(total, sums[(way + 1) * Rows * Dots + at]);
      });
      factors[at / Dots * stride + at % Dots] = sum(total) * h.coefficient(at % Dots, b);
    });
  }
}

/// out_r = in_r + add_r + sum_k factor(r, k) v_k for Rows neighbouring rows, factor(r, k) =
/// factors[r * Count + k], add_r = add + r * add_stride; no add_r where add is nullptr. out may be in
/// or add.
template <int Count, int Rows, Place Where, class P, class U, class A, class B, class Add>
EIGEN_ALWAYS_INLINE void add_vectors(const A* in, Index in_stride, B* out, Index out_stride,
                                     Add add, Index add_stride, Index size,
                                     const Vectors<Count, U>& v, const P* factors) {
  constexpr Index L = lanes<P>;
  using V = Packet<P>;
  constexpr int some = Count == 0 ? 1 : Count;
  V factor[Rows * some];
  unroll<Rows * Count>([&](auto at) ETHER_INLINE_LAMBDA { factor[at] = broadcast(factors[at]); });
  const auto update = [&](Index i, const auto& load_at, const auto& store_at) ETHER_INLINE_LAMBDA {
    if ((Where == Place::memory || Where == Place::streamed) && Rows > 1 && i % line_of<A> == 0)
      for (int r = 0; r < Rows; ++r) prefetch(in, (r + Rows) * in_stride + i);
    V w[some];
    unroll<Count>([&](auto k) ETHER_INLINE_LAMBDA { w[k] = load_at(v.vector[k] + i); });
    const auto updated = [&](auto r) ETHER_INLINE_LAMBDA {
      V value = load_at(in + r * in_stride + i);
      if constexpr (!std::is_null_pointer_v<Add>)
        value = detail::add(value, load_at(add + r * add_stride + i));
      unroll<Count>([&](auto k) ETHER_INLINE_LAMBDA {
        value = multiply_add(factor[r * Count + k], w[k], value);
      });
      return value;
    };
    if constexpr (Where == Place::packed) {
      V value[Rows];
      unroll<Rows>([&](auto r) ETHER_INLINE_LAMBDA { value[r] = updated(r); });
      store_transposed<Rows>(out + i * out_stride, out_stride, value, (std::min)(size - i, L));
    } else {
      unroll<Rows>([&](auto r)
                       ETHER_INLINE_LAMBDA { store_at(out + r * out_stride + i, updated(r)); });
    }
  };
  Index i = 0;
  for (; i + L <= size; i += L)
    update(
        i, [](const auto* from) { return load<P>(from); },
        [](B* to, const V& value) ETHER_INLINE_LAMBDA {
          if constexpr (Where == Place::streamed)
            stream<P>(to, value);
          else
            store<P>(to, value);
        });
  if (i == size) return;
  const Index rest = size - i;
  update(
      i, [=](const auto* from) { return load_tail<P>(from, rest); },
      [=](B* to, const V& value) ETHER_INLINE_LAMBDA {
        if constexpr (Where == Place::streamed)
          stream_tail<P>(to, value, rest);
        else
          store_tail<P>(to, value, rest);
      });
}

/// The blocks `chunk` to `chunk_end` of Rows rows from `row` on, all seeing the same blocks of h:
///
///     out_r = in_r + add_r + sum_k c_k (in_r . w_k) w_k + sum_j given_rj v_j
///
/// for the vectors w_k of h and the rows v_j of `given`.
///
/// Not inlined: within a larger function g++ spills registers in the loops (AVX2).
template <int Dots, int Adds, int Rows, Place Where, class P, class A, class B, class C>
EIGEN_DONT_INLINE void update_chunks(const Reflection<P>& h, Index row, Index chunk,
                                     Index chunk_end, MatrixView<const A> in, MatrixView<B> out,
                                     MatrixView<const C> add, MatrixView<const P> given,
                                     const P* given_factor) {
  constexpr int count = Dots + Adds;
  const Index size = h.block_size;
  Vectors<count, P> v;
  P factors[Rows * (count == 0 ? 1 : count)];
  for (int r = 0; r < Rows; ++r)
    std::copy_n(given_factor + r * Adds, Adds, factors + r * count + Dots);
  for (; chunk < chunk_end; ++chunk) {
    const Index column = chunk * size, b = Dots == 0 ? 0 : h.block(row, chunk);
    const A* const from = in.row(row) + column;
    dot_block<Dots, Rows>(h, b, from, in.stride, factors, count);
    for (int k = 0; k < Dots; ++k) v.vector[k] = h.unit.row(k) + b * size;
    for (int j = 0; j < Adds; ++j) v.vector[Dots + j] = given.row(j) + column;
    const auto finish = [&](auto add_row, Index add_stride) ETHER_INLINE_LAMBDA {
      add_vectors<count, Rows, Where>(from, in.stride, out.row(row) + column, out.stride, add_row,
                                      add_stride, size, v, factors);
    };
    if (add.rows == 0)
      finish(nullptr, 0);
    else
      finish(add.row(row) + column, add.stride);
  }
}

/// out = in H + add + given_factor given, for rows `row` to `row_end` and the blocks `chunk` to
/// `chunk_end`: four rows at a time share the vectors they are multiplied with. `given` (Adds,
/// width) has factor(row, j) for each row.
template <int Dots, int Adds, Place Where, class P, class A, class B, class C, class Factor>
void update_range(const Reflection<P>& h, Index row, Index row_end, Index chunk, Index chunk_end,
                  MatrixView<const A> in, MatrixView<B> out, MatrixView<const C> add,
                  MatrixView<const P> given, Factor&& factor) {
  constexpr int group = 4;
  P factors[group * (Adds == 0 ? 1 : Adds)] = {};
  while (row < row_end) {
    const bool together = h.rows_alike(row, row_end) >= group;
    const int rows = together ? group : 1;
    for (int r = 0; r < rows; ++r)
      for (int j = 0; j < Adds; ++j) factors[r * Adds + j] = factor(row + r, j);
    if (together)
      update_chunks<Dots, Adds, group, Where>(h, row, chunk, chunk_end, in, out, add, given,
                                              factors);
    else
      update_chunks<Dots, Adds, 1, Where>(h, row, chunk, chunk_end, in, out, add, given, factors);
    row += rows;
  }
}

/// out = in H + add, by the calling thread, for data in its cache.
template <class P, class A, class B, class C>
void reflect_tile(const Reflection<P>& h, MatrixView<const A> in, MatrixView<B> out,
                  MatrixView<const C> add) {
  with_terms(h.terms(), [&](auto terms) {
    update_range<decltype(terms)::value, 0, Place::cached>(h, 0, in.rows, 0, h.blocks, in, out, add,
                                                           MatrixView<const P>{},
                                                           [](Index, int) { return P(0); });
  });
}

template <int Dots, Place Where, class P, class A, class B, class C>
void reflect_rows(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const C> add) {
  // A task is a run of neighbouring blocks of one row, so that the threads share a long row too, or
  // several whole rows where they are short.
  const Index run = std::clamp<Index>(task_elements / h.block_size, 1, h.blocks);
  const Index runs = (h.blocks + run - 1) / run;
  const Index rows = std::max<Index>(4, task_elements / h.width() / 4 * 4);
  const Index row_tasks = (in.rows + rows - 1) / rows;
  const Index work = in.rows * h.width() * (1 + Dots);
  ctx.parallel_for(row_tasks * runs, work, [&](Index task, int) {
    const Index chunk = task % runs * run, row = task / runs * rows;
    update_range<Dots, 0, Where>(h, row, (std::min)(in.rows, row + rows), chunk,
                                 (std::min)(h.blocks, chunk + run), in, out, add,
                                 MatrixView<const P>{}, [](Index, int) { return P(0); });
    if (Where == Place::streamed) finish_streaming();
  });
}

/// out (rows, width) = in H + add, see backend.hpp. Never past the cache: what comes between products
/// is soon read again.
template <class P, class A, class B, class C>
void reflect_rows(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const C> add) {
  if (in.empty()) return;
  with_terms(h.terms(), [&](auto terms) {
    reflect_rows<decltype(terms)::value, Place::memory>(ctx, h, in, out, add);
  });
}

}  // namespace detail
ETHER_END_NAMESPACE
