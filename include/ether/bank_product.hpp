#pragma once

/// The layer for rows that have adapters of their own, and back.

#include <ether/input_product.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// y = (x H_in) W^T H_out + bias. H_in is RowReflections; H_out too, or the identity. A Weight that brings
/// multiply_reflected for a Reflection alone multiplies what the row operation leaves, with the
/// identity: what a row without adapter becomes is what it becomes without a bank. T: Scalar or Intermediate.
template <class Backend, class Weight, class HIn, class HOut, class T>
void multiply_each(typename Backend::Context& ctx, const Weight& weight, const HIn& h_in,
                   MatrixView<const typename Backend::Scalar> x, const HOut& h_out,
                   MatrixView<const typename Backend::Scalar> bias, MatrixView<T> y) {
  using Scalar = typename Backend::Scalar;
  using Intermediate = typename Backend::Intermediate;
  using Probe = WeightProbe<Weight, Backend>;
  if constexpr (has<Probe::template multiply_reflected_each_t, Weight>) {
    weight.multiply_reflected(ctx, h_in, x, h_out, bias, y);
  } else if constexpr (has<Probe::template multiply_reflected_t, Weight>) {
    const auto identity_of = [](Index width) {
      return identity<typename Backend::Parameter>(width);
    };
    typename Backend::Context::Frame frame(ctx);
    if (h_in.terms() != 0) {
      const auto z = frame.template matrix<Scalar>(x.rows, x.cols);
      Backend::reflect(ctx, h_in, x, z, MatrixView<const Scalar>{});
      x = z;
    }
    if (h_out.terms() == 0)
      return weight.multiply_reflected(ctx, identity_of(x.cols), x, identity_of(y.cols), bias, y);
    if constexpr (has<reflect_behind_bias_t, Backend> && std::is_same_v<T, Scalar> &&
                  !std::is_same_v<HOut, Reflection<typename Backend::Parameter>>) {
      // With the bias in the product, as a frozen layer has it.
      weight.multiply_reflected(ctx, identity_of(x.cols), x, identity_of(y.cols), bias, y);
      return Backend::reflect_behind_bias(ctx, h_out, y, bias);
    }
    const auto s = as_intermediate<Backend>(frame, y);
    weight.multiply_reflected(ctx, identity_of(x.cols), x, identity_of(y.cols), {}, s);
    Backend::reflect(ctx, h_out, MatrixView<const Intermediate>(s), y,
                     MatrixView<const Scalar>{bias.data, bias.rows, y.cols, 0});
  } else {
    multiply_composed<Backend>(ctx, weight, h_in, x, h_out, bias, y);
  }
}

/// The layer up to its output transform, s = (x H_in) W^T, and back: InputProduct for rows that have adapters
/// of their own.
template <class Backend, class Weight, class Rows>
struct BankProduct {
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;

  const Weight& weight;
  Rows h;

  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Intermediate> s) const {
    multiply_each<Backend>(ctx, weight, h, x, identity<Parameter>(s.cols), {}, s);
  }
  void backward(Context& ctx, Frame& frame, MatrixView<const Scalar> x,
                MatrixView<const Intermediate> grad_s, MatrixView<Scalar> grad_x,
                MatrixView<Parameter> grads) const {
    InputProduct<Backend, Weight>::backward(ctx, frame, weight, h, x, grad_s, grad_x, grads);
  }
};

}  // namespace detail
ETHER_END_NAMESPACE
