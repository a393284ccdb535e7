#pragma once

/// What EtherLinear asks of its arguments, before anything is written.

#include <ether/weight_check.hpp>

ETHER_BEGIN_NAMESPACE

/// What backward reads, and where dL/dx goes, by name; an empty view is left out.
template <class Backend>
struct BackwardArguments {
  using Scalar = typename Backend::Scalar;
  MatrixView<const Scalar> x;       ///< (tokens, in)
  MatrixView<const Scalar> grad_y;  ///< (tokens, out): dL/dy
  MatrixView<Scalar> grad_x;        ///< (tokens, in): dL/dx, overwritten; empty: not computed
  /// (tokens, out): what forward kept for this x and adapter. Empty: computed again or, where that
  /// is cheaper, W is used once more (backends/eigen/output_grad.hpp); of no use where the output
  /// side is not adapted.
  MatrixView<const typename Backend::Intermediate> s = {};
};

/// Gradients in backend memory, a row for each vector as Adapter::parameters gives them; 0 rows for
/// a side that is not adapted.
template <class Parameter>
struct GradientViews {
  MatrixView<Parameter> input;   ///< (vectors per block, in)
  MatrixView<Parameter> output;  ///< (vectors per block, out)
};

namespace detail {

/// Of a layer by `weight`; a Status for what does not fit it.
template <class Backend, class Weight>
struct LayerCheck {
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  static constexpr const char* like_x = "(tokens of x, in_features)";
  static constexpr const char* like_y = "(tokens of x, out_features)";

  const Weight& weight;

  Status forward(MatrixView<const Scalar> x, MatrixView<Scalar> y,
                 MatrixView<Intermediate> s) const {
    ETHER_RETURN_IF_ERROR(check_shape("x", x, x.rows, in_features(), "(tokens, in_features)"));
    ETHER_RETURN_IF_ERROR(check_shape("y", y, x.rows, out_features(), like_y));
    ETHER_RETURN_IF_ERROR(check_disjoint("x", x, "y", y));
    ETHER_RETURN_IF_ERROR(beside_weight("y", y));
    if (s.empty()) return {};
    ETHER_RETURN_IF_ERROR(check_shape("s", s, x.rows, out_features(), like_y));
    ETHER_RETURN_IF_ERROR(check_disjoint("x", x, "s", s));
    ETHER_RETURN_IF_ERROR(check_disjoint("y", y, "s", s));
    return beside_weight("s", s);
  }

  Status backward(const BackwardArguments<Backend>& a) const {
    ETHER_RETURN_IF_ERROR(check_shape("x", a.x, a.x.rows, in_features(), "(tokens, in_features)"));
    if (!a.s.empty())
      ETHER_RETURN_IF_ERROR(check_shape("s", a.s, a.x.rows, out_features(), like_y));
    ETHER_RETURN_IF_ERROR(check_shape("grad_y", a.grad_y, a.x.rows, out_features(), like_y));
    if (a.grad_x.rows != 0 || a.grad_x.data != nullptr) {
      ETHER_RETURN_IF_ERROR(check_shape("grad_x", a.grad_x, a.x.rows, in_features(), like_x));
      ETHER_RETURN_IF_ERROR(check_disjoint("x", a.x, "grad_x", a.grad_x));
      ETHER_RETURN_IF_ERROR(check_disjoint("grad_y", a.grad_y, "grad_x", a.grad_x));
      ETHER_RETURN_IF_ERROR(check_disjoint("s", a.s, "grad_x", a.grad_x));
      ETHER_RETURN_IF_ERROR(beside_weight("grad_x", a.grad_x));
    }
    return {};
  }

  /// Those of the vectors of h.
  static Status gradients(const char* side, MatrixView<Parameter> grads,
                          const Reflection<Parameter>& h) {
    if (grads.rows == h.terms() && (h.terms() == 0 || grads.cols == h.width())) return {};
    return found<shape_error>(
        "the ", side, " gradients are (", grads.rows, ", ", grads.cols, ") but the adapter's are (",
        h.terms(), ", ", h.terms() == 0 ? 0 : h.width(), "), (vectors per block, width)");
  }

 private:
  Index out_features() const { return weight.out_features(); }
  Index in_features() const { return weight.in_features(); }

  template <class T>
  Status beside_weight([[maybe_unused]] const char* name,
                       [[maybe_unused]] MatrixView<T> output) const {
    if constexpr (shows_dense<Weight, Backend>())
      return check_disjoint("the weight", MatrixView<const Scalar>(weight.dense()), name,
                                    output);
    else
      return {};
  }
};

}  // namespace detail
ETHER_END_NAMESPACE
