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
  using PackRight =
      Eigen::internal::gemm_pack_rhs<P, Index, Source<Eigen::ColMajor>, Traits::nr, Eigen::ColMajor>;
  using Kernel = Eigen::internal::gebp_kernel<P, P, Index, Target, Traits::mr, Traits::nr, false,
                                              false>;
};

/// Rows of b^T in one task of gemm_blocked: enough of them to reuse the packed tokens, and enough
/// tasks.
template <class P>
Index gemm_row_tile(Index rows) {
  constexpr Index unit = Blocked<P>::Traits::LhsProgress;
  return std::clamp<Index>((rows / 16 + unit - 1) / unit * unit, 2 * unit, 12 * unit);
}

struct NoVisit {
  template <class... Arguments>
  void operator()(Arguments&&...) const {}
};
inline constexpr NoVisit no_visit;

/// Order: RowMajor for b (n, k), ColMajor for b (k, n). For the first token tile, visit(task, k,
/// column, tile) sees each tile of b, copied to where the cache keeps it, in the task that multiplies
/// it.
template <int Order, class P, class B, class Visit>
void gemm_blocked(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> b,
                  MatrixView<P> c, bool accumulate, Visit&& visit) {
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
        MatrixView<const P> from{wide, tile.rows, tile.cols};
        if constexpr (std::is_same_v<P, B> && std::is_same_v<Visit, const NoVisit&>)
          from = tile;
        else
          for (Index r = 0; r < tile.rows; ++r)
            convert<P>(tile.row(r), tile.cols, wide + r * tile.cols);
        if (token == 0) visit(task, k, row, from);
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
    gemm_blocked<Eigen::RowMajor>(ctx, a, b, c, accumulate, no_visit);
  else
    gemm_blocked<Eigen::ColMajor>(ctx, a, b, c, accumulate, no_visit);
}

/// c = a W, and for each block b of h, on the rows of W, p_b = Û_b W_b and sums_b = q_b W_b^T, all
/// from one reading of W. See backend.hpp.
template <int Terms, class P, class B>
void gemm_project(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> w, MatrixView<P> c,
                  const Reflection<P>& h, MatrixView<const P> q, MatrixView<P> p,
                  MatrixView<P> sums) {
  const Index tasks = (w.cols + gemm_row_tile<P>(w.cols) - 1) / gemm_row_tile<P>(w.cols);
  EigenContext::Frame frame(ctx);
  const MatrixView<P> partial = frame.matrix<P>(tasks * Terms, w.rows);
  const auto visit = [&](Index task, Index k, Index column, MatrixView<const P> tile) {
    for (Index row = k, count; row < k + tile.rows; row += count) {
      const Index b = row / h.block_size, in_block = row % h.block_size;
      count = std::min(h.block_size - in_block, k + tile.rows - row);
      const MatrixView<const P> part = tile.middle_rows(row - k, count);
      project_rows<Terms>([&](Index r) { return part.row(r); }, h.unit.block(0, row, Terms, count),
                          p.block(b * Terms, column, Terms, tile.cols), in_block != 0);
      const MatrixView<const P> left = q.block(b * Terms, column, Terms, tile.cols);
      const MatrixView<P> to = partial.block(task * Terms, row, Terms, count);
      for (Index k_term = 0; k_term < Terms; ++k_term) std::fill_n(to.row(k_term), count, P(0));
      Index r = 0;
      for (; r + 4 <= count; r += 4) dot_rows<4>(left, part.row(r), part.stride, to.data + r, to.stride);
      for (; r < count; ++r) dot_rows<1>(left, part.row(r), part.stride, to.data + r, to.stride);
    }
  };
  gemm_blocked<Eigen::ColMajor>(ctx, a, w, c, false, visit);
  for (Index k = 0; k < Terms; ++k) {
    std::copy_n(partial.row(k), w.rows, sums.row(k));
    for (Index task = 1; task < tasks; ++task)
      for (Index i = 0; i < w.rows; ++i) sums(k, i) += partial(task * Terms + k, i);
  }
}

}  // namespace ether::detail
