#pragma once

/// The product on the CPU: c (m, n) (+)= a (m, k) b^T with b (n, k), or a b with b (k, n).
///
/// Few rows of a (gemm_few.hpp): bound by reading b, which Eigen reads with one thread.
/// More: Eigen's kernel and its packing of b, under a loop of ours. Ours, because Eigen's own cuts the
/// work by the number of threads, which changes sums, allocates at each call, and multiplies 16-bit
/// types one by one. Here tiles depend on the shape alone, a tile of b is widened as it is packed,
/// and what comes before and after the product is done while its data is in the cache: see
/// reflect_gemm.hpp and gemm_project.hpp.

#include <ether/backends/eigen/gemm_few.hpp>
#include <ether/backends/eigen/reflect.hpp>

#include <numeric>

namespace ether::detail {

#if defined(EIGEN_VECTORIZE_VSX)
#error \
    "Eigen's kernel for POWER takes other packed tokens than pack_rows makes: EIGEN_DONT_VECTORIZE"
#endif

/// How many rows of a the kernel takes at a time, packed with their elements in turns.
inline constexpr int kernel_rows = 4;

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
  using Kernel =
      Eigen::internal::gebp_kernel<P, P, Index, Target, Traits::mr, kernel_rows, false, false>;
};

/// Columns of c in one task of gemm_blocked, a multiple of `block`: enough of them to reuse the
/// packed tokens, few enough that a tile of c stays in the second-level cache, and enough tasks.
/// 0 where no such number suits the kernel.
template <class P>
Index gemm_columns(Index cols, Index block) {
  constexpr Index unit = Blocked<P>::Traits::LhsProgress, least = 2 * unit, most = 512 / sizeof(P);
  const Index step = std::lcm(unit, block), most_steps = most / step;
  const auto steps_for = [&](Index columns) { return (columns + step - 1) / step; };
  return step *
         std::clamp(steps_for(cols / 16), std::min(steps_for(least), most_steps), most_steps);
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

/// Rows rows of a H from `first` on, as the kernel takes them: within the depth tile that begins at
/// column k and has `depth` columns, (a H)(first + r, k + i) comes to
/// packed[k * a.rows + first * depth + Rows * i + r].
template <int Terms, int Rows, class P, class A>
void pack_rows(const Reflection<P>& h, MatrixView<const A> a, Index first, P* packed) {
  const A* const in = a.row(first);
  P factors[Rows * (Terms == 0 ? 1 : Terms)] = {};  // of the block at hand
  for (Index column = 0, end; column < a.cols; column = end) {
    const Index chunk = column / h.block_size, offset = column % h.block_size;
    const Index k = column / depth_tile * depth_tile, depth = std::min(depth_tile, a.cols - k);
    end = std::min((chunk + 1) * h.block_size, k + depth);
    const Index b = Terms == 0 ? 0 : h.block(first, chunk);
    if (offset == 0) dot_block<Terms, Rows>(h, b, in + column, a.stride, factors, Terms);
    Vectors<Terms, P> w;
    for (int t = 0; t < Terms; ++t) w.vector[t] = h.unit.row(t) + b * h.block_size + offset;
    P* const to = packed + k * a.rows + first * depth + Rows * (column - k);
    add_vectors<Terms, Rows, Place::packed>(in + column, a.stride, to, 0, nullptr, 0, end - column,
                                            w, factors);
  }
}

/// Packs a H for the kernel: kernel_rows rows together, what is left over one by one. a H itself is
/// never stored. H has step 0.
template <class P, class A>
void pack_tokens(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> a, P* packed) {
  ctx.parallel_for((a.rows + kernel_rows - 1) / kernel_rows, a.rows * a.cols, [&](Index task, int) {
    const Index first = task * kernel_rows, end = std::min(first + kernel_rows, a.rows);
    with_terms(h.terms(), [&](auto terms) {
      constexpr int count = decltype(terms)::value;
      if (end - first == kernel_rows) return pack_rows<count, kernel_rows>(h, a, first, packed);
      for (Index row = first; row < end; ++row) pack_rows<count, 1>(h, a, row, packed);
    });
  });
}

/// What gemm_blocked does with a finished tile of c: nothing.
struct Keep {
  static constexpr Index block_size = 1;
  void operator()(Index /*token*/, Index /*tokens*/, Index /*column*/, Index /*columns*/,
                  int /*thread*/) const {}
};

/// c (+)= a H op(b). Order: RowMajor for b (n, k), ColMajor for b (k, n). A task is a run of columns
/// of c; `stage` is used as Widen is, for the first tokens; `finish` as Keep is, on whole blocks of
/// finish.block_size columns.
template <int Order, class P, class A, class B, class Stage, class Finish>
void gemm_blocked(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> a,
                  MatrixView<const B> b, MatrixView<P> c, bool accumulate, const Stage& stage,
                  const Finish& finish) {
  using Blocks = Blocked<P>;
  constexpr bool transpose_b = Order == Eigen::RowMajor;
  const Index depth = a.cols, width = gemm_columns<P>(c.cols, finish.block_size);
  const Index tasks = (c.cols + width - 1) / width;

  EigenContext::Frame frame(ctx);
  P* const packed_a = frame.array<P>(depth * std::min(token_tile, a.rows));
  const Index tile_size = width * depth_tile;
  P* const scratch = frame.array<P>(ctx.threads() * 2 * tile_size);

  for (Index token = 0; token < a.rows; token += token_tile) {
    const Index tokens = std::min(token_tile, a.rows - token);
    pack_tokens(ctx, h, a.middle_rows(token, tokens), packed_a);
    ctx.parallel_for(tasks, tokens * depth * c.cols, [&](Index task, int thread) {
      const Index column = task * width, columns = std::min(width, c.cols - column);
      P* const packed_b = scratch + thread * 2 * tile_size;
      P* const wide = packed_b + tile_size;
      for (Index t = token; t < token + tokens && !accumulate; ++t)
        std::fill_n(c.row(t) + column, columns, P(0));
      typename Blocks::Target to(c.row(token) + column, c.stride);
      for (Index k = 0; k < depth; k += depth_tile) {
        const Index ks = std::min(depth_tile, depth - k);
        const MatrixView<const B> tile =
            transpose_b ? b.block(column, k, columns, ks) : b.block(k, column, ks, columns);
        const MatrixView<const P> from =
            token == 0 ? stage(task, k, column, tile, wide) : Widen()(task, k, column, tile, wide);
        typename Blocks::template PackLeft<Order>()(
            packed_b, typename Blocks::template Source<Order>(from.data, from.stride), ks, columns);
        typename Blocks::Kernel()(to, packed_b, packed_a + k * tokens, columns, ks, tokens, P(1));
      }
      finish(token, tokens, column, columns, thread);
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
    gemm_blocked<Eigen::RowMajor>(ctx, identity<P>(a.cols), a, b, c, accumulate, Widen(), Keep());
  else
    gemm_blocked<Eigen::ColMajor>(ctx, identity<P>(a.cols), a, b, c, accumulate, Widen(), Keep());
}

}  // namespace ether::detail
