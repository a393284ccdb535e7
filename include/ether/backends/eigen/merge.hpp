#pragma once

/// The output side of a merge, alone (column-local) and together with the input side.

#include <ether/backends/eigen/combine_rows.hpp>
#include <ether/backends/eigen/reflect.hpp>

namespace ether::detail {

#ifndef ETHER_TILE
#define ETHER_TILE (1<<18)
#endif
/// Columns of a tile of block_size rows, such that the tile stays in a core's cache: whole cache
/// lines, and wide enough for memory to deliver them at speed.
inline Index tile_columns(Index block_size, Index cols) {
  constexpr Index tile_elements = Index{ETHER_TILE};
  const Index wanted = tile_elements / block_size / 64 * 64;
  return std::min(cols, std::max<Index>(64, wanted));
}

/// out = H in, H acting on the row index: one pass over memory, tile of columns by tile. A tile is
/// first widened into adjacent memory: rows a power of two apart would evict one another.
template <int Terms, class P, class A, class B>
void reflect_columns(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> in,
                     MatrixView<B> out) {
  if (in.empty()) return;
  const Index height = h.block_size, width = tile_columns(height, in.cols);
  const Index tiles = (in.cols + width - 1) / width;
  const bool stream = worth_streaming(in, out);
  EigenContext::Frame frame(ctx);
  const MatrixView<P> tile_of = frame.matrix<P>(ctx.threads(), height * width);
  const MatrixView<P> sums_of = frame.matrix<P>(ctx.threads(), Terms * width);
  const MatrixView<B> staging = frame.matrix<B>(ctx.threads(), width);

  ctx.parallel_for(h.blocks * tiles, [&](Index task, int thread) {
    const Index b = task / tiles, column = task % tiles * width;
    const Index cols = std::min(width, in.cols - column), top = b * height;
    const MatrixView<P> tile{tile_of.row(thread), height, cols, width};
    const MatrixView<P> sums{sums_of.row(thread), Terms, cols, width};
    const MatrixView<const P> unit = h.unit.block(0, top, Terms, height);

    const auto staged_row = [&](Index r) -> const P* {
      convert<P>(in.row(top + r) + column, cols, tile.row(r));
      return tile.row(r);
    };
    project_rows<Terms>(staged_row, unit, sums);

    for (Index r = 0; r < height; ++r) {
      add_projection<Terms>(h, b, unit, r, sums, tile.row(r));
      B* const to = out.row(top + r) + column;
      B* const result = stream ? staging.row(thread) : to;
      convert<P>(tile.row(r), cols, result);
      if (stream) stream_copy(result, cols, to);
    }
    if (stream) finish_streaming();
  });
}

#ifndef ETHER_PANEL
#define ETHER_PANEL (1<<21)
#endif
/// out = H_out in H_in. Column sums commute with the row operation, ŵ^T (W H_in) = (ŵ^T W) H_in:
/// so one reading pass makes the sums, the row operation transforms them, and a second pass
/// transforms each row and adds its share. Blocks of rows that fit the cache together are read from
/// memory once. (Where rows differ in H_in, layout row_chunk, the first pass transforms them too.)
template <int Terms, class P, class A, class B>
void reflect_both(EigenContext& ctx, const Reflection<P>& h_in, const Reflection<P>& h_out,
                  MatrixView<const A> in, MatrixView<B> out) {
  if (in.empty()) return;
  constexpr Index panel_elements = Index{ETHER_PANEL}, chunk_rows = 64;
  const Index cols = in.cols, height = h_out.block_size;
  const Index chunks = (height + chunk_rows - 1) / chunk_rows;
  const Index panel =
      std::clamp<Index>(panel_elements / std::max<Index>(1, height * cols), 1, h_out.blocks);
  const bool stream = worth_streaming(in, out), commutes = h_in.step == 0;
  constexpr const P* nothing = nullptr;

  EigenContext::Frame frame(ctx);
  const MatrixView<P> wide = frame.matrix<P>(ctx.threads() * 4, cols);
  const MatrixView<B> staging = frame.matrix<B>(ctx.threads(), cols);
  const MatrixView<P> all_sums = frame.matrix<P>(panel * chunks * Terms, cols);
  const auto sums_of = [&](Index b, Index chunk) {
    return all_sums.middle_rows((b * chunks + chunk) * Terms, Terms);
  };

  for (Index first = 0; first < h_out.blocks; first += panel) {
    const Index blocks = std::min(panel, h_out.blocks - first);
    ctx.parallel_for(blocks * chunks, [&](Index task, int thread) {
      const Index b = task / chunks, chunk = task % chunks;
      const Index top = (first + b) * height + chunk * chunk_rows;
      const Index rows = std::min(chunk_rows, height - chunk * chunk_rows);
      const MatrixView<const P> unit = h_out.unit.block(0, top, Terms, rows);
      if (commutes) {
        project_rows<Terms>([&](Index r) { return in.row(top + r); }, unit, sums_of(b, chunk));
      } else {
        const auto transformed_row = [&](Index r) -> const P* {
          P* const row = wide.row(thread * 4 + r % 4);
          reflect_chunks(h_in, top + r, 0, h_in.blocks, in.row(top + r), row, nothing);
          return row;
        };
        project_rows<Terms>(transformed_row, unit, sums_of(b, chunk));
      }
    });
    ctx.parallel_for(blocks, [&](Index b, int) {
      const MatrixView<P> total = sums_of(b, 0);
      for (Index k = 0; k < Terms; ++k) {
        for (Index chunk = 1; chunk < chunks; ++chunk)
          for (Index i = 0; i < cols; ++i) total(k, i) += sums_of(b, chunk)(k, i);
        if (commutes)
          reflect_chunks(h_in, 0, 0, h_in.blocks, total.row(k), total.row(k), nothing);
      }
    });
    ctx.parallel_for(blocks * chunks, [&](Index task, int thread) {
      const Index b = task / chunks, chunk = task % chunks, top = (first + b) * height;
      const MatrixView<const P> unit = h_out.unit.block(0, top, Terms, height);
      P* const row = wide.row(thread * 4);
      for (Index r = chunk * chunk_rows; r < std::min(height, (chunk + 1) * chunk_rows); ++r) {
        reflect_chunks(h_in, top + r, 0, h_in.blocks, in.row(top + r), row, nothing);
        add_projection<Terms>(h_out, first + b, unit, r, sums_of(b, 0), row);
        B* const result = stream ? staging.row(thread) : out.row(top + r);
        convert<P>(row, cols, result);
        if (stream) stream_copy(result, cols, out.row(top + r));
      }
      if (stream) finish_streaming();
    });
  }
}

}  // namespace ether::detail
