#pragma once

/// The product for few rows of a: b is read once, by all threads, at memory speed.

#include <ether/backends/eigen/combine_rows.hpp>
#include <ether/backends/eigen/context.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// For more rows of a the blocked product of gemm.hpp is faster. It pads them to whole panels, of 16 rows
/// or 8, and copies b (k, n) and widens 16-bit types, which pays only for more rows. (Measured on Zen
/// 5, with AVX-512 and with AVX2.)
template <class B, bool TransposeB>
inline constexpr Index few_rows = sizeof(B) == 2 ? (lanes<float> > 8 ? 24 : 16)
                                  : TransposeB   ? 8
                                                 : 12;
/// So few rows stay in the nearest cache at any depth; more are read in pieces.
inline constexpr Index whole_rows = 4;

/// c(i, j) += a_i . b_j over `depth` elements, for Rows rows of a and Cols rows of b.
template <int Rows, int Cols, class P, class B>
void dot_tile(const P* a, Index a_stride, const B* b, Index b_stride, Index depth, P* c,
              Index c_stride) {
  constexpr Index L = lanes<P>;
  Packet<P> sums[Rows][Cols];
  for (auto& row : sums)
    for (auto& value : row) value = broadcast(P(0));
  Index k = 0;
  for (; k + L <= depth; k += L) {
    Packet<P> right[Cols];
    for (int j = 0; j < Cols; ++j) right[j] = in_register<Rows>(load<P>(b + j * b_stride + k));
    for (int i = 0; i < Rows; ++i) {
      const Packet<P> left = in_register<Cols>(load<P>(a + i * a_stride + k));
      for (int j = 0; j < Cols; ++j) sums[i][j] = multiply_add(left, right[j], sums[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Cols; ++j) {
      P total = sum(sums[i][j]);
      for (Index l = k; l < depth; ++l)
        total += a[i * a_stride + l] * static_cast<P>(b[j * b_stride + l]);
      c[i * c_stride + j] += total;
    }
}

/// The same for all rows of a.
template <int Cols, class P, class B>
void dot_rows(MatrixView<const P> a, const B* b, Index b_stride, P* c, Index c_stride) {
  Index i = 0;
  for (; i + 4 <= a.rows; i += 4)
    dot_tile<4, Cols>(a.row(i), a.stride, b, b_stride, a.cols, c + i * c_stride, c_stride);
  for (; i + 2 <= a.rows; i += 2)
    dot_tile<2, Cols>(a.row(i), a.stride, b, b_stride, a.cols, c + i * c_stride, c_stride);
  for (; i < a.rows; ++i)
    dot_tile<1, Cols>(a.row(i), a.stride, b, b_stride, a.cols, c + i * c_stride, c_stride);
}

/// c (m, n) (+)= a (m, k) b^T, b (n, k): a task takes neighbouring rows of b, four at a time, in
/// pieces that stay in the second-level cache while all rows of a pass.
template <class P, class B>
void gemm_few_transposed(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b,
                         MatrixView<P> c, bool accumulate) {
  const Index depth = a.cols, piece = a.rows <= whole_rows ? depth : 1024;
  const Index task_rows = b.rows < 512 ? 4 : 32;
  const Index work = a.rows * b.rows * depth;
  ctx.parallel_for((b.rows + task_rows - 1) / task_rows, work, [&](Index task, int) {
    const Index end = (std::min)(b.rows, (task + 1) * task_rows);
    Index cols = 0;
    for (Index row = task * task_rows; row < end; row += cols) {
      cols = end - row >= 4 ? 4 : 1;
      if (!accumulate)
        for (Index i = 0; i < a.rows; ++i) std::fill_n(c.row(i) + row, cols, P(0));
      for (Index k = 0; k < depth; k += piece) {
        const MatrixView<const P> left = a.block(0, k, a.rows, (std::min)(piece, depth - k));
        if (cols == 4)
          dot_rows<4>(left, b.row(row) + k, b.stride, c.data + row, c.stride);
        else
          dot_rows<1>(left, b.row(row) + k, b.stride, c.data + row, c.stride);
      }
    }
  });
}

/// c (m, n) (+)= a (m, k) b, b (k, n): a task adds up a run of rows of b, four at a time, over a
/// strip of columns; the runs' sums are then added in order. One run alone adds to c, which must not
/// overlap a or b.
template <class P, class B>
void gemm_few(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b, MatrixView<P> c,
              bool accumulate) {
  constexpr Index strip = 2048;
  const Index run = std::max<Index>(64, 8 * a.rows);
  const Index runs = (b.rows + run - 1) / run, strips = (c.cols + strip - 1) / strip;
  EigenContext::Frame frame(ctx);
  const bool direct = runs == 1;  // into c
  const MatrixView<P> partial = direct ? c : frame.matrix<P>(runs * a.rows, c.cols);
  ctx.parallel_for(runs * strips, a.rows * b.rows * b.cols, [&](Index task, int) {
    const Index column = task % strips * strip, cols = (std::min)(strip, c.cols - column);
    const Index first = task / strips * run, end = (std::min)(b.rows, first + run);
    const MatrixView<P> sums = partial.block(task / strips * a.rows, column, a.rows, cols);
    if (!direct || !accumulate)
      for (Index i = 0; i < a.rows; ++i) std::fill_n(sums.row(i), cols, P(0));
    Index k = first;
    for (; k + 4 <= end; k += 4) {
      const B* const rows[4] = {b.row(k) + column, b.row(k + 1) + column, b.row(k + 2) + column,
                                b.row(k + 3) + column};
      Index i = 0;
      for (; i + 2 <= a.rows; i += 2) {
        P factors[8];
        std::copy_n(a.row(i) + k, 4, factors);
        std::copy_n(a.row(i + 1) + k, 4, factors + 4);
        combine_rows<2, 4>(rows, factors, cols, sums.row(i), sums.stride);
      }
      if (i < a.rows) combine_rows<1, 4>(rows, a.row(i) + k, cols, sums.row(i), 0);
    }
    for (; k < end; ++k) {
      const B* const rows[1] = {b.row(k) + column};
      for (Index i = 0; i < a.rows; ++i)
        combine_rows<1, 1>(rows, a.row(i) + k, cols, sums.row(i), 0);
    }
  });
  if (direct) return;
  ctx.parallel_for(a.rows * strips, a.rows * c.cols * runs, [&](Index task, int) {
    const Index i = task / strips, column = task % strips * strip;
    const Index cols = (std::min)(strip, c.cols - column);
    P* const to = c.row(i) + column;
    if (!accumulate) std::fill_n(to, cols, P(0));
    for (Index r = 0; r < runs; ++r) {
      const P* const from = partial.row(r * a.rows + i) + column;
      for (Index j = 0; j < cols; ++j) to[j] += from[j];
    }
  });
}

}  // namespace detail
ETHER_END_NAMESPACE
