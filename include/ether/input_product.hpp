#pragma once

/// The layer up to its output transform, s = (x H_in) W^T, and back.

#include <ether/weight_check.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// For one call of the layer. H_in differs between slices of W's rows in layout row_chunk, and where the
/// rows have several adapters.
template <class Backend, class Weight>
struct InputProduct {
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const Intermediate>;
  using H = Reflection<Parameter>;
  using Probe = WeightProbe<Weight, Backend>;
  static constexpr bool same_type = std::is_same_v<Scalar, Intermediate>;
  static constexpr bool has_slices = has<Probe::template slice_rows_t, Weight>;

  const Weight& weight;
  const PreparedAdapter<Backend>& prepared;

  /// Whether all output rows see one H_in, which h() is.
  bool has_one_h() const { return prepared.slices().size() == 1; }
  H h() const { return prepared.input(prepared.slices()[0]); }

  /// y = (x H_in) W^T H_out + bias, where all rows see one H_in. T: Scalar or Intermediate.
  template <class W, class T>
  static void multiply(Context& ctx, const W& w, const H& h_in, MatrixView<const Scalar> x,
                       const H& h_out, MatrixView<const Scalar> bias, MatrixView<T> y) {
    if constexpr (has<WeightProbe<W, Backend>::template multiply_reflected_t, W>)
      w.multiply_reflected(ctx, h_in, x, h_out, bias, y);
    else
      multiply_composed<Backend>(ctx, w, h_in, x, h_out, bias, y);
  }

  /// s = x H_in W^T.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Intermediate> s) const {
    if (has_one_h()) return multiply(ctx, weight, h(), x, identity<Parameter>(s.cols), {}, s);
    if constexpr (has_slices)
      for_each_slice([&](const H& slice, Index first, Index count) {
        multiply(ctx, weight.slice_rows(first, count), slice, x, identity<Parameter>(count), {},
                 s.block(0, first, s.rows, count));
      });
  }

  /// From grad_s: grads += the gradients of H_in, and grad_x = grad_s W H_in unless grad_x is empty.
  void backward(Context& ctx, Frame& frame, MatrixView<const Scalar> x, View grad_s,
                MatrixView<Scalar> grad_x, MatrixView<Parameter> grads) const {
    if (has_one_h()) {
      backward(ctx, frame, weight, h(), x, grad_s, grad_x, grads);
    } else if constexpr (has_slices) {
      const auto sum = grad_z_for(frame, x, grad_x);
      const auto grad_z = frame.template matrix<Intermediate>(x.rows, x.cols);
      for_each_slice([&](const H& slice, Index first, Index count) {
        weight.slice_rows(first, count)
            .multiply_transposed(ctx, grad_s.block(0, first, x.rows, count), grad_z);
        Backend::reflect_grad(ctx, slice, x, View(grad_z), MatrixView<Scalar>{}, grads);
        if (!grad_x.empty())
          Backend::reflect(ctx, slice, View(grad_z), sum, first == 0 ? View{} : View(sum));
      });
      if (!same_type && !grad_x.empty())
        Backend::reflect(ctx, identity<Parameter>(x.cols), View(sum), grad_x, View{});
    }
  }

  /// The same where all rows see h_in, a Reflection, or each its own of RowReflections.
  template <class HIn>
  static void backward(Context& ctx, Frame& frame, const Weight& weight, const HIn& h_in,
                       MatrixView<const Scalar> x, View grad_s, MatrixView<Scalar> grad_x,
                       MatrixView<Parameter> grads) {
    const auto grad_z = grad_z_for(frame, x, grad_x);
    weight.multiply_transposed(ctx, grad_s, grad_z);
    finish(ctx, h_in, x, View(grad_z), grad_x, grads);
  }

  /// Its last step: from grad_z, the gradients of h_in and grad_x.
  template <class HIn>
  static void finish(Context& ctx, const HIn& h_in, MatrixView<const Scalar> x, View grad_z,
                     MatrixView<Scalar> grad_x, MatrixView<Parameter> grads) {
    if (h_in.terms() != 0)
      Backend::reflect_grad(ctx, h_in, x, grad_z, grad_x, grads);
    else if (!same_type && !grad_x.empty())
      Backend::reflect(ctx, identity<Parameter>(x.cols), grad_z, grad_x, View{});
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
    for (const auto& slice : prepared.slices()) f(prepared.input(slice), slice.first, slice.count);
  }
};

}  // namespace detail
ETHER_END_NAMESPACE
