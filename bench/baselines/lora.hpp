#pragma once

/// LoRA (Hu et al., arXiv 2106.09685), on activations:
///
///     y = x W^T + scale (x A^T) B^T + b,      W' = W + scale B A

#include "frozen.hpp"

namespace bench {

/// s += t B, tile by tile of the product that makes s, while they are in the cache; then y = s + b.
template <class P, class Then>
class LowRankTiles {
 public:
  static constexpr Index block_size = 1;

  /// t (tokens, rank), b (rank, out), s (tokens, out).
  LowRankTiles(ether::EigenContext& ctx, ether::EigenContext::Frame& frame, MatrixView<const P> t,
               MatrixView<const P> b, MatrixView<P> s, const Then& then)
      : t_(t), b_(b), s_(s), then_(then) {
    const Index columns = ether::detail::gemm_columns<P>(s.cols, block_size);
    tile_ = ether::detail::token_tile<P>(t.rows);
    copy_size_ = ether::detail::copied_size<P>(columns);
    scratch_size_ = copy_size_ + ether::detail::sums_size<P>(columns, tile_);
    packed_t_ = frame.array<P>(ether::detail::packed_size<P>(t.rows, t.cols));
    scratch_ = frame.array<P>(ctx.threads() * scratch_size_);
    for (Index first = 0; first < t.rows; first += tile_) {
      const Index rows = std::min(tile_, t.rows - first);
      ether::detail::pack_tokens(ctx, ether::identity<P>(t.cols), t.middle_rows(first, rows),
                                 packed_t_ + first * t.cols);
    }
  }

  void operator()(Index token, Index tokens, Index column, Index columns, int thread) const {
    using namespace ether::detail;
    P* const copy = scratch_ + thread * scratch_size_;
    P* const sums = copy + copy_size_;
    const Index padded = round_up(tokens, panel_tokens<P>);
    for (Index k = 0; k < b_.rows; k += depth_tile)
      multiply_columns(b_.block(k, column, std::min(depth_tile, b_.rows - k), columns),
                       packed_t_ + token * b_.rows + k * padded, padded, k != 0, copy, sums);
    store_sums(sums, padded, true, s_.block(token, column, tokens, columns));
    then_(token, tokens, column, columns, thread);
  }

 private:
  MatrixView<const P> t_, b_;
  MatrixView<P> s_;
  Then then_;
  Index tile_, copy_size_, scratch_size_;
  P *packed_t_, *scratch_;
};

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
    ether::detail::check_shape("A", a, a.rows, weight.cols, "(rank, in)").require();
    ether::detail::check_shape("B^T", b_transposed, a.rows, weight.rows, "(rank, out)").require();
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
    if (y.empty()) return;
    Frame frame(ctx);
    const auto s = Frozen<Backend>::as_wide(frame, y);
    if (x.rows > ether::detail::few_rows<Scalar, true>) {
      const View t = project(ctx, frame, x);
      frozen_.multiply_tiles(ctx, x, s,
                             LowRankTiles(ctx, frame, t, b_, s, frozen_.finish_tiles(s, y)));
    } else {
      View z;
      if constexpr (std::is_same_v<Scalar, P>) z = x;
      if (!std::is_same_v<Scalar, P> ||
          x.rows > ether::detail::whole_rows) {  // as multiply_reflected
        const auto copy = frame.template matrix<P>(x.rows, x.cols);
        Backend::reflect(ctx, ether::identity<P>(x.cols), x, copy, View{});
        z = copy;
      }
      const auto t = frame.template matrix<P>(x.rows, rank());
      Backend::gemm(ctx, z, a_, true, t, false);
      scale(t);
      frozen_.multiply(ctx, z, s);
      Backend::gemm(ctx, View(t), b_, false, s, true);
      frozen_.finish(ctx, s, y);
    }
  }

  /// t = scale x A^T (tokens, rank) in workspace: what forward does before its product, for many tokens.
  View project(Context& ctx, Frame& frame, MatrixView<const Scalar> x) const {
    // A x^T, which has more columns to share among threads than x A^T
    const auto t_transposed = frame.template matrix<P>(rank(), x.rows);
    Backend::gemm(ctx, a_, x, true, t_transposed, false);
    const auto t = transposed(frame, t_transposed);
    scale(t);
    return t;
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

  /// merged (out, in) = W + scale B A, rounded once, in pieces that stay in the nearest cache.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    frozen_.check_merge(merged);
    constexpr Index group = 16, strip = 256;
    Frame frame(ctx);
    const auto b = transposed(frame, b_);
    scale(b);
    const auto wide = frame.template matrix<P>(ctx.threads() * group, strip);
    const bool past_cache = frozen_.streams(merged);
    const Index work = 2 * merged.rows * merged.cols * rank();
    ctx.parallel_for((merged.rows + group - 1) / group, work, [&](Index task, int thread) {
      const Index first = task * group, rows = std::min(group, merged.rows - first);
      for (Index column = 0; column < merged.cols; column += strip) {
        const Index cols = std::min(strip, merged.cols - column);
        const auto sums = wide.block(thread * group, 0, rows, cols);
        for (Index i = 0; i < rows; ++i) {
          const Scalar* const from = frozen_.weight().row(first + i) + column;
          ether::detail::convert<P>(from, cols, sums.row(i));
          for (Index c = 0; c < strip; c += 64 / Index(sizeof(Scalar)))
            ether::detail::prefetch(from, strip + c);
        }
        add_product(View(b.middle_rows(first, rows)), a_.block(0, column, rank(), cols), sums);
        for (Index i = 0; i < rows; ++i)
          Frozen<Backend>::write(sums.row(i), cols, merged.row(first + i) + column, past_cache);
      }
      if (past_cache) ether::detail::finish_streaming();
    });
  }

 private:
  void scale(MatrixView<P> t) const {
    for (Index i = 0; i < t.rows; ++i)
      for (Index k = 0; k < t.cols; ++k) t(i, k) *= scale_;
  }
  /// sums += b a, by the calling thread.
  static void add_product(View b, View a, MatrixView<P> sums) {
    Index i = 0;
    for (; i + 4 <= b.rows; i += 4) add_product_rows<4>(b, a, i, sums);
    for (; i < b.rows; ++i) add_product_rows<1>(b, a, i, sums);
  }
  template <int Rows>
  static void add_product_rows(View b, View a, Index i, MatrixView<P> sums) {
    const auto add = [&](auto count, Index k) {
      constexpr int some = decltype(count)::value;
      const P* rows[some];
      P factors[Rows * some];
      for (Index j = 0; j < some; ++j) rows[j] = a.row(k + j);
      for (Index r = 0; r < Rows; ++r) std::copy_n(b.row(i + r) + k, some, factors + r * some);
      ether::detail::combine_rows<Rows, some>(rows, factors, a.cols, sums.row(i), sums.stride);
    };
    Index k = 0;
    for (; k + 4 <= a.rows; k += 4) add(std::integral_constant<int, 4>(), k);
    for (; k < a.rows; ++k) add(std::integral_constant<int, 1>(), k);
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
