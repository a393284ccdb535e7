#pragma once

/// The seam's operations out of kernels. Shared with the tests, which run the same kernels on the
/// CPU: a Context need only have launch(), fused_gemv() and Frame.

#include <ether/backends/cuda/launchers.hpp>

#include <algorithm>

ETHER_BEGIN_NAMESPACE
namespace detail::cuda {

/// A weight's part that stays in the second-level cache between two passes.
inline constexpr Index panel_bytes = Index{16} << 20;
/// Rows that one thread block adds up, going down columns.
inline constexpr Index column_sums_height = 256;
/// Tokens are cut into at most so many chunks, of at least so many tokens, whatever the device: the
/// sums over them have the same bits everywhere.
inline constexpr Index most_chunks = 256, least_chunk = 8;

/// `Backend` derives from this; T is its Scalar and Intermediate.
template <class Backend, class T, class Context>
struct Operations {
  using W = Wide<T>;
  using H = Reflection<W>;
  template <class U>
  using View = MatrixView<U>;

  /// `add` is of B, or has no rows.
  template <class A, class B, class C>
  static void reflect(Context& ctx, const H& h, View<const A> in, View<B> out, View<const C> add) {
    View<const B> addend;
    if constexpr (std::is_same_v<B, C>) addend = add;
    reflect_rows<A, B>(ctx.launch(), h, in, out, addend, {});
  }

  /// Each row with its own H.
  template <class U, class A, class B, class C>
  static void reflect(Context& ctx, const RowReflections<W, U>& h, View<const A> in, View<B> out,
                      View<const C> add) {
    View<const B> addend;
    if constexpr (std::is_same_v<B, C>) addend = add;
    if (h.terms() == 0) return reflect(ctx, identity<W>(in.cols), in, out, addend);
    reflect_each<A, B, U>(ctx.launch(), h, in, out, addend, /*biased=*/false);
  }

  /// y = (y - bias) H + bias, each row with its own H: a row without adapter keeps its bits.
  template <class U>
  static void reflect_behind_bias(Context& ctx, const RowReflections<W, U>& h, View<T> y,
                                  View<const T> bias) {
    const View<const T> add{bias.data, bias.rows, y.cols, 0};
    reflect_each<T, T, U>(ctx.launch(), h, View<const T>(y), y, add, /*biased=*/bias.rows != 0);
  }

  static void reflect_grad(Context& ctx, const RowReflections<W>& h, View<const T> t,
                           View<const T> r, View<T> out, View<W> grads) {
    if (t.rows == 0) return;
    typename Context::Frame frame(ctx);
    const auto sums = frame.template matrix<W>(t.rows * h.terms(), t.cols);
    reflect_grad_each<T>(ctx.launch(), h, t, r, sums, grads);
    if (!out.empty()) reflect(ctx, h, r, out, View<const T>{});
  }

  template <class A, class B>
  static void transform(Context& ctx, const H& h_in, const H& h_out, View<const A> in,
                        View<B> out) {
    if (in.empty()) return;
    if (h_out.terms() == 0) return reflect(ctx, h_in, in, out, View<const B>{});
    if (h_in.terms() == 0) return transform_columns(ctx, h_out, in, out);
    if (h_in.step == 0) return two_passes(ctx, h_in, h_out, in, out);
    // Rows differ in H_in, so that column sums do not commute with it: a block of rows at a time.
    typename Context::Frame frame(ctx);
    const Index height = h_out.block_size;
    const auto wide = frame.template matrix<W>(height, in.cols);
    for (Index b = 0; b < h_out.blocks; ++b) {
      reflect(ctx, h_in.from_row(b * height), in.middle_rows(b * height, height), wide,
              View<const W>{});
      transform_columns(ctx, h_out.middle_blocks(b, 1), View<const W>(wide),
                        out.middle_rows(b * height, height));
    }
  }

