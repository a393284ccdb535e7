#pragma once

/// A weight transformed on the CPU, both sides at once on its rows: out = H_out in H_in, in two
/// passes. Column sums commute with the row operation, ŵ^T (W H_in) = (ŵ^T W) H_in, so that the first
/// pass need not transform the rows that it sums:
///
///     sums_k = (ŵ_k^T in_block) H_in                  column_sums, for each block of rows
///     out_r  = in_r H_in + sum_k c_k ŵ_k[r] sums_k    transform_rows
///
/// All accesses run along rows. EtherLinear::merge runs the passes on a matrix in memory, the merge
/// on disk on rows that it reads. Where rows differ in H_in, layout row_chunk, the first pass gets
/// them transformed.

#include <ether/backends/eigen/combine_rows.hpp>
#include <ether/backends/eigen/reflect.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// sums_k of neighbouring blocks of rows.
template <class P>
struct ColumnSums {
  MatrixView<P> all;  // those of block b from row (b - first_block) * rows_per_block on
  Index first_block = 0, rows_per_block = 0;
  MatrixView<P> of_block(const Reflection<P>& h_out, Index b) const {
    return all.middle_rows((b - first_block) * rows_per_block, h_out.terms());
  }
};

/// The sums of the blocks in the rows from `first` to `end`, in the frame's memory. A task sums
/// `chunk` rows of a block; results depend on that, but not on the number of threads.
/// rows_of(row, count, thread) gives rows of the weight, `piece` or fewer, as a MatrixView: before
/// H_in or, where rows differ in that, after it.
template <class P, class RowsOf>
ColumnSums<P> column_sums(EigenContext& ctx, EigenContext::Frame& frame, const Reflection<P>& h_in,
                          const Reflection<P>& h_out, Index first, Index end, Index chunk,
                          Index piece, RowsOf&& rows_of) {
  const Index cols = h_in.width(), height = h_out.block_size, terms = h_out.terms();
  const Index blocks = (end - first) / height, chunks = (height + chunk - 1) / chunk;
  const ColumnSums<P> sums{frame.matrix<P>(blocks * chunks * terms, cols), first / height,
                           chunks * terms};

  ctx.parallel_for(blocks * chunks, (end - first) * cols * terms, [&](Index task, int thread) {
    const Index top = first + task / chunks * height, from = top + task % chunks * chunk;
    const Index to = (std::min)(top + height, from + chunk);
    const auto total = sums.all.middle_rows(task * terms, terms);
    for (Index row = from; row < to; row += piece) {
      const Index count = (std::min)(piece, to - row);
      const auto rows = rows_of(row, count, thread);
      const auto unit = h_out.unit.block(0, row, terms, count);
      if (terms == 1)
        project_rows<1>(rows, unit, total, row != from);
      else
        project_rows<2>(rows, unit, total, row != from);
    }
  });

  ctx.parallel_for(blocks, blocks * chunks * cols * terms, [&](Index b, int) {
    const auto total = sums.of_block(h_out, sums.first_block + b);
    for (Index at = terms; at < sums.rows_per_block; ++at) {
      P* const to = total.row(at % terms);
      const P* const from = sums.all.row(b * sums.rows_per_block + at);
      for (Index i = 0; i < cols; ++i) to[i] += from[i];
    }
    if (h_in.step == 0 && h_in.terms() != 0)
      reflect_tile(h_in, MatrixView<const P>(total), total, MatrixView<const P>{});
  });
  return sums;
}

