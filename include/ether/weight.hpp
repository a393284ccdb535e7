#pragma once

/// What EtherLinear multiplies by: DenseWeight, MixedWeight, or any Weight of the user's.
///
///   Weight w                               copyable, a handle; the memory stays its owner's
///   w.out_features(), w.in_features()
///   w.multiply(ctx, z, s)                  s (tokens, out) = z (tokens, in) W^T; overwrites s
///   w.multiply_transposed(ctx, grad_s, grad_z)   optional, for backward:
///                                          grad_z (tokens, in) = grad_s W; overwrites grad_z
///   w.slice_rows(first, count)             optional, for layout row_chunk with several blocks:
///                                          a Weight of those output rows
///   w.dense()                              optional, for merge and unmerge: the matrix (out, in), as
///                                          a MatrixView<const Scalar>, a reference to a matrix, or
///                                          a matrix of its own that is made for the call
///   w.multiply_reflected(ctx, h_in, x, h_out, bias, y)   optional, instead of reflect, multiply,
///                                          reflect: y = (x H_in) W^T H_out + bias, y of Scalar or
///                                          Intermediate; h_in, h_out: Reflection<Parameter>, h_in
///                                          the same for all rows; bias of one row or of none
///   w.output_grad(ctx, h_in, x, h_out, grad_y, grad_z, grads)   optional: backend.hpp's, true where
///                                          it was done
///
/// The names of the optional members are reserved: a private member of such a name does not compile.
/// z, s, grad_s, grad_z are MatrixViews of Backend::Intermediate (float on the CPU, double for
/// double). All must be safe to call from several threads at once, each with its own Context.

#include <ether/prepared_adapter.hpp>

ETHER_BEGIN_NAMESPACE

namespace detail {

/// True for Eigen matrices, which own their memory; false for maps and blocks.
template <class T, class = void>
struct is_owner : std::false_type {};
template <class T>
struct is_owner<T, std::void_t<typename T::PlainObject>>
    : std::is_same<typename T::PlainObject, T> {};

/// `view` itself where it can hold an Intermediate, else workspace of its shape.
template <class Backend, class T>
MatrixView<typename Backend::Intermediate> as_intermediate(typename Backend::Context::Frame& frame,
                                                           MatrixView<T> view) {
  if constexpr (std::is_same_v<T, typename Backend::Intermediate>)
    return view;
  else
    return frame.template matrix<typename Backend::Intermediate>(view.rows, view.cols);
}

/// from H, in workspace; or `from` itself where there is nothing to do.
template <class Backend, class H>
MatrixView<const typename Backend::Intermediate> reflected(
    typename Backend::Context& ctx, typename Backend::Context::Frame& frame, const H& h,
    MatrixView<const typename Backend::Scalar> from) {
  using Intermediate = typename Backend::Intermediate;
  if constexpr (std::is_same_v<typename Backend::Scalar, Intermediate>)
    if (h.terms() == 0) return from;
  const auto to = frame.template matrix<Intermediate>(from.rows, from.cols);
  Backend::reflect(ctx, h, from, to, MatrixView<const Intermediate>{});
  return to;
}

/// y = (x H_in) W^T H_out + bias by a Weight that can only multiply. T: Scalar or Intermediate.
template <class Backend, class Weight, class HIn, class HOut, class T>
void multiply_composed(typename Backend::Context& ctx, const Weight& weight, const HIn& h_in,
                       MatrixView<const typename Backend::Scalar> x, const HOut& h_out,
                       MatrixView<const typename Backend::Scalar> bias, MatrixView<T> y) {
  using Intermediate = typename Backend::Intermediate;
  typename Backend::Context::Frame frame(ctx);
  const auto s = as_intermediate<Backend>(frame, y);
  weight.multiply(ctx, reflected<Backend>(ctx, frame, h_in, x), s);
  if (h_out.terms() != 0 || bias.rows != 0 || !std::is_same_v<T, Intermediate>)
    Backend::reflect(ctx, h_out, MatrixView<const Intermediate>(s), y,
                     MatrixView<const typename Backend::Scalar>{bias.data, bias.rows, y.cols, 0});
}

/// The products of a row-major (out, in) matrix of Element in backend memory, by the backend's gemm.
template <class Backend, class Element>
class GemmWeight {
 public:
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;

  Index out_features() const { return view_.rows; }
  Index in_features() const { return view_.cols; }
  void multiply(Context& ctx, MatrixView<const Intermediate> z, MatrixView<Intermediate> s) const {
    Backend::gemm(ctx, z, view_, /*transpose_b=*/true, s, /*accumulate=*/false);
  }
  void multiply_transposed(Context& ctx, MatrixView<const Intermediate> grad_s,
                           MatrixView<Intermediate> grad_z) const {
    Backend::gemm(ctx, grad_s, view_, /*transpose_b=*/false, grad_z, /*accumulate=*/false);
  }

 protected:
  explicit GemmWeight(MatrixView<const Element> view) : view_(view) {}
  MatrixView<const Element> view_;
};

}  // namespace detail

