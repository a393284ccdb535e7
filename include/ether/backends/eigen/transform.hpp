#pragma once

/// A weight transformed on the CPU: both sides at once on its rows, or either alone.

#include <ether/backends/eigen/combine_rows.hpp>
#include <ether/backends/eigen/reflect.hpp>

namespace ether::detail {

/// out = H_out in H_in. Column sums commute with the row operation, ŵ^T (W H_in) = (ŵ^T W) H_in. So
/// a first pass over a block of rows makes the sums, the row operation transforms them, and a
/// second pass transforms each row and adds its share:
///
///     out_r = in_r H_in + sum_k c_k ŵ_k[r] (ŵ_k^T in) H_in
///
/// All accesses run along rows. Blocks are taken in panels that stay in the cache, so that the
/// second pass finds them there: memory is read once, or twice where one block exceeds the cache.
/// (Where rows differ in H_in, layout row_chunk, the first pass transforms them before summing.)
template <int InTerms, int OutTerms, Place Where, class P, class A, class B>
void transform_panels(EigenContext& ctx, const Reflection<P>& h_in, const Reflection<P>& h_out,
                      MatrixView<const A> in, MatrixView<B> out) {
  constexpr Index panel_bytes = Index{8} << 20, chunk_rows = 64;
  const Index cols = in.cols, height = h_out.block_size;
  const Index chunks = (height + chunk_rows - 1) / chunk_rows;
  const Index block_bytes = height * cols * static_cast<Index>(sizeof(A));
  const Index panel = std::clamp<Index>(panel_bytes / block_bytes, 1, h_out.blocks);
  const bool commutes = h_in.step == 0;
  const MatrixView<const P> nothing;

  EigenContext::Frame frame(ctx);
  const MatrixView<P> all_sums = frame.matrix<P>(panel * chunks * OutTerms, cols);
  const MatrixView<P> row_buffers = frame.matrix<P>(commutes ? 0 : ctx.threads() * 4, cols);
  const auto sums_of = [&](Index b, Index chunk) {
    return all_sums.middle_rows((b * chunks + chunk) * OutTerms, OutTerms);
  };

  for (Index first = 0; first < h_out.blocks; first += panel) {
    const Index blocks = std::min(panel, h_out.blocks - first);
    const Index work = blocks * height * cols * (1 + InTerms + OutTerms);

    ctx.parallel_for(blocks * chunks, work, [&](Index task, int thread) {
      const Index b = task / chunks, chunk = task % chunks;
      const Index top = (first + b) * height + chunk * chunk_rows;
      const Index rows = std::min(chunk_rows, height - chunk * chunk_rows);
      const MatrixView<const P> unit = h_out.unit.block(0, top, OutTerms, rows);
      if (commutes) {
        project_rows<OutTerms>([&](Index r) { return in.row(top + r); }, unit, sums_of(b, chunk));
      } else {
        const auto transformed = [&](Index r) -> const P* {
          const MatrixView<P> row = row_buffers.middle_rows(thread * 4 + r % 4, 1);
          update_range<InTerms, 0, Place::cached>(h_in.from_row(top + r), 0, 1, 0, h_in.blocks,
                                                  in.middle_rows(top + r, 1), row, nothing, nothing,
                                                  [](Index, int) { return P(0); });
          return row.data;
        };
        project_rows<OutTerms>(transformed, unit, sums_of(b, chunk));
      }
    });

    ctx.parallel_for(blocks, blocks * chunks * cols * OutTerms, [&](Index b, int) {
      const MatrixView<P> total = sums_of(b, 0);
      for (Index chunk = 1; chunk < chunks; ++chunk)
        for (Index k = 0; k < OutTerms; ++k)
          for (Index i = 0; i < cols; ++i) total(k, i) += sums_of(b, chunk)(k, i);
      if (commutes && InTerms != 0)
        update_range<InTerms, 0, Place::cached>(h_in, 0, OutTerms, 0, h_in.blocks,
                                                MatrixView<const P>(total), total, nothing, nothing,
                                                [](Index, int) { return P(0); });
    });

    ctx.parallel_for(blocks * chunks, work, [&](Index task, int) {
      const Index b = task / chunks, chunk = task % chunks, top = (first + b) * height;
      update_range<InTerms, OutTerms, Where>(
          h_in, top + chunk * chunk_rows, top + std::min(height, (chunk + 1) * chunk_rows), 0,
          h_in.blocks, in, out, nothing, MatrixView<const P>(sums_of(b, 0)),
          [&](Index row, int k) { return h_out.coefficient(k, first + b) * h_out.unit(k, row); });
      if (Where == Place::streamed) finish_streaming();
    });
  }
}

/// out = H_out (in H_in), see backend.hpp.
template <class P, class A, class B>
void transform(EigenContext& ctx, const Reflection<P>& h_in, const Reflection<P>& h_out,
               MatrixView<const A> in, MatrixView<B> out) {
  if (in.empty()) return;
  if (h_out.terms() == 0) return reflect_rows(ctx, h_in, in, out, MatrixView<const A>{});
  with_terms(h_in.terms(), [&](auto in_terms) {
    with_terms(h_out.terms(), [&](auto out_terms) {
      constexpr int i = decltype(in_terms)::value, o = decltype(out_terms)::value;
      if constexpr (o != 0) {
        if (worth_streaming(in, out, h_in.block_size))
          transform_panels<i, o, Place::streamed>(ctx, h_in, h_out, in, out);
        else
          transform_panels<i, o, Place::memory>(ctx, h_in, h_out, in, out);
      }
    });
  });
}

}  // namespace ether::detail
