#pragma once

/// The layer up to its output transform, s = (x H_in) W^T, and back.

#include <ether/backend.hpp>
#include <ether/weight.hpp>

namespace ether::detail {

/// `view` itself where it can hold an Intermediate, else workspace of its shape.
template <class Backend>
MatrixView<typename Backend::Intermediate> as_intermediate(
    typename Backend::Context::Frame& frame, MatrixView<typename Backend::Scalar> view) {
  if constexpr (std::is_same_v<typename Backend::Scalar, typename Backend::Intermediate>)
    return view;
  else
    return frame.template matrix<typename Backend::Intermediate>(view.rows, view.cols);
}

/// from H, in workspace; or `from` itself where there is nothing to do.
template <class Backend>
MatrixView<const typename Backend::Intermediate> reflected(
    typename Backend::Context& ctx, typename Backend::Context::Frame& frame,
    const Reflection<typename Backend::Parameter>& h,
    MatrixView<const typename Backend::Scalar> from) {
  using Intermediate = typename Backend::Intermediate;
  if constexpr (std::is_same_v<typename Backend::Scalar, Intermediate>)
    if (h.terms() == 0) return from;
  const auto to = frame.template matrix<Intermediate>(from.rows, from.cols);
  Backend::reflect(ctx, h, from, to, MatrixView<const Intermediate>{});
  return to;
}

/// grads += the gradients of h, and out = r H unless out is empty, which may be r; with no terms a
/// conversion.
template <class Backend, class A, class B, class C>
void reflect_with_grad(typename Backend::Context& ctx,
                       const Reflection<typename Backend::Parameter>& h, MatrixView<const A> t,
                       MatrixView<const B> r, MatrixView<C> out,
                       MatrixView<typename Backend::Parameter> grads) {
  using Scalar = typename Backend::Scalar;
  using Intermediate = typename Backend::Intermediate;
  if constexpr (has<reflect_with_grad_t, Backend> && std::is_same_v<A, Scalar> &&
                std::is_same_v<B, Intermediate> && std::is_same_v<C, Scalar>)
    if (h.terms() != 0 && !out.empty()) return Backend::reflect_with_grad(ctx, h, t, r, out, grads);
  if (h.terms() != 0) Backend::reflect_grad(ctx, h, t, r, grads);
  if (!out.empty() && (h.terms() != 0 || !std::is_same_v<B, C>))
    Backend::reflect(ctx, h, r, out, MatrixView<const Intermediate>{});
}

/// For one call of the layer. h: H_in, of another block in each slice of W's rows where h.step is
/// not 0 (layout row_chunk).
template <class Backend, class Weight>
struct InputProduct {
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const Intermediate>;
  static constexpr bool same_type = std::is_same_v<Scalar, Intermediate>;
  static constexpr bool has_slices =
      has<WeightProbe<Weight, Backend>::template slice_rows_t, Weight>;
  /// Whether H_in and H_out are applied within the product.
  static constexpr bool fuses =
      std::is_same_v<Weight, DenseWeight<Backend>> && has<reflect_gemm_t, Backend>;

  const Weight& weight;
  Reflection<Parameter> h;

  /// s = x H_in W^T.
  void forward(Context& ctx, Frame& frame, MatrixView<const Scalar> x,
               MatrixView<Intermediate> s) const {
    if constexpr (fuses)
      if (h.step == 0)
        return Backend::reflect_gemm(ctx, h, x, weight.dense(), identity<Parameter>(s.cols), {}, s);
    if (h.step == 0) {
      weight.multiply(ctx, reflected<Backend>(ctx, frame, h, x), s);
    } else if constexpr (has_slices) {
      const auto z = frame.template matrix<Intermediate>(x.rows, x.cols);
      for_each_slice([&](const Reflection<Parameter>& slice, Index first, Index count) {
        Backend::reflect(ctx, slice, x, z, View{});
        weight.slice_rows(first, count).multiply(ctx, z, s.block(0, first, s.rows, count));
      });
    }
  }

  /// From grad_s: grads += the gradients of h, and grad_x = grad_s W H_in unless grad_x is empty.
  void backward(Context& ctx, Frame& frame, MatrixView<const Scalar> x, View grad_s,
                MatrixView<Scalar> grad_x, MatrixView<Parameter> grads) const {
    if (h.step == 0) {
      const auto grad_z = grad_z_for(frame, x, grad_x);
      weight.multiply_transposed(ctx, grad_s, grad_z);
      reflect_with_grad<Backend>(ctx, h, x, View(grad_z), grad_x, grads);
    } else if constexpr (has_slices) {
      const auto sum = grad_z_for(frame, x, grad_x);
      const auto grad_z = frame.template matrix<Intermediate>(x.rows, x.cols);
      for_each_slice([&](const Reflection<Parameter>& slice, Index first, Index count) {
        weight.slice_rows(first, count)
            .multiply_transposed(ctx, grad_s.block(0, first, x.rows, count), grad_z);
        Backend::reflect_grad(ctx, slice, x, View(grad_z), grads);
        if (!grad_x.empty())
          Backend::reflect(ctx, slice, View(grad_z), sum, first == 0 ? View{} : View(sum));
      });
      if (!same_type && !grad_x.empty())
        Backend::reflect(ctx, identity<Parameter>(x.cols), View(sum), grad_x, View{});
    }
  }

  /// Workspace for grad_z = grad_s W, or grad_x where that can hold it.
  static MatrixView<Intermediate> grad_z_for(Frame& frame, MatrixView<const Scalar> x,
                                             MatrixView<Scalar> grad_x) {
    if (!grad_x.empty()) return as_intermediate<Backend>(frame, grad_x);
    return frame.template matrix<Intermediate>(x.rows, x.cols);
  }

 private:
  /// Calls f(h, first, count) for every slice of output rows that sees one H_in.
  template <class F>
  void for_each_slice(F&& f) const {
    const Index out = weight.out_features();
    for (Index first = 0, count; first < out; first += count) {
      count = h.rows_alike(first, out);
      f(h.at_row(first), first, count);
    }
  }
};

}  // namespace ether::detail
