#pragma once

/// LoRA (Hu et al., arXiv 2106.09685), on activations:
///
///     y = x W^T + scale (x A^T) B^T + b,      W' = W + scale B A

#include "frozen.hpp"

namespace bench {

/// A (rank, in); B^T (rank, out), since long rows suit all its products. Both wrapped, like W.
template <class Backend>
class Lora {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;

  Lora(MatrixView<const Scalar> weight, View a, View b_transposed, double scale,
       const Scalar* bias = nullptr)
      : frozen_(weight, bias), a_(a), b_(b_transposed), scale_(static_cast<P>(scale)) {
    ether::detail::check_shape("A", a, a.rows, weight.cols, "(rank, in)");
    ether::detail::check_shape("B^T", b_transposed, a.rows, weight.rows, "(rank, out)");
  }

  Index rank() const { return a_.rows; }
  Index parameters() const { return rank() * (a_.cols + b_.cols); }
  Index bytes() const { return parameters() * static_cast<Index>(sizeof(P)); }
  double flops_per_token() const { return 2.0 * static_cast<double>(parameters()); }
  double flops_per_forward() const { return 0; }
  double flops_per_set() const { return 0; }

  /// Overwrites y.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    frozen_.check_forward(x, y);
    Frame frame(ctx);
    const View z = Frozen<Backend>::widened(ctx, frame, x);
    const auto s = Frozen<Backend>::as_wide(frame, y);
    const auto t = down(ctx, frame, z);  // first: the product then finds z in the cache
    scale(t);
    frozen_.multiply(ctx, z, s);
    Backend::gemm(ctx, View(t), b_, false, s, true);
    frozen_.finish(ctx, s, y);
  }

  /// Overwrites grad_x where it is not empty; adds to grad_a (rank, in), grad_b (rank, out).
  ///
  ///     grad_t = scale grad_y B       grad_x = grad_y W + grad_t A
  ///     grad_A += grad_t^T x          grad_B^T += scale (x A^T)^T grad_y
  ///
  /// with x A^T and grad_t computed transposed, (rank, tokens), so that no activation is.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, MatrixView<P> grad_a, MatrixView<P> grad_b) const {
    frozen_.check_backward(x, grad_y, grad_x);
    Frame frame(ctx);
    const auto t = frame.template matrix<P>(rank(), x.rows);
    const auto grad_t = frame.template matrix<P>(rank(), x.rows);
    Backend::gemm(ctx, a_, x, true, t, false);
    Backend::gemm(ctx, b_, grad_y, true, grad_t, false);
    scale(t);
    scale(grad_t);
    Backend::gemm(ctx, View(grad_t), x, false, grad_a, true);
    Backend::gemm(ctx, View(t), grad_y, false, grad_b, true);
    if (grad_x.empty()) return;
    const auto grad = Frozen<Backend>::as_wide(frame, grad_x);
    frozen_.multiply_transposed(ctx, Frozen<Backend>::widened(ctx, frame, grad_y), grad);
    Backend::gemm(ctx, transposed(frame, grad_t), a_, false, grad, true);
    Frozen<Backend>::round(ctx, grad, grad_x);
  }

  /// merged (out, in) = W + scale B A, in panels of rows that stay in the cache.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    frozen_.check_merge(merged);
    constexpr Index panel = 256;
    Frame frame(ctx);
    const auto b = transposed(frame, b_);
    scale(b);
    for (Index first = 0; first < merged.rows; first += panel) {
      Frame inner(ctx);
      const Index rows = std::min(panel, merged.rows - first);
      const auto to = merged.middle_rows(first, rows);
      const auto wide = Frozen<Backend>::as_wide(inner, to);
      Backend::reflect(ctx, ether::identity<P>(to.cols), frozen_.weight().middle_rows(first, rows),
                       wide, View{});
      Backend::gemm(ctx, View(b.middle_rows(first, rows)), a_, false, wide, true);
      Frozen<Backend>::round(ctx, wide, to);
    }
  }

 private:
  /// x A^T (tokens, rank). Of many tokens as A x^T, which has more columns to share among threads.
  MatrixView<P> down(Context& ctx, Frame& frame, View x) const {
    const bool many = x.rows > ether::detail::few_rows;
    const auto t = frame.template matrix<P>(many ? rank() : x.rows, many ? x.rows : rank());
    Backend::gemm(ctx, many ? a_ : x, many ? x : a_, true, t, false);
    return many ? transposed(frame, t) : t;
  }
  void scale(MatrixView<P> t) const {
    for (Index i = 0; i < t.rows; ++i)
      for (Index k = 0; k < t.cols; ++k) t(i, k) *= scale_;
  }
  static MatrixView<P> transposed(Frame& frame, View from) {
    const auto to = frame.template matrix<P>(from.cols, from.rows);
    for (Index i = 0; i < from.rows; ++i)
      for (Index k = 0; k < from.cols; ++k) to(k, i) = from(i, k);
    return to;
  }

  Frozen<Backend> frozen_;
  View a_, b_;
  P scale_;
};

}  // namespace bench
