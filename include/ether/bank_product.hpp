#pragma once

/// The layer for rows that have adapters of their own, and back.

#include <ether/adapter_bank.hpp>
#include <ether/weight_check.hpp>

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
    MatrixView<Intermediate> s;
    if constexpr (std::is_same_v<T, Intermediate>)
      s = y;
    else
      s = frame.template matrix<Intermediate>(y.rows, y.cols);
    weight.multiply_reflected(ctx, identity_of(x.cols), x, identity_of(y.cols), {}, s);
    Backend::reflect(ctx, h_out, MatrixView<const Intermediate>(s), y,
                     MatrixView<const Scalar>{bias.data, bias.rows, y.cols, 0});
  } else {
    multiply_composed<Backend>(ctx, weight, h_in, x, h_out, bias, y);
  }
}

/// See EtherLinear::backward. `kept_s` may be empty.
template <class Backend, class Weight, class Rows>
void backward_each(typename Backend::Context& ctx, const Weight& weight, const Rows& h_in,
                   const Rows& h_out, MatrixView<const typename Backend::Scalar> x,
                   MatrixView<const typename Backend::Scalar> grad_y,
                   MatrixView<typename Backend::Scalar> grad_x,
                   MatrixView<const typename Backend::Intermediate> kept_s,
                   const BankGradients<Backend>& grads) {
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using View = MatrixView<const Intermediate>;
  const Index tokens = x.rows, out = grad_y.cols;
  const bool need_grad_z = !grad_x.empty() || h_in.terms() != 0;
  typename Backend::Context::Frame frame(ctx);
  View grad_s;
  if (h_out.terms() == 0) {
    grad_s = reflected<Backend>(ctx, frame, identity<Parameter>(out), grad_y);
  } else {
    View s = kept_s;
    if (s.empty()) {
      const auto again = frame.template matrix<Intermediate>(tokens, out);
      multiply_each<Backend>(ctx, weight, h_in, x, identity<Parameter>(out), {}, again);
      s = again;
    }
    MatrixView<Intermediate> to;
    if (need_grad_z) to = frame.template matrix<Intermediate>(tokens, out);
    Backend::reflect_grad(ctx, h_out, s, grad_y, to, grads.view(Side::output));
    grad_s = to;
  }
  if (!need_grad_z) return;
  const MatrixView<Intermediate> grad_z = grad_x.empty()
                                              ? frame.template matrix<Intermediate>(tokens, x.cols)
                                              : as_intermediate<Backend>(frame, grad_x);
  weight.multiply_transposed(ctx, grad_s, grad_z);
  if (h_in.terms() != 0)
    Backend::reflect_grad(ctx, h_in, x, View(grad_z), grad_x, grads.view(Side::input));
  else if (!std::is_same_v<Scalar, Intermediate>)
    Backend::reflect(ctx, identity<Parameter>(x.cols), View(grad_z), grad_x, View{});
}

}  // namespace detail
ETHER_END_NAMESPACE