/// A row-major (out, in) matrix of Backend::Scalar in backend memory, as torch.nn.Linear stores
/// it. Wrapped: never copied, never written.
template <class Backend>
class DenseWeight : public detail::GemmWeight<Backend, typename Backend::Scalar> {
  using Base = detail::GemmWeight<Backend, typename Backend::Scalar>;

 public:
  using typename Base::Context;
  using typename Base::Intermediate;
  using typename Base::Parameter;
  using typename Base::Scalar;

  DenseWeight(const Scalar* data, Index out, Index in) : Base({data, out, in}) {}
  DenseWeight(const Scalar* data, Index out, Index in, Index stride)
      : Base({data, out, in, stride}) {}
  /// The same for sizes of any integer type.
  template <class Out, class In, std::enable_if_t<traits::are_sizes<Out, In>, int> = 0>
  DenseWeight(const Scalar* data, Out out, In in) : Base({data, out, in}) {}
  template <class Out, class In, class Stride,
            std::enable_if_t<traits::are_sizes<Out, In, Stride>, int> = 0>
  DenseWeight(const Scalar* data, Out out, In in, Stride stride) : Base({data, out, in, stride}) {}
  /// Implicit from whatever a MatrixView<const Scalar> is implicit from, but not from a temporary
  /// matrix, whose memory would be gone.
  template <class Matrix,
            std::enable_if_t<std::is_convertible_v<Matrix&&, MatrixView<const Scalar>> &&
                                 !std::is_same_v<std::decay_t<Matrix>, DenseWeight> &&
                                 !(std::is_rvalue_reference_v<Matrix&&> &&
                                   detail::is_owner<std::decay_t<Matrix>>::value),
                             int> = 0>
  DenseWeight(Matrix&& matrix) : Base(std::forward<Matrix>(matrix)) {}

  MatrixView<const Scalar> dense() const { return view_; }
  DenseWeight slice_rows(Index first, Index count) const { return view_.middle_rows(first, count); }

  /// y = (x H_in) W^T H_out + bias, in one where the backend can. HIn, HOut: Reflection, or RowReflections
  /// where the backend's own takes them.
  template <class HIn, class HOut, class T,
            std::enable_if_t<std::is_same_v<HIn, Reflection<Parameter>> ||
                                 detail::fuses<detail::multiply_reflected_each_t, Backend>(),
                             int> = 0>
  void multiply_reflected(Context& ctx, const HIn& h_in, MatrixView<const Scalar> x,
                          const HOut& h_out, MatrixView<const Scalar> bias, MatrixView<T> y) const {
    if constexpr (detail::fuses<detail::multiply_reflected_t, Backend>())
      Backend::multiply_reflected(ctx, h_in, x, view_, h_out, bias, y);
    else
      detail::multiply_composed<Backend>(ctx, *this, h_in, x, h_out, bias, y);
  }

  /// The backend's output_grad; false where it has none.
  bool output_grad([[maybe_unused]] Context& ctx,
                   [[maybe_unused]] const Reflection<Parameter>& h_in,
                   [[maybe_unused]] MatrixView<const Scalar> x,
                   [[maybe_unused]] const Reflection<Parameter>& h_out,
                   [[maybe_unused]] MatrixView<const Scalar> grad_y,
                   [[maybe_unused]] MatrixView<Intermediate> grad_z,
                   [[maybe_unused]] MatrixView<Parameter> grads) const {
    if constexpr (detail::fuses<detail::output_grad_t, Backend>())
      return Backend::output_grad(ctx, h_in, x, view_, h_out, grad_y, grad_z, grads);
    else
      return false;
  }

 private:
  using Base::view_;
};

/// The same with elements of another type than x and y: bfloat16 or half weights in an engine that computes
/// in float, EtherLinear<EigenBackend<float>, MixedWeight<EigenBackend<float>, Eigen::bfloat16>>. They
/// are widened as they are read, exactly. Without merge, whose result would be of Scalar.
template <class Backend, class Element>
class MixedWeight : public detail::GemmWeight<Backend, Element> {
  using Base = detail::GemmWeight<Backend, Element>;

 public:
  using typename Base::Context;
  using typename Base::Intermediate;
  using typename Base::Parameter;
  using typename Base::Scalar;

  MixedWeight(MatrixView<const Element> w) : Base(w) {
    detail::check_shape("the weight", w, w.rows, w.cols, "(out, in)").require();
  }

  MixedWeight slice_rows(Index first, Index count) const { return view_.middle_rows(first, count); }

  template <class HIn, class HOut, class T,
            std::enable_if_t<std::is_same_v<HIn, Reflection<Parameter>> ||
                                 detail::fuses<detail::multiply_reflected_each_t, Backend>(),
                             int> = 0>
  void multiply_reflected(Context& ctx, const HIn& h_in, MatrixView<const Scalar> x,
                          const HOut& h_out, MatrixView<const Scalar> bias, MatrixView<T> y) const {
    Backend::multiply_reflected(ctx, h_in, x, view_, h_out, bias, y);
  }

 private:
  using Base::view_;
};

ETHER_END_NAMESPACE
