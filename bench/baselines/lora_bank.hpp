#pragma once

/// Many LoRAs of one layer in a batch, as serving systems do it: the frozen product for all rows, beside it
/// for each row its own A (gathered shrink) and B (gathered expand),
///
///     y_r = x_r W^T + b + scale (x_r A_i^T) B_i^T,   i = ids[r];   -1: none
///
/// Rows of one LoRA are taken together, so that it is read once.

#include "frozen.hpp"

#include <algorithm>
#include <cstdint>

namespace bench {

/// a (slots * rank, in), b_transposed (slots * rank, out), wrapped; Unit: their element type.
template <class Backend, class Unit>
class LoraBank {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;

  LoraBank(MatrixView<const Scalar> weight, MatrixView<const Unit> a,
           MatrixView<const Unit> b_transposed, Index rank, double scale)
      : frozen_(weight), a_(a), b_(b_transposed), rank_(rank), scale_(static_cast<P>(scale)) {}

  /// Overwrites y. A batch's rows of one LoRA are neighbours.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y,
               const std::int32_t* ids) const {
    frozen_.check_forward(x, y);
    Frame frame(ctx);
    const View z = frozen_.widened(ctx, frame, x);
    const auto t = frame.template matrix<P>(x.rows, rank_);
    Index* const first = frame.template array<Index>(x.rows + 1);  // of each run of one LoRA
    Index runs = 0;
    for (Index r = 0; r < x.rows; ++r)
      if (r == 0 || ids[r] != ids[r - 1]) first[runs++] = r;
    first[runs] = x.rows;
    const auto s = frozen_.as_wide(frame, y);
    if (x.rows > ether::detail::few_rows<Scalar, true>)
      frozen_.multiply_tiles(ctx, x, s, ether::detail::Keep());
    else
      frozen_.multiply(ctx, z, s);
    const Index work = rank_ * x.rows * x.cols;
    // Parts of a run, so that few runs keep all threads busy.
    ctx.parallel_for(runs * shrink_parts, work, [&](Index task, int) {
      const Index run = task / shrink_parts, part = task % shrink_parts;
      if (ids[first[run]] >= 0)
        shrink(z, t, first[run], first[run + 1], ids[first[run]], rank_ * part / shrink_parts,
               rank_ * (part + 1) / shrink_parts);
    });
    const Index strips = (y.cols + strip - 1) / strip;
    ctx.parallel_for(runs * strips, work, [&](Index task, int) {
      const Index run = task / strips, column = task % strips * strip;
      if (ids[first[run]] >= 0)
        expand(t, s.block(0, column, s.rows, std::min(strip, s.cols - column)), first[run],
               first[run + 1], b_.block(ids[first[run]] * rank_, column, rank_, 1));
    });
    frozen_.finish(ctx, s, y);
  }

 private:
  static constexpr Index shrink_parts = 2, strip = 1024;

  /// t_r,k = scale x_r . A_k for k in [k, end).
  void shrink(View z, MatrixView<P> t, Index row, Index row_end, Index slot, Index k,
              Index end) const {
    for (Index r = row; r < row_end; ++r) std::fill_n(t.row(r) + k, end - k, P(0));
    const View rows = z.middle_rows(row, row_end - row);
    for (Index cols; k < end; k += cols) {
      cols = end - k >= 4 ? 4 : 1;
      const Unit* const a = a_.row(slot * rank_ + k);
      P* const to = t.row(row) + k;
      if (cols == 4)
        ether::detail::dot_rows<4>(rows, a, a_.stride, to, t.stride);
      else
        ether::detail::dot_rows<1>(rows, a, a_.stride, to, t.stride);
      for (Index r = 0; r < rows.rows; ++r)
        for (Index j = 0; j < cols; ++j) to[r * t.stride + j] *= scale_;
    }
  }

  /// s_r += sum_k t_r,k B_k on some columns.
  void expand(View t, MatrixView<P> s, Index row, Index row_end, MatrixView<const Unit> b) const {
    for (Index k = 0; k + 4 <= rank_; k += 4) {
      const Unit* const four[] = {b.row(k), b.row(k + 1), b.row(k + 2), b.row(k + 3)};
      for (Index r = row; r < row_end; ++r)
        ether::detail::combine_rows<1, 4>(four, t.row(r) + k, s.cols, s.row(r), s.stride);
    }
    for (Index k = rank_ / 4 * 4; k < rank_; ++k) {
      const Unit* const one = b.row(k);
      for (Index r = row; r < row_end; ++r)
        ether::detail::combine_rows<1, 1>(&one, t.row(r) + k, s.cols, s.row(r), s.stride);
    }
  }

  Frozen<Backend> frozen_;
  MatrixView<const Unit> a_, b_;
  Index rank_;
  P scale_;
};

}  // namespace bench
