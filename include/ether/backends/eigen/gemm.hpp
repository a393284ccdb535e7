#pragma once

/// The product on the CPU: c (m, n) (+)= a (m, k) b^T with b (n, k), or a b with b (k, n).
///
/// Few rows of a (gemm_few.hpp): bound by reading b. More: the blocked product of this file. Its kernel
/// multiplies panels of tokens, whose vectors it reads, with elements of b, which it broadcasts, so that
/// b^T is used as it lies. Tiles depend on the shape alone, never on the number of threads, a tile of
/// a 16-bit b is widened once for up to 256 tokens, and what comes before and after the product is done
/// while its data is in the cache: see pack.hpp, multiply_reflected.hpp and output_grad.hpp.

#include <ether/backends/eigen/gemm_few.hpp>
#include <ether/backends/eigen/pack.hpp>

#include <numeric>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// The kernel's tile of c: kernel_columns columns times up to kernel_panels panels of tokens. Its sums
/// take 24 of 32 registers or 12 of 16; the rest hold the tokens and one broadcast element.
inline constexpr int kernel_columns = vector_registers == 32 ? 8 : 4;
template <class P>
inline constexpr int panel_vectors = static_cast<int>(panel_tokens<P> / lanes<P>);
template <class P>
inline constexpr int kernel_panels = panel_vectors<P> > 3 ? 1 : 3 / panel_vectors<P>;

/// Where the kernel finds b: column j's element at depth k.
template <class P>
struct RowsOfB {  // b (n, k) as it lies
  const P* row[kernel_columns];
  P operator()(int j, Index k) const { return row[j][k]; }
};
template <class P>
struct PackedB {  // (k, kernel_columns), copied
  const P* data;
  P operator()(int j, Index k) const { return data[k * kernel_columns + j]; }
};

/// sums(j, t) (+)= sum_k b(j, k) a(t, k) for the tokens t of Panels panels, `depth` apart.
template <int Panels, class P, class ColumnsOfB>
void multiply_panels(const P* panel, const ColumnsOfB& b, Index depth, bool accumulate, P* sums,
                     Index sums_stride) {
  constexpr Index L = lanes<P>, tokens = panel_tokens<P>;
  constexpr int in_panel = panel_vectors<P>, vectors = Panels * in_panel;
  Packet<P> total[kernel_columns * vectors];
  unroll<kernel_columns * vectors>([&](auto at)
                                       ETHER_INLINE_LAMBDA { total[at] = broadcast(P(0)); });
  const Index next = tokens * depth;
  const auto step = [&](Index k) ETHER_INLINE_LAMBDA {
    Packet<P> a[vectors];
    unroll<vectors>([&](auto v) ETHER_INLINE_LAMBDA {
      a[v] = load<P>(panel + v / in_panel * next + k * tokens + v % in_panel * L);
    });
    unroll<kernel_columns>([&](auto j) ETHER_INLINE_LAMBDA {
      const Packet<P> element = in_register<vectors>(broadcast(b(j, k)));
      unroll<vectors>([&](auto v) ETHER_INLINE_LAMBDA {
        total[j * vectors + v] = multiply_add(element, a[v], total[j * vectors + v]);
      });
    });
  };
  constexpr int together = 4;  // steps for each test of the loop, which is a tenth of a single step
  Index k = 0;
  for (; k + together <= depth; k += together)
    unroll<together>([&](auto i) ETHER_INLINE_LAMBDA { step(k + i); });
  for (; k < depth; ++k) step(k);
  unroll<kernel_columns * vectors>([&](auto at) ETHER_INLINE_LAMBDA {
    P* const to = sums + at / vectors * sums_stride + at % vectors * L;
    store<P>(to, accumulate ? add(load<P>(to), total[at]) : total[at]);
  });
}

/// The same for all `tokens`, whole panels.
template <class P, class ColumnsOfB>
void multiply_tokens(const P* packed, Index tokens, const ColumnsOfB& b, Index depth,
                     bool accumulate, P* sums, Index sums_stride) {
  constexpr int most = kernel_panels<P>;
  const Index panels = tokens / panel_tokens<P>;
  for (Index p = 0, count; p < panels; p += count) {
    const Index left = panels - p;
    count = left == most + 1 && most > 2 ? most - 1 : std::min<Index>(left, most);  // 4 is 2 and 2
    const P* const from = packed + p * panel_tokens<P> * depth;
    P* const to = sums + p * panel_tokens<P>;
    if (count == 1) multiply_panels<1>(from, b, depth, accumulate, to, sums_stride);
    if constexpr (most > 1)
      if (count == 2) multiply_panels<2>(from, b, depth, accumulate, to, sums_stride);
    if constexpr (most > 2)
      if (count == 3) multiply_panels<3>(from, b, depth, accumulate, to, sums_stride);
  }
}

