#pragma once

/// weight.hpp's contract as compile-time sentences, and whether a Weight fits an adapter.

#include <ether/weight.hpp>

ETHER_BEGIN_NAMESPACE

namespace detail {

template <class Weight, class Backend>
struct WeightProbe {
  using A = Probe<Backend>;
  using S = typename A::S;
  using P = typename A::P;
  using I = typename A::I;

  template <class W>
  using out_features_t = decltype(Index{std::declval<const W&>().out_features()});
  template <class W>
  using in_features_t = decltype(Index{std::declval<const W&>().in_features()});
  template <class W>
  using multiply_t = decltype(std::declval<const W&>().multiply(
      A::ctx(), A::template view<const I>(), A::template view<I>()));
  template <class W>
  using multiply_transposed_t = decltype(std::declval<const W&>().multiply_transposed(
      A::ctx(), A::template view<const I>(), A::template view<I>()));
  template <class W>
  using slice_rows_t = decltype(std::declval<const W&>().slice_rows(Index{}, Index{}));
  template <class W>
  using dense_t = decltype(MatrixView<const S>(std::declval<const W&>().dense()));
  template <class W, class Y>
  using multiply_reflected_to = decltype(std::declval<const W&>().multiply_reflected(
      A::ctx(), A::h(), A::template view<const S>(), A::h(), A::template view<const S>(),
      A::template view<Y>()));
  template <class W>
  using multiply_reflected_t =
      std::void_t<multiply_reflected_to<W, S>, multiply_reflected_to<W, I>>;
  template <class W>
  using multiply_reflected_each_t = decltype(std::declval<const W&>().multiply_reflected(
      A::ctx(), A::each(), A::template view<const S>(), A::each(), A::template view<const S>(),
      A::template view<S>()));
  template <class W>
  using output_grad_t = decltype(bool{
      std::declval<const W&>().output_grad(A::ctx(), A::h(), A::template view<const S>(), A::h(),
                                           A::template view<const S>(), A::template view<I>(),
                                           A::template view<P>())});
};

}  // namespace detail

/// Compiles only for a type that EtherLinear<Backend, Weight> can hold.
template <class Weight, class Backend>
constexpr bool check_weight() {
  using Probe = detail::WeightProbe<Weight, Backend>;
  using detail::has;
  static_assert(std::is_copy_constructible_v<Weight>,
                "ether: the Weight is not copyable; it must be a handle to memory owned elsewhere");
  static_assert(has<Probe::template out_features_t, Weight>,
                "ether: the Weight lacks out_features() const");
  static_assert(has<Probe::template in_features_t, Weight>,
                "ether: the Weight lacks in_features() const");
  static_assert(has<Probe::template multiply_t, Weight>,
                "ether: the Weight lacks multiply(ctx, z, s) const, s = z W^T, on MatrixViews of "
                "Backend::Intermediate");
#define ETHER_OPTIONAL_MEMBER(Names, member, signature)                               \
  static_assert(!detail::Names<Weight>::value || has<Probe::template member, Weight>, \
                "ether: the Weight has an optional member with another signature than " signature)
  ETHER_OPTIONAL_MEMBER(NamesMultiplyTransposed, multiply_transposed_t,
                        "multiply_transposed(ctx, grad_s, grad_z) const, on MatrixViews of "
                        "Backend::Intermediate");
  ETHER_OPTIONAL_MEMBER(NamesSliceRows, slice_rows_t, "slice_rows(first, count) const");
  ETHER_OPTIONAL_MEMBER(NamesDense, dense_t, "dense() const, a MatrixView<const Scalar>");
  ETHER_OPTIONAL_MEMBER(NamesMultiplyReflected, multiply_reflected_t,
                        "multiply_reflected(ctx, h_in, x, h_out, bias, y) const, for y of "
                        "Backend::Scalar and of Backend::Intermediate");
  ETHER_OPTIONAL_MEMBER(
      NamesOutputGrad, output_grad_t,
      "bool output_grad(ctx, h_in, x, h_out, grad_y, grad_z, grads) const, of weight.hpp");
#undef ETHER_OPTIONAL_MEMBER
  return true;
}

namespace detail {

/// Whether dense() shows memory that is there anyway, not a copy made for the call.
template <class Weight, class Backend>
constexpr bool shows_dense() {
  if constexpr (has<WeightProbe<Weight, Backend>::template dense_t, Weight>) {
    using Dense = decltype(std::declval<const Weight&>().dense());
    return std::is_reference_v<Dense> ||
           std::is_same_v<std::decay_t<Dense>, MatrixView<const typename Backend::Scalar>>;
  } else {
    return false;
  }
}

/// The adapter for all rows of a weight. Throws shape_error where it is for another shape.
template <class Weight, class Parameter>
std::vector<AdaptedRows<Parameter>> whole_weight(const Weight& weight,
                                                 const Adapter<Parameter>& adapter) {
  if (weight.out_features() != adapter.out_features() ||
      weight.in_features() != adapter.in_features())
    fail<shape_error>("the weight is (", weight.out_features(), ", ", weight.in_features(),
                      ") but the adapter is for (", adapter.out_features(), ", ",
                      adapter.in_features(), "), both (out_features, in_features)");
  return {{adapter}};
}

/// The weight itself, if its memory is of its shape, and it can be sliced where output rows differ in
/// H_in. Throws shape_error, parameter_error.
template <class Backend, class Weight>
Weight fitting(Weight weight, const PreparedAdapter<Backend>& prepared) {
  using Probe = WeightProbe<Weight, Backend>;
  if constexpr (shows_dense<Weight, Backend>())
    check_shape("the weight", MatrixView<const typename Backend::Scalar>(weight.dense()),
                weight.out_features(), weight.in_features(), "(out_features, in_features)")
        .require();
  const auto slices = static_cast<Index>(prepared.slices().size());
  if (!has<Probe::template slice_rows_t, Weight> && slices > 1)
    fail<parameter_error>(
        "the output rows see ", slices,
        " different H_in (layout row_chunk with several blocks, or several adapters), "
        "which multiplies slices of the weight's rows; give the Weight a member "
        "slice_rows(first, count)");
  return weight;
}

}  // namespace detail
ETHER_END_NAMESPACE
