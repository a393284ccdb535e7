#pragma once

/// HRA, Householder reflection adaptation (Yuan et al., arXiv 2405.17484), on activations:
///
///     H = H_1 H_2 ... H_r       H_k = I - 2 û_k û_k^T, full width
///     z = x H_r ... H_1         one after the other, a few tokens at a time
///     y = z W^T + b             W' = W H

#include "frozen.hpp"
#include "householder_chain.hpp"

namespace bench {

template <class Backend>
class Hra {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;

  /// u (rank, in), raw, of any length but 0.
  Hra(Context& ctx, MatrixView<const Scalar> weight, View u, const Scalar* bias = nullptr)
      : frozen_(weight, bias), unit_(ctx, u.rows, u.cols), inverse_length_(ctx, 1, u.rows) {
    if (u.rows < 1) ether::detail::fail<ether::parameter_error>("rank must be at least 1");
    set(ctx, u);
  }

  /// û from u, as set_adapter.
  void set(Context&, View u) {
    ether::detail::check_shape("u", u, rank(), frozen_.in_features(), "(rank, in)").require();
    for (Index k = 0; k < u.rows; ++k) {
      double squares = 0;
      for (Index i = 0; i < u.cols; ++i) squares += static_cast<double>(u(k, i)) * u(k, i);
      const double inverse = 1 / std::sqrt(squares);
      inverse_length_.view()(0, k) = static_cast<P>(inverse);
      for (Index i = 0; i < u.cols; ++i) unit_.view()(k, i) = static_cast<P>(inverse * u(k, i));
    }
  }

  Index in_features() const { return frozen_.in_features(); }
  Index rank() const { return unit_.view().rows; }
  Index parameters() const { return rank() * frozen_.in_features(); }
  Index bytes() const { return parameters() * static_cast<Index>(sizeof(P)); }
  double flops_per_token() const { return 4.0 * static_cast<double>(parameters()); }
  double flops_per_forward() const { return 0; }
  double flops_per_set() const { return 3.0 * static_cast<double>(parameters()); }

  /// Overwrites y.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    frozen_.check_forward(x, y);
    Frame frame(ctx);
    const auto z = frame.template matrix<P>(x.rows, x.cols);
    const auto s = Frozen<Backend>::as_wide(frame, y);
    apply(ctx, x, z, Order::last_to_first);
    frozen_.multiply(ctx, z, s);
    frozen_.finish(ctx, s, y);
  }

  /// Overwrites grad_x where it is not empty; adds dL/du to grads (rank, in).
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, MatrixView<P> grads) const {
    frozen_.check_backward(x, grad_y, grad_x);
    if (x.rows == 0) return;
    Frame frame(ctx);
    const auto grad_z = frozen_.grad_z(ctx, frame, grad_y);

    // Tiles of tokens by the shape alone, each with its own sums, added up in order.
    constexpr int group = 2;
    const Index width = x.cols, tile = std::max<Index>(16, (x.rows + 31) / 32);
    const Index tiles = (x.rows + tile - 1) / tile;
    const auto sums = frame.template matrix<P>(tiles * rank(), width);
    const auto rows_z = frame.template matrix<P>(ctx.threads() * group, width);
    ctx.parallel_for(tiles, 8 * x.rows * parameters(), [&](Index task, int thread) {
      const auto own = sums.middle_rows(task * rank(), rank());
      for (Index k = 0; k < own.rows; ++k) std::fill_n(own.row(k), width, P(0));
      P* const z = rows_z.row(thread * group);
      const Index end = std::min(x.rows, (task + 1) * tile);
      Index row = task * tile;
      for (; row + group <= end; row += group)
        backward_rows<group>(x, row, z, grad_z.row(row), own);
      for (; row < end; ++row) backward_rows<1>(x, row, z, grad_z.row(row), own);
      if (!grad_x.empty())
        for (row = task * tile; row < end; ++row)
          ether::detail::convert<P>(grad_z.row(row), width, grad_x.row(row));
    });
    ctx.parallel_for(rank(), tiles * parameters(), [&](Index k, int) {
      P* const total = sums.row(k);
      for (Index t = 1; t < tiles; ++t)
        for (Index i = 0; i < width; ++i) total[i] += sums(t * rank() + k, i);
      ether::detail::project_block(total, unit_.view().row(k), P(1), inverse_length_.view()(0, k),
                                   width, grads.row(k));
    });
  }

  /// merged (out, in) = W H, rounded once.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    frozen_.check_merge(merged);
    apply(ctx, frozen_.weight(), merged, Order::first_to_last, frozen_.streams(merged));
  }

 private:
  /// out = in times the chain, four rows at a time; through workspace where out cannot hold a P, or
  /// is to be written past the cache. Not in place.
  template <class A, class B>
  void apply(Context& ctx, MatrixView<const A> in, MatrixView<B> out, Order order,
             bool past_cache = false) const {
    constexpr int group = 4;
    const bool through = !std::is_same_v<B, P> || past_cache;
    Frame frame(ctx);
    const auto wide = frame.template matrix<P>(through ? ctx.threads() * group : 0, in.cols);
    const Index tasks = (in.rows + group - 1) / group;
    ctx.parallel_for(tasks, 2 * in.rows * parameters(), [&](Index task, int thread) {
      const Index first = task * group, rows = std::min<Index>(group, in.rows - first);
      MatrixView<P> to = wide;
      if constexpr (std::is_same_v<B, P>)
        if (!through) to = out.middle_rows(first, rows);
      if (through) to = wide.middle_rows(thread * group, rows);
      if (rows == group)
        chain_rows<group>(in.row(first), in.stride, unit(), order, to.data, to.stride);
      else
        for (Index i = 0; i < rows; ++i)
          chain_rows<1>(in.row(first + i), in.stride, unit(), order, to.row(i), to.stride);
      if constexpr (std::is_same_v<B, Scalar>)
        if (through)
          for (Index i = 0; i < rows; ++i)
            Frozen<Backend>::write(to.row(i), to.cols, out.row(first + i), past_cache);
      if (past_cache) ether::detail::finish_streaming();
    });
  }

  /// The chain over Rows rows of x again, into z; then back, which makes grad_z into grad_x.
  template <int Rows>
  void backward_rows(MatrixView<const Scalar> x, Index row, P* z, P* grad_z,
                     MatrixView<P> sums) const {
    constexpr Order order = Order::last_to_first;
    chain_rows<Rows>(x.row(row), x.stride, unit(), order, z, x.cols);
    chain_grad_rows<Rows>(z, grad_z, x.cols, unit(), order, sums);
  }

  View unit() const { return unit_.view(); }

  Frozen<Backend> frozen_;
  typename Backend::template Buffer<P> unit_;            // (rank, in)
  typename Backend::template Buffer<P> inverse_length_;  // (1, rank)
};

}  // namespace bench