/// c(t, j) (+)= sums(j, t), for c's tokens and columns. Reads whole vectors of sums, in both directions.
template <class P>
void store_sums(const P* sums, Index sums_stride, bool accumulate, MatrixView<P> c) {
  constexpr Index L = lanes<P>;
  for (Index t = 0; t < c.rows; t += L)
    for (Index j = 0; j < c.cols; j += L) {
      Packet<P> tile[L];
      for (Index i = 0; i < L; ++i) tile[i] = load<P>(sums + (j + i) * sums_stride + t);
      transpose(tile);
      const Index rows = (std::min)(L, c.rows - t), cols = (std::min)(L, c.cols - j);
      for (Index i = 0; i < rows; ++i) {
        P* const to = c.row(t + i) + j;
        if (cols == L)
          store<P>(to, accumulate ? add(load<P>(to), tile[i]) : tile[i]);
        else
          store_tail<P>(to, accumulate ? add(load_tail<P>(to, cols), tile[i]) : tile[i], cols);
      }
    }
}

/// Tokens that are packed and multiplied together, at most.
inline constexpr Index most_tokens = 256;

/// How many of `tokens` gemm_blocked takes at a time: whole panels, tiles of about the same size.
template <class P>
Index token_tile(Index tokens) {
  const Index tiles = (tokens + most_tokens - 1) / most_tokens;
  return round_up((tokens + tiles - 1) / tiles, panel_tokens<P>);
}

/// Columns of c in one task of gemm_blocked, a multiple of `block`: enough of them to reuse the
/// packed tokens, few enough that the sums stay in the second-level cache, and enough tasks.
/// 0 where no such number suits the kernel.
template <class P>
Index gemm_columns(Index cols, Index block) {
  constexpr Index unit = std::max<Index>(lanes<P>, kernel_columns);
  constexpr Index least = 2 * unit, most = 512 / sizeof(P);
  const Index step = std::lcm(unit, block), most_steps = most / step;
  const auto steps_for = [&](Index columns) { return (columns + step - 1) / step; };
  return step *
         std::clamp(steps_for(cols / 16), (std::min)(steps_for(least), most_steps), most_steps);
}

/// Elements of sums for a tile of c; store_sums reads whole vectors of them.
template <class P>
Index sums_size(Index columns, Index tokens) {
  return round_up(columns, std::max<Index>(kernel_columns, lanes<P>)) * tokens;
}
/// Elements of the copy that multiply_columns makes, with a row more and a line for each group.
template <class P>
Index copied_size(Index columns) {
  const Index padded = round_up(columns, kernel_columns);
  return (depth_tile + 1) * padded + padded / kernel_columns * line_of<P>;
}

/// What gemm_blocked does with a tile of b, once: nothing. tile (columns, depth) of b (n, k), or
/// (depth, columns) of b (k, n).
struct NoVisit {
  template <class B>
  void operator()(Index /*task*/, Index /*k*/, Index /*column*/, MatrixView<const B>) const {}
};
/// What gemm_blocked does with a finished tile of c: nothing.
struct Keep {
  static constexpr Index block_size = 1;
  void operator()(Index /*token*/, Index /*tokens*/, Index /*column*/, Index /*columns*/,
                  int /*thread*/) const {}
};

/// sums (columns, tokens) (+)= tile of b^T times packed tokens. `scratch` holds kernel_columns x
/// depth_tile elements.
template <class P, class B>
void multiply_rows(MatrixView<const B> tile, const P* packed, Index tokens, bool accumulate,
                   P* scratch, P* sums) {
  for (Index j = 0; j < tile.rows; j += kernel_columns) {
    for (int i = 0; i < kernel_columns; ++i)
      for (Index k = 0; k < tile.cols; k += line_of<B>)
        prefetch(tile.data, (j + i + kernel_columns) * tile.stride + k);
    RowsOfB<P> b;
    for (int i = 0; i < kernel_columns; ++i) {
      const B* const row = tile.row((std::min)(j + i, tile.rows - 1));  // the last one again
      if constexpr (std::is_same_v<B, P>) {
        b.row[i] = row;
      } else {
        P* const wide = scratch + i * depth_tile;
        convert<P>(row, tile.cols, wide);
        b.row[i] = wide;
      }
    }
    multiply_tokens(packed, tokens, b, tile.cols, accumulate, sums + j * tokens, tokens);
  }
}