/// out = H_out in H_in for rows from `row` of the weight on, whose blocks `sums` has; the calling
/// thread. Either side may be the identity, out may be in.
template <Place Where, class P, class A, class B>
void transform_rows(const Reflection<P>& h_in, const Reflection<P>& h_out,
                    const ColumnSums<P>& sums, Index row, MatrixView<const A> in,
                    MatrixView<B> out) {
  for (Index r = 0, count; r < in.rows; r += count) {
    const Index block = (row + r) / h_out.block_size;
    count = (std::min)(in.rows - r, (block + 1) * h_out.block_size - (row + r));
    const MatrixView<const P> given = sums.of_block(h_out, block);
    const auto factor = [&, top = row + r](Index i, int k) {
      return h_out.coefficient(k, block) * h_out.unit(k, top + i);
    };
    with_terms(h_in.terms(), [&](auto in_terms) {
      with_terms(h_out.terms(), [&](auto out_terms) {
        update_range<decltype(in_terms)::value, decltype(out_terms)::value, Where>(
            h_in.from_row(row + r), 0, count, 0, h_in.blocks, in.middle_rows(r, count),
            out.middle_rows(r, count), MatrixView<const A>{}, given, factor);
      });
    });
  }
}

/// out = H_out in H_in for a matrix. Blocks are taken in panels that stay in the cache, so that the
/// second pass finds them there: memory is read once, or twice where one block exceeds the cache.
template <Place Where, class P, class A, class B>
void transform_panels(EigenContext& ctx, const Reflection<P>& h_in, const Reflection<P>& h_out,
                      MatrixView<const A> in, MatrixView<B> out) {
  constexpr Index panel_bytes = Index{8} << 20, chunk = 64, few = 4;
  const Index height = h_out.block_size;
  const Index block_bytes = height * in.cols * static_cast<Index>(sizeof(A));
  const Index panel = height * std::clamp<Index>(panel_bytes / block_bytes, 1, h_out.blocks);
  const bool alike = h_in.step == 0;

  for (Index first = 0, end; first < in.rows; first = end) {
    end = (std::min)(in.rows, first + panel);
    EigenContext::Frame frame(ctx);
    const auto buffers = frame.matrix<P>(alike ? 0 : ctx.threads() * few, in.cols);
    const auto rows_of = [&](Index row, Index count, int) { return in.middle_rows(row, count); };
    const auto transformed = [&](Index row, Index count, int thread) {
      const auto rows = buffers.middle_rows(thread * few, count);
      reflect_tile(h_in.from_row(row), in.middle_rows(row, count), rows, MatrixView<const A>{});
      return MatrixView<const P>(rows);
    };
    const ColumnSums<P> sums =
        alike ? column_sums(ctx, frame, h_in, h_out, first, end, chunk, chunk, rows_of)
              : column_sums(ctx, frame, h_in, h_out, first, end, chunk, few, transformed);

    const Index tasks = (end - first + chunk - 1) / chunk;
    const Index work = (end - first) * in.cols * (1 + h_in.terms() + h_out.terms());
    ctx.parallel_for(tasks, work, [&](Index task, int) {
      const Index row = first + task * chunk, count = (std::min)(chunk, end - row);
      transform_rows<Where>(h_in, h_out, sums, row, in.middle_rows(row, count),
                            out.middle_rows(row, count));
      if (Where == Place::streamed) finish_streaming();
    });
  }
}

/// out = H_out (in H_in), see backend.hpp.
template <class P, class A, class B>
void transform(EigenContext& ctx, const Reflection<P>& h_in, const Reflection<P>& h_out,
               MatrixView<const A> in, MatrixView<B> out) {
  if (in.empty()) return;
  const bool streamed = worth_streaming(in, out, h_in.block_size);
  if (h_out.terms() != 0 && streamed)
    transform_panels<Place::streamed>(ctx, h_in, h_out, in, out);
  else if (h_out.terms() != 0)
    transform_panels<Place::memory>(ctx, h_in, h_out, in, out);
  else if (streamed)
    with_terms(h_in.terms(), [&](auto terms) {
      reflect_rows<decltype(terms)::value, Place::streamed>(ctx, h_in, in, out,
                                                            MatrixView<const A>{});
    });
  else
    reflect_rows(ctx, h_in, in, out, MatrixView<const A>{});
}

}  // namespace detail
ETHER_END_NAMESPACE
