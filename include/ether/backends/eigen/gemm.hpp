#pragma once

/// The product on the CPU: c (m, n) (+)= a (m, k) b^T with b (n, k), or a b with b (k, n).
///
/// Few rows of a (gemm_few.hpp): bound by reading b, which Eigen reads with one thread.
/// More: Eigen's packing and its kernel, under a loop of ours. Ours, because Eigen's own cuts the
/// work by the number of threads, which changes sums, allocates at each call, and multiplies 16-bit
/// types one by one. Here tiles depend on the shape alone, and a tile of b is widened as it is
/// packed.

#include <ether/backends/eigen/gemm_few.hpp>

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

/// Order: RowMajor for b (n, k), ColMajor for b (k, n). `stage` is used as Widen is, for the first
/// tokens; a task is a run of columns of c.
template <int Order, class P, class B, class Stage>
void gemm_blocked(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b, MatrixView<P> c,
                  bool accumulate, const Stage& stage) {
  using Eigen::ColMajor;
  using Eigen::RowMajor;
  using Blocks = Blocked<P>;
  constexpr bool transpose_b = Order == RowMajor;
  constexpr Index depth_tile = 256, token_tile = 256;
  const Index depth = a.cols, row_tile = gemm_row_tile<P>(c.cols);
  const Index row_tasks = (c.cols + row_tile - 1) / row_tile;
  const Index depth_tasks = (depth + depth_tile - 1) / depth_tile;

  EigenContext::Frame frame(ctx);
  const Index tokens_max = std::min(token_tile, a.rows);
  P* const packed_a = frame.array<P>(depth_tasks * depth_tile * tokens_max);
  const Index tile_size = row_tile * depth_tile;
  P* const scratch = frame.array<P>(ctx.threads() * 2 * tile_size);

  for (Index token = 0; token < a.rows; token += token_tile) {
    const Index tokens = std::min(token_tile, a.rows - token);
    ctx.parallel_for(depth_tasks, tokens * depth, [&](Index task, int) {
      const Index k = task * depth_tile;
      typename Blocks::template Source<ColMajor> from(a.row(token) + k, a.stride);
      typename Blocks::PackRight()(packed_a + k * tokens, from, std::min(depth_tile, depth - k),
                                   tokens);
    });
    ctx.parallel_for(row_tasks, tokens * depth * c.cols, [&](Index task, int thread) {
      const Index row = task * row_tile, rows = std::min(row_tile, c.cols - row);
      P* const packed_b = scratch + thread * 2 * tile_size;
      P* const wide = packed_b + tile_size;
      if (!accumulate)
        for (Index t = 0; t < tokens; ++t) std::fill_n(c.row(token + t) + row, rows, P(0));
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
    gemm_blocked<Eigen::RowMajor>(ctx, a, b, c, accumulate, Widen());
  else
    gemm_blocked<Eigen::ColMajor>(ctx, a, b, c, accumulate, Widen());
}

}  // namespace ether::detail