  static void reflect_grad(Context& ctx, const H& h, View<const T> t, View<const T> r, View<T> out,
                           View<W> grads) {
    if (t.rows == 0) return;
    const Index height = (std::max)(least_chunk, (t.rows + most_chunks - 1) / most_chunks);
    const Index chunks = (t.rows + height - 1) / height, terms = h.terms();
    typename Context::Frame frame(ctx);
    const auto partial = frame.template matrix<W>(chunks * terms, t.cols);
    const auto sums = frame.template matrix<W>(terms, t.cols);
    cuda::reflect_grad(ctx.launch(), h, t, r, out, height, partial);
    sum_partials(ctx.launch(), View<const W>(partial), chunks, terms, sums);
    cuda::project_grad(ctx.launch(), h, View<const W>(sums), grads);
  }

  using FusedWith = Backend;
  static void multiply_reflected(Context& ctx, const H& h_in, View<const T> x, View<const T> w,
                                 const H& h_out, View<const T> bias, View<T> y) {
    if (x.rows == 0) return;
    const auto added = h_out.terms() == 0 ? bias : View<const T>{};
    if (!ctx.fused_gemv() || !reflect_gemv(ctx.launch(), h_in, x, w, added.data, y)) {
      typename Context::Frame frame(ctx);
      if (h_in.terms() != 0) {
        const auto z = frame.template matrix<T>(x.rows, x.cols);
        reflect(ctx, h_in, x, z, View<const T>{});
        x = z;
      }
      Backend::gemm_bias(ctx, x, w, added, y);
    }
    if (h_out.terms() != 0) reflect(ctx, h_out, View<const T>(y), y, bias);
  }

 private:
  /// out = H in, down the columns.
  template <class A, class B>
  static void transform_columns(Context& ctx, const H& h, View<const A> in, View<B> out) {
    if constexpr (std::is_same_v<A, T> && std::is_same_v<B, T>)
      if (cuda::reflect_columns(ctx.launch(), h, in, out)) return;
    two_passes(ctx, identity<W>(in.cols), h, in, out);
  }

  /// out = H_out in H_in in two readings of `in`. First p = ŵ_out^T in per block of H_out, then
  /// p H_in, since sums down columns and the reflection of rows commute; then, row by row,
  /// out = in H_in + sum_k c_k ŵ_k (p_k H_in). The rows of `in` all see one H_in.
  template <class A, class B>
  static void two_passes(Context& ctx, const H& h_in, const H& h_out, View<const A> in,
                         View<B> out) {
    const Index size = h_out.block_size, row_bytes = in.cols * static_cast<Index>(sizeof(A));
    const Index blocks =
        (std::min)(h_out.blocks, std::max<Index>(1, panel_bytes / (size * row_bytes)));
    Index cols = in.cols;  // where rows stay as they are, columns can be cut too
    if (h_in.terms() == 0 && size * row_bytes > panel_bytes)
      cols = std::max<Index>(panel_bytes / (size * static_cast<Index>(sizeof(A))) / 256 * 256, 256);
    const Index parts = (size + column_sums_height - 1) / column_sums_height;
    for (Index b = 0; b < h_out.blocks; b += blocks)
      for (Index c = 0; c < in.cols; c += cols) {
        const Index count = (std::min)(blocks, h_out.blocks - b),
                    width = (std::min)(cols, in.cols - c);
        const H h = h_out.middle_blocks(b, count);
        const H rows = h_in.terms() == 0 ? identity<W>(width) : h_in;
        const Index vectors = h.terms() * count;
        const auto panel = in.block(b * size, c, count * size, width);
        typename Context::Frame frame(ctx);
        const auto partial = frame.template matrix<W>(parts * vectors, width);
        const auto sums = parts == 1 ? partial : frame.template matrix<W>(vectors, width);
        column_sums(ctx.launch(), h, panel, column_sums_height, partial);
        if (parts > 1) sum_partials(ctx.launch(), View<const W>(partial), parts, h.terms(), sums);
        if (rows.terms() != 0) reflect(ctx, rows, View<const W>(sums), sums, View<const W>{});
        const ColumnShare<W> share{static_cast<int>(h.terms()), size, h.unit, h.coefficient, sums};
        reflect_rows<A, B>(ctx.launch(), rows, panel, out.block(b * size, c, count * size, width),
                           {}, share);
      }
  }
};

}  // namespace detail::cuda
ETHER_END_NAMESPACE
