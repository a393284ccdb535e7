#pragma once

/// The product on the CPU: c (m, n) (+)= a (m, k) b^T with b (n, k), or a b with b (k, n); and
/// the same with a H for a.
///
/// Few rows of a (gemm_few.hpp): bound by reading b, which Eigen reads with one thread.
/// More: Eigen's packing and its kernel, under a loop of ours. Ours, because Eigen's own cuts the
/// work by the number of threads, which changes sums, allocates at each call, and multiplies 16-bit
/// types one by one. Here tiles depend on the shape alone, and a tile of b is widened as it is
/// packed.

#include <ether/backends/eigen/gemm_few.hpp>
#include <ether/backends/eigen/reflect.hpp>

namespace ether::detail {

/// Eigen's blocked product, piece by piece. Column-major as Eigen counts it: c^T = op(b)^T a^T.
template <class P>
struct Blocked {
  using Traits = Eigen::internal::gebp_traits<P, P>;
  template <int Order>
  using Source = Eigen::internal::const_blas_data_mapper<P, Index, Order>;
  using Target = Eigen::internal::blas_data_mapper<P, Index, Eigen::ColMajor, Eigen::Unaligned, 1>;
  template <int Order>
  using PackLeft =
      Eigen::internal::gemm_pack_lhs<P, Index, Source<Order>, Traits::mr, Traits::LhsProgress,
                                     typename Traits::LhsPacket4Packing, Order>;
  using PackRight = Eigen::internal::gemm_pack_rhs<P, Index, Source<Eigen::ColMajor>, Traits::nr,
                                                   Eigen::ColMajor>;
  using Kernel =
      Eigen::internal::gebp_kernel<P, P, Index, Target, Traits::mr, Traits::nr, false, false>;
};

/// Rows of b^T in one task of gemm_blocked: enough of them to reuse the packed tokens, and enough
/// tasks.
template <class P>
Index gemm_row_tile(Index rows) {
  constexpr Index unit = Blocked<P>::Traits::LhsProgress;
  return std::clamp<Index>((rows / 16 + unit - 1) / unit * unit, 2 * unit, 12 * unit);
}

/// How gemm_blocked gets a tile of b in P: as it is, or widened into `wide`.
struct Widen {
  template <class P, class B>
  MatrixView<const P> operator()(Index /*task*/, Index /*k*/, Index /*column*/,
                                 MatrixView<const B> tile, P* wide) const {
    if constexpr (std::is_same_v<P, B>) {
      return tile;
    } else {
      for (Index r = 0; r < tile.rows; ++r)
        convert<P>(tile.row(r), tile.cols, wide + r * tile.cols);
      return {wide, tile.rows, tile.cols};
    }
  }
};

inline constexpr Index depth_tile = 256, token_tile = 256;

/// Packs a H for the kernel, depth tile after depth tile, all rows in each; a H itself is never
/// stored. A task takes the few rows that the kernel takes together, through H (its step is 0) in
/// scratch of its thread.
template <class P, class A>
void pack_tokens(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> a, P* packed) {
  using Blocks = Blocked<P>;
  constexpr Index group = Blocks::Traits::nr;
  const bool as_it_is = std::is_same_v<A, P> && h.terms() == 0;
  EigenContext::Frame frame(ctx);
  const auto scratch = frame.matrix<P>(as_it_is ? 0 : ctx.threads() * group, a.cols);
  ctx.parallel_for((a.rows + group - 1) / group, a.rows * a.cols, [&](Index task, int thread) {
    const Index first = task * group;
    const auto rows = a.middle_rows(first, std::min(group, a.rows - first));
    MatrixView<const P> from;
    if constexpr (std::is_same_v<A, P>) from = rows;
    if (!as_it_is) {
      const auto to = scratch.middle_rows(thread * group, rows.rows);
      with_terms(h.terms(), [&](auto terms) {
        update_range<decltype(terms)::value, 0, false>(h, 0, rows.rows, 0, h.blocks, rows, to,
                                                       MatrixView<const P>{}, MatrixView<const P>{},
                                                       [](Index, int) { return P(0); });
      });
      from = to;
    }
    for (Index k = 0; k < a.cols; k += depth_tile) {
      const Index ks = std::min(depth_tile, a.cols - k);
      typename Blocks::template Source<Eigen::ColMajor> source(from.data + k, from.stride);
      typename Blocks::PackRight()(packed + k * a.rows + ks * first, source, ks, from.rows);
    }
  });
}

/// c = a H op(b) + bias, bias (1, n) in P or null; or, `accumulate`, c += a H op(b). Order: RowMajor
/// for b (n, k), ColMajor for b (k, n). `stage` is used as Widen is, for the first tokens; a task is
/// a run of columns of c.
template <int Order, class P, class A, class B, class Stage>
void gemm_blocked(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> a,
                  MatrixView<const B> b, const P* bias, MatrixView<P> c, bool accumulate,
                  const Stage& stage) {
  using Blocks = Blocked<P>;
  constexpr bool transpose_b = Order == Eigen::RowMajor;
  const Index depth = a.cols, row_tile = gemm_row_tile<P>(c.cols);
  const Index row_tasks = (c.cols + row_tile - 1) / row_tile;

  EigenContext::Frame frame(ctx);
  P* const packed_a = frame.array<P>(depth * std::min(token_tile, a.rows));
  const Index tile_size = row_tile * depth_tile;
  P* const scratch = frame.array<P>(ctx.threads() * 2 * tile_size);

  for (Index token = 0; token < a.rows; token += token_tile) {
    const Index tokens = std::min(token_tile, a.rows - token);
    pack_tokens(ctx, h, a.middle_rows(token, tokens), packed_a);
    ctx.parallel_for(row_tasks, tokens * depth * c.cols, [&](Index task, int thread) {
      const Index row = task * row_tile, rows = std::min(row_tile, c.cols - row);
      P* const packed_b = scratch + thread * 2 * tile_size;
      P* const wide = packed_b + tile_size;
      for (Index t = token; t < token + tokens && !accumulate; ++t) {
        if (bias == nullptr)
          std::fill_n(c.row(t) + row, rows, P(0));
        else
          std::copy_n(bias + row, rows, c.row(t) + row);
      }
      typename Blocks::Target to(c.row(token) + row, c.stride);
      for (Index k = 0; k < depth; k += depth_tile) {
        const Index ks = std::min(depth_tile, depth - k);
        const MatrixView<const B> tile =
            transpose_b ? b.block(row, k, rows, ks) : b.block(k, row, ks, rows);
        const MatrixView<const P> from =
            token == 0 ? stage(task, k, row, tile, wide) : Widen()(task, k, row, tile, wide);
        typename Blocks::template PackLeft<Order>()(
            packed_b, typename Blocks::template Source<Order>(from.data, from.stride), ks, rows);
        typename Blocks::Kernel()(to, packed_b, packed_a + k * tokens, rows, ks, tokens, P(1));
      }
    });
  }
}

template <class P, class B>
void gemm(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b, bool transpose_b,
          MatrixView<P> c, bool accumulate) {
  if (c.empty()) return;
  if (a.rows <= few_rows && transpose_b)
    gemm_few_transposed(ctx, a, b, c, accumulate);
  else if (a.rows <= few_rows)
    gemm_few(ctx, a, b, c, accumulate);
  else if (transpose_b)
    gemm_blocked<Eigen::RowMajor, P>(ctx, identity<P>(a.cols), a, b, nullptr, c, accumulate,
                                     Widen());
  else
    gemm_blocked<Eigen::ColMajor, P>(ctx, identity<P>(a.cols), a, b, nullptr, c, accumulate,
                                     Widen());
}

/// y = (x H) w^T + bias, see backend.hpp.
template <class P, class T>
void reflect_gemm(EigenContext& ctx, const Reflection<P>& h, MatrixView<const T> x,
                  MatrixView<const T> w, MatrixView<const T> bias, MatrixView<P> y) {
  if (y.empty()) return;
  EigenContext::Frame frame(ctx);
  if (x.rows > few_rows) {
    const auto wide_bias = frame.matrix<P>(bias.rows, bias.cols);
    if (bias.rows != 0) convert<P>(bias.data, bias.cols, wide_bias.data);
    return gemm_blocked<Eigen::RowMajor>(ctx, h, x, w, bias.rows == 0 ? nullptr : wide_bias.data, y,
                                         false, Widen());
  }
  MatrixView<const P> z;
  if constexpr (std::is_same_v<T, P>) z = x;
  if (!std::is_same_v<T, P> || h.terms() != 0) {
    const auto to = frame.matrix<P>(x.rows, x.cols);
    reflect_rows(ctx, h, x, to, MatrixView<const P>{});
    z = to;
  }
  gemm_few_transposed(ctx, z, w, y, false);
  if (bias.rows != 0)  // stride 0: the same for every row
    reflect_rows(ctx, identity<P>(y.cols), MatrixView<const P>(y), y,
                 MatrixView<const T>{bias.data, 1, bias.cols, 0});
}

}  // namespace ether::detail