/// The same for a tile (depth, columns) of b. `scratch` holds (depth + 1) x columns elements, columns
/// rounded up.
template <class P, class B>
void multiply_columns(MatrixView<const B> tile, const P* packed, Index tokens, bool accumulate,
                      P* scratch, P* sums) {
  // From one copy of kernel_columns columns to the next. One line more than it needs: at a distance of
  // a power of two all copies would begin in one set of the cache.
  const Index group = kernel_columns * tile.rows + line_of<P>;
  const Index whole = tile.cols / kernel_columns * kernel_columns;
  P* const wide =
      scratch + round_up(tile.cols, kernel_columns) / kernel_columns * group;  // a row of b
  for (Index k = 0; k < tile.rows; ++k) {
    // Rows of b lie pages apart, where no hardware prefetches.
    for (Index j = 0; j < tile.cols; j += line_of<B>) prefetch(tile.row(k), 16 * tile.stride + j);
    const P* row = wide;
    if constexpr (std::is_same_v<B, P>)
      row = tile.row(k);
    else
      convert<P>(tile.row(k), tile.cols, wide);
    P* to = scratch + k * kernel_columns;
    Index j = 0;
    const auto copy = [&] {
      std::memcpy(to, row + j, kernel_columns * sizeof(P));
      j += kernel_columns;
      to += group;
    };
    while (j + 4 * kernel_columns <= whole) unroll<4>([&](auto) { copy(); });
    while (j < whole) copy();
    if (whole != tile.cols)
      std::fill_n(std::copy_n(row + whole, tile.cols - whole, to),
                  whole + kernel_columns - tile.cols, P(0));
  }
  for (Index j = 0; j < tile.cols; j += kernel_columns)
    multiply_tokens(packed, tokens, PackedB<P>{scratch + j / kernel_columns * group}, tile.rows,
                    accumulate, sums + j * tokens, tokens);
}

/// c (+)= a H op(b), H a Reflection of step 0 or RowReflections. op(b) is b^T, b (n, k), or b (k, n). A task is a run of columns of
/// c; `visit` is called as NoVisit, `finish` as Keep, on whole blocks of finish.block_size columns.
template <bool TransposeB, class H, class P, class A, class B, class Visit, class Finish>
void gemm_blocked(EigenContext& ctx, const H& h, MatrixView<const A> a, MatrixView<const B> b,
                  MatrixView<P> c, bool accumulate, const Visit& visit, const Finish& finish) {
  const Index depth = a.cols, width = gemm_columns<P>(c.cols, finish.block_size);
  const Index tasks = (c.cols + width - 1) / width;
  const Index token_step = token_tile<P>(a.rows);
  // As for the most tokens in one tile: a later call with fewer tokens then finds workspace enough.
  const Index room = (std::min)(most_tokens, round_up(a.rows, panel_tokens<P>));

  EigenContext::Frame frame(ctx);
  P* const packed = frame.array<P>(packed_size<P>(room, depth));
  const Index copy_size = TransposeB ? depth_tile * kernel_columns : copied_size<P>(width);
  const Index thread_size = copy_size + sums_size<P>(width, room);
  P* const scratch = frame.array<P>(ctx.threads() * thread_size);

  for (Index token = 0; token < a.rows; token += token_step) {
    const Index rows = (std::min)(token_step, a.rows - token);
    const Index tokens = round_up(rows, panel_tokens<P>);
    pack_tokens(ctx, h.from_row(token), a.middle_rows(token, rows), packed);
    ctx.parallel_for(tasks, rows * depth * c.cols, [&](Index task, int thread) {
      const Index column = task * width, columns = (std::min)(width, c.cols - column);
      P* const copy = scratch + thread * thread_size;
      P* const sums = copy + copy_size;
      for (Index k = 0; k < depth; k += depth_tile) {
        const Index ks = (std::min)(depth_tile, depth - k);
        const auto tile =
            TransposeB ? b.block(column, k, columns, ks) : b.block(k, column, ks, columns);
        const P* const from = packed + k * tokens;
        if constexpr (TransposeB)
          multiply_rows(tile, from, tokens, k != 0, copy, sums);
        else
          multiply_columns(tile, from, tokens, k != 0, copy, sums);
        if (token == 0) visit(task, k, column, tile);  // now in the cache
      }
      const MatrixView<P> to = c.block(token, column, rows, columns);
      if (depth != 0)
        store_sums(sums, tokens, accumulate, to);
      else if (!accumulate)
        for (Index r = 0; r < rows; ++r) std::fill_n(to.row(r), columns, P(0));
      finish(token, rows, column, columns, thread);
    });
  }
}

template <class P, class B>
void gemm(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b, bool transpose_b,
          MatrixView<P> c, bool accumulate) {
  if (c.empty()) return;
  if (transpose_b && a.rows <= few_rows<B, true>)
    gemm_few_transposed(ctx, a, b, c, accumulate);
  else if (!transpose_b && a.rows <= few_rows<B, false>)
    gemm_few(ctx, a, b, c, accumulate);
  else if (transpose_b)
    gemm_blocked<true>(ctx, identity<P>(a.cols), a, b, c, accumulate, NoVisit(), Keep());
  else
    gemm_blocked<false>(ctx, identity<P>(a.cols), a, b, c, accumulate, NoVisit(), Keep());
}

}  // namespace detail
ETHER_END_NAMESPACE
