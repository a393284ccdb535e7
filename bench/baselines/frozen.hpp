#pragma once

/// The frozen layer alone, y = x W^T + b, and what every other baseline does around it: the same
/// steps as EtherLinear, with the same operations of the backend.

#include <ether/ether.hpp>

namespace bench {

using ether::Index;
using ether::MatrixView;

/// x (tokens, in), y (tokens, out), W (out, in) and b (out) wrapped, as EtherLinear does.
template <class Backend>
class Frozen {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;
  static_assert(std::is_same_v<P, typename Backend::Intermediate>);

  explicit Frozen(MatrixView<const Scalar> weight, const Scalar* bias = nullptr)
      : weight_(weight), bias_(bias) {}

  Index out_features() const { return weight_.out_features(); }
  Index in_features() const { return weight_.in_features(); }
  MatrixView<const Scalar> weight() const { return weight_.dense(); }

  Index parameters() const { return 0; }
  Index bytes() const { return 0; }
  /// What the adapter costs: for each token; at every forward pass besides; and in set(), once for
  /// each step of training. Products and sums of the order of the leading term, 2 for a multiply-add.
  double flops_per_token() const { return 0; }
  double flops_per_forward() const { return 0; }
  double flops_per_set() const { return 0; }

  /// y = x W^T + b. Overwrites y. Throws shape_error.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    check_forward(x, y);
    weight_.multiply_reflected(ctx, ether::identity<P>(x.cols), x, ether::identity<P>(y.cols),
                               bias(), y);
  }

  /// grad_x = grad_y W. Overwrites grad_x, which may be empty: nothing is done then. x is not used.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x) const {
    check_backward(x, grad_y, grad_x);
    if (grad_x.empty()) return;
    Frame frame(ctx);
    const auto grad = as_wide(frame, grad_x);
    multiply_transposed(ctx, widened(ctx, frame, grad_y), grad);
    round(ctx, grad, grad_x);
  }

  /// merged (out, in) = W: a copy, by all threads.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    check_merge(merged);
    Backend::reflect(ctx, ether::identity<P>(in_features()), weight(), merged,
                     MatrixView<const Scalar>{});
  }

  // The steps.

  /// `from` itself where it is of type P already, else its copy in workspace.
  static View widened(Context& ctx, Frame& frame, MatrixView<const Scalar> from) {
    if constexpr (std::is_same_v<Scalar, P>) {
      return from;
    } else {
      const auto wide = frame.template matrix<P>(from.rows, from.cols);
      Backend::reflect(ctx, ether::identity<P>(from.cols), from, wide, View{});
      return wide;
    }
  }
  /// `to` itself where it can hold a P, else workspace of its shape; round() then is to follow.
  static MatrixView<P> as_wide(Frame& frame, MatrixView<Scalar> to) {
    if constexpr (std::is_same_v<Scalar, P>)
      return to;
    else
      return frame.template matrix<P>(to.rows, to.cols);
  }
  static void round(Context& ctx, View from, MatrixView<Scalar> to) {
    if constexpr (!std::is_same_v<Scalar, P>)
      Backend::reflect(ctx, ether::identity<P>(from.cols), from, to, View{});
  }
  /// s = z W^T
  void multiply(Context& ctx, View z, MatrixView<P> s) const { weight_.multiply(ctx, z, s); }
  /// s = x W^T for more than few_rows<Scalar, true> tokens, with `finish` for every tile of s, see gemm_blocked.
  template <class Finish>
  void multiply_tiles(Context& ctx, MatrixView<const Scalar> x, MatrixView<P> s,
                      const Finish& finish) const {
    ether::detail::gemm_blocked<true>(ctx, ether::identity<P>(x.cols), x, weight(), s, false,
                                      ether::detail::NoVisit(), finish);
  }
  /// What multiply_tiles() and multiply_reflected do before their first tile: x H in workspace, packed.
  static void pack(Context& ctx, const ether::Reflection<P>& h, MatrixView<const Scalar> x) {
    Frame frame(ctx);
    ether::detail::pack_tokens(
        ctx, h, x, frame.template array<P>(ether::detail::packed_size<P>(x.rows, x.cols)));
  }
  /// What finish() does, tile by tile.
  auto finish_tiles(View s, MatrixView<Scalar> y) const {
    const MatrixView<const Scalar> add{bias_, bias_ == nullptr ? 0 : y.rows, y.cols, 0};
    return ether::detail::ReflectTiles<P, Scalar, Scalar>{ether::identity<P>(y.cols), s, y, add};
  }
  /// grad_z = grad_s W
  void multiply_transposed(Context& ctx, View grad_s, MatrixView<P> grad_z) const {
    weight_.multiply_transposed(ctx, grad_s, grad_z);
  }
  /// grad_z = grad_y W in workspace: the gradient of what the product is given.
  MatrixView<P> grad_z(Context& ctx, Frame& frame, MatrixView<const Scalar> grad_y) const {
    const auto grad = frame.template matrix<P>(grad_y.rows, in_features());
    multiply_transposed(ctx, widened(ctx, frame, grad_y), grad);
    return grad;
  }
  /// y = s + b, rounded, where as_wide() of y gave s.
  void finish(Context& ctx, View s, MatrixView<Scalar> y) const {
    if (bias_ == nullptr) return round(ctx, s, y);
    Backend::reflect(ctx, ether::identity<P>(y.cols), s, y, bias());
  }

  /// Whether a merge writes past the cache, as the layer's does.
  bool streams(MatrixView<Scalar> merged) const {
    return ether::detail::worth_streaming(weight(), merged, merged.cols);
  }
  /// to = from, rounded, by the calling thread; where `past_cache`, finish_streaming is to follow.
  static void write(const P* from, Index count, Scalar* to, bool past_cache) {
    if (!past_cache) return ether::detail::convert<P>(from, count, to);
    constexpr Index lanes = ether::detail::lanes<P>;
    Index i = 0;
    for (; i + lanes <= count; i += lanes)
      ether::detail::stream<P>(to + i, ether::detail::load<P>(from + i));
    ether::detail::convert<P>(from + i, count - i, to + i);
  }

  void check_forward(MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    ether::detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)").require();
    ether::detail::check_shape("y", y, x.rows, out_features(), "(tokens of x, out_features)")
        .require();
  }
  void check_backward(MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                      MatrixView<Scalar> grad_x) const {
    ether::detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)").require();
    ether::detail::check_shape("grad_y", grad_y, x.rows, out_features(), "(tokens of x, out)")
        .require();
    if (!grad_x.empty())
      ether::detail::check_shape("grad_x", grad_x, x.rows, in_features(), "(tokens of x, in)")
          .require();
  }
  void check_merge(MatrixView<Scalar> merged) const {
    ether::detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)")
        .require();
    ether::detail::check_disjoint("the weight", weight_.dense(), "merged", merged).require();
  }

 private:
  MatrixView<const Scalar> bias() const {
    return {bias_, bias_ == nullptr ? 0 : 1, out_features(), 0};
  }

  ether::DenseWeight<Backend> weight_;
  const Scalar* bias_;
};

}  // namespace bench
