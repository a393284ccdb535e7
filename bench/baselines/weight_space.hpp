#pragma once

/// ETHER and ETHER+ as the paper writes it and as its authors' PyTorch layers compute it: at every
/// forward pass each H_i as a dense matrix, the whole weight multiplied by them, and then the
/// product with the tokens.
///
///     W' = H_out W H_in        y = x W'^T + b

#include "frozen.hpp"

namespace bench {

/// Layout diagonal. Forward and merge only.
template <class Backend>
class WeightSpace {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;
  using Side = ether::Side;

  WeightSpace(MatrixView<const Scalar> weight, ether::Adapter<P> adapter,
              const Scalar* bias = nullptr)
      : frozen_(weight, bias), adapter_(std::move(adapter)) {
    ether::detail::check_shape("the weight", weight, adapter_.out_features(),
                               adapter_.in_features(), "that of the adapter, (out, in)")
        .require();
    if (adapter_.config().layout != ether::BlockLayout::diagonal)
      ether::detail::fail<ether::parameter_error>("WeightSpace knows layout diagonal only");
  }

  Index parameters() const { return adapter_.size(); }
  Index bytes() const { return parameters() * static_cast<Index>(sizeof(P)); }
  double flops_per_token() const { return 0; }
  /// Of the block products, at every forward pass: whatever the number of tokens.
  double flops_per_forward() const {
    double widths = 0;
    for (Side side : {Side::input, Side::output})
      if (adapter_.terms(side) != 0) widths += static_cast<double>(adapter_.block_size(side));
    return 2.0 * static_cast<double>(frozen_.weight().rows * frozen_.weight().cols) * widths;
  }
  double flops_per_set() const { return 0; }

  /// Overwrites y.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    frozen_.check_forward(x, y);
    Frame frame(ctx);
    const auto merged = frame.template matrix<P>(adapter_.out_features(), adapter_.in_features());
    transform(ctx, merged);
    const auto s = Frozen<Backend>::as_wide(frame, y);
    Backend::gemm(ctx, Frozen<Backend>::widened(ctx, frame, x), View(merged), true, s, false);
    frozen_.finish(ctx, s, y);
  }

  /// merged (out, in) = W', rounded once.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    frozen_.check_merge(merged);
    Frame frame(ctx);
    const auto wide = Frozen<Backend>::as_wide(frame, merged);
    transform(ctx, wide);
    Frozen<Backend>::round(ctx, wide, merged);
  }

 private:
  /// to (out, in) = H_out W H_in, unrounded. The left factor of a product is of type P, so that a
  /// 16-bit W is widened for the input side, but not for the output side alone.
  void transform(Context& ctx, MatrixView<P> to) const {
    Frame frame(ctx);
    const auto weight = frozen_.weight();
    if (adapter_.terms(Side::input) == 0) return transform_rows(ctx, weight, to);
    const View wide = Frozen<Backend>::widened(ctx, frame, weight);
    if (adapter_.terms(Side::output) == 0) return transform_columns(ctx, wide, to);
    const auto half = frame.template matrix<P>(to.rows, to.cols);
    transform_columns(ctx, wide, half);
    transform_rows(ctx, View(half), to);
  }

  /// to = from H_in, a product for each block of columns.
  void transform_columns(Context& ctx, View from, MatrixView<P> to) const {
    const Index size = adapter_.block_size(Side::input);
    for (Index first = 0; first < to.cols; first += size) {
      Frame frame(ctx);
      Backend::gemm(ctx, from.block(0, first, to.rows, size),
                    block(ctx, frame, Side::input, first, size), false,
                    to.block(0, first, to.rows, size), false);
    }
  }
  /// to = H_out from, a product for each block of rows.
  template <class B>
  void transform_rows(Context& ctx, MatrixView<const B> from, MatrixView<P> to) const {
    const Index size = adapter_.block_size(Side::output);
    for (Index first = 0; first < to.rows; first += size) {
      Frame frame(ctx);
      Backend::gemm(ctx, block(ctx, frame, Side::output, first, size),
                    from.middle_rows(first, size), false, to.middle_rows(first, size), false);
    }
  }

  /// I + sum_k c_k ŵ_k ŵ_k^T of the block whose vectors begin at `first`, (size, size), in workspace.
  View block(Context& ctx, Frame& frame, Side side, Index first, Index size) const {
    const auto h = frame.template matrix<P>(size, size);
    const View raw = adapter_.parameters(side).block(0, first, adapter_.terms(side), size);
    P factor[2] = {};  // c_k / |w_k|^2
    for (Index k = 0; k < raw.rows; ++k) {
      double squares = 0;
      for (Index i = 0; i < size; ++i) squares += static_cast<double>(raw(k, i)) * raw(k, i);
      const auto& config = adapter_.config();
      const double coefficient = config.strength * ether::term_coefficient(config.variant, k);
      factor[k] = static_cast<P>(coefficient / squares);
    }
    ctx.parallel_for(size, size * size, [&](Index row, int) {
      P* const to = h.row(row);
      std::fill_n(to, size, P(0));
      to[row] = 1;
      for (Index k = 0; k < raw.rows; ++k) {
        const P scaled = factor[k] * raw(k, row);
        for (Index i = 0; i < size; ++i) to[i] += scaled * raw(k, i);
      }
    });
    return h;
  }

  Frozen<Backend> frozen_;
  ether::Adapter<P> adapter_;
};

}  // namespace bench
