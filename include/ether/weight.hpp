#pragma once

/// What EtherLinear multiplies by: DenseWeight, or any Weight of the user's.
///
///   Weight w                               copyable, a handle; the memory stays its owner's
///   w.out_features(), w.in_features()
///   w.multiply(ctx, z, s)                  s (tokens, out) = z (tokens, in) W^T; overwrites s
///   w.multiply_transposed(ctx, grad_s, grad_z)   optional, for backward:
///                                          grad_z (tokens, in) = grad_s W; overwrites grad_z
///   w.slice_rows(first, count)             optional, for layout row_chunk with several blocks:
///                                          a Weight of those output rows
///   w.dense()                              optional, for merge and unmerge:
///                                          MatrixView<const Scalar> (out, in)
///
/// z, s, grad_s, grad_z are MatrixViews of Backend::Intermediate. multiply must be safe to call
/// from several threads at once, each with its own Context.

#include <ether/adapter.hpp>
#include <ether/backend.hpp>

namespace ether {

namespace detail {

/// True for Eigen matrices, which own their memory; false for maps and blocks.
template <class T, class = void>
struct is_owner : std::false_type {};
template <class T>
struct is_owner<T, std::void_t<typename T::PlainObject>>
    : std::is_same<typename T::PlainObject, T> {};

}  // namespace detail

/// A row-major (out, in) matrix of Backend::Scalar in backend memory, as torch.nn.Linear stores
/// it. Wrapped: never copied, never written.
template <class Backend>
class DenseWeight {
 public:
  using Scalar = typename Backend::Scalar;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;

  DenseWeight(const Scalar* data, Index out, Index in) : view_(data, out, in) {}
  DenseWeight(const Scalar* data, Index out, Index in, Index stride)
      : view_(data, out, in, stride) {}
  /// Implicit from whatever a MatrixView<const Scalar> is implicit from, but not from a temporary
  /// matrix, whose memory would be gone.
  template <class Matrix,
            std::enable_if_t<std::is_convertible_v<Matrix&&, MatrixView<const Scalar>> &&
                                 !std::is_same_v<std::decay_t<Matrix>, DenseWeight> &&
                                 !(std::is_rvalue_reference_v<Matrix&&> &&
                                   detail::is_owner<std::decay_t<Matrix>>::value),
                             int> = 0>
  DenseWeight(Matrix&& matrix) : view_(std::forward<Matrix>(matrix)) {}

  Index out_features() const { return view_.rows; }
  Index in_features() const { return view_.cols; }
  MatrixView<const Scalar> dense() const { return view_; }
  DenseWeight slice_rows(Index first, Index count) const { return view_.middle_rows(first, count); }

  void multiply(Context& ctx, MatrixView<const Intermediate> z, MatrixView<Intermediate> s) const {
    Backend::gemm(ctx, z, view_, /*transpose_b=*/true, s, /*accumulate=*/false);
  }
  void multiply_transposed(Context& ctx, MatrixView<const Intermediate> grad_s,
                           MatrixView<Intermediate> grad_z) const {
    Backend::gemm(ctx, grad_s, view_, /*transpose_b=*/false, grad_z, /*accumulate=*/false);
  }

 private:
  MatrixView<const Scalar> view_;
};

namespace detail {

template <class Weight, class Backend>
struct WeightProbe {
  using View = MatrixView<const typename Backend::Intermediate>;
  using Out = MatrixView<typename Backend::Intermediate>;
  template <class W>
  using out_features_t = decltype(Index{std::declval<const W&>().out_features()});
  template <class W>
  using in_features_t = decltype(Index{std::declval<const W&>().in_features()});
  template <class W>
  using multiply_t = decltype(std::declval<const W&>().multiply(
      std::declval<typename Backend::Context&>(), View{}, Out{}));
  template <class W>
  using multiply_transposed_t = decltype(std::declval<const W&>().multiply_transposed(
      std::declval<typename Backend::Context&>(), View{}, Out{}));
  template <class W>
  using slice_rows_t = decltype(std::declval<const W&>().slice_rows(Index{}, Index{}));
  template <class W>
  using dense_t =
      decltype(MatrixView<const typename Backend::Scalar>(std::declval<const W&>().dense()));
};

}  // namespace detail

/// Compiles only for a type that EtherLinear<Backend, Weight> can hold.
template <class Weight, class Backend>
constexpr bool check_weight() {
  using Probe = detail::WeightProbe<Weight, Backend>;
  static_assert(std::is_copy_constructible_v<Weight>,
                "ether: the Weight is not copyable; it must be a handle to memory owned elsewhere");
  static_assert(detail::has<Probe::template out_features_t, Weight>,
                "ether: the Weight lacks out_features() const");
  static_assert(detail::has<Probe::template in_features_t, Weight>,
                "ether: the Weight lacks in_features() const");
  static_assert(detail::has<Probe::template multiply_t, Weight>,
                "ether: the Weight lacks multiply(ctx, z, s) const, s = z W^T, on MatrixViews of "
                "Backend::Intermediate");
  return true;
}

namespace detail {

/// The weight itself, if the adapter fits it. Throws shape_error for another shape, parameter_error
/// for row_chunk with several blocks on a Weight that cannot be sliced.
template <class Backend, class Weight>
Weight fitting(Weight weight, const Adapter<typename Backend::Parameter>& adapter) {
  using Probe = WeightProbe<Weight, Backend>;
  const Index out = weight.out_features(), in = weight.in_features();
  if (out != adapter.out_features() || in != adapter.in_features())
    fail<shape_error>("the weight is (", out, ", ", in, ") but the adapter is for (",
                      adapter.out_features(), ", ", adapter.in_features(),
                      "), both (out_features, in_features)");
  if constexpr (has<Probe::template dense_t, Weight>) {
    const MatrixView<const typename Backend::Scalar> w = weight.dense();
    check_shape("the weight", w, out, in, "(out_features, in_features)");
  }
  const AdapterConfig& c = adapter.config();
  if (!has<Probe::template slice_rows_t, Weight> && c.layout == BlockLayout::row_chunk &&
      c.input_blocks > 1 && has_side(c.sides, Side::input))
    fail<parameter_error>("layout row_chunk with ", c.input_blocks,
                          " input blocks multiplies slices of the weight's rows; give the Weight a "
                          "member slice_rows(first, count)");
  return weight;
}

}  // namespace detail
}  // namespace ether
