#pragma once

/// EtherLinear: a frozen linear layer with an ETHER or ETHER+ adapter.
///
///     y = ((x H_in) W^T) H_out + b  =  x W'^T + b,      W' = H_out W H_in
///
/// forward and backward transform activations, O(in + out) per token, and never write W;
/// merge writes W' (paper, sections 3.2 to 3.4). x (tokens, in), y (tokens, out), W (out, in).

#include <ether/input_product.hpp>
#include <ether/inverse.hpp>
#include <ether/prepared_adapter.hpp>

namespace ether {

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

template <class Backend, class Weight = DenseWeight<Backend>>
class EtherLinear {
  static_assert(check_backend<Backend>());
  static_assert(check_weight<Weight, Backend>());

 public:
  using Scalar = typename Backend::Scalar;
  using Parameter = typename Backend::Parameter;
  using Intermediate = typename Backend::Intermediate;
  using Context = typename Backend::Context;

  /// Wraps `weight` and `bias` (out, or null for none), which must outlive the layer.
  /// Throws shape_error where the adapter is for another shape; parameter_error for a zero or
  /// non-finite block, and for row_chunk with a Weight that cannot be sliced.
  EtherLinear(Context& ctx, Weight weight, const Adapter<Parameter>& adapter,
              const Scalar* bias = nullptr)
      : weight_(detail::fitting<Backend>(std::move(weight), adapter)),
        bias_(bias),
        prepared_(ctx, adapter) {}

  Index out_features() const { return prepared_.out_features(); }
  Index in_features() const { return prepared_.in_features(); }
  const AdapterConfig& config() const { return prepared_.config(); }
  const Weight& weight() const { return weight_; }
  const PreparedAdapter<Backend>& prepared() const { return prepared_; }

  /// Other parameters of the same shape; O(in + out), no allocation. Not while another thread uses
  /// the layer. Throws as the constructor does, and then changes nothing.
  void set_adapter(Context& ctx, const Adapter<Parameter>& adapter) { prepared_.set(ctx, adapter); }

  /// y = x W'^T + b. Overwrites y. Throws shape_error.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    forward(ctx, x, y, {});
  }

  /// The same but for the last bits of y, and s = x H_in W^T (tokens, out), overwritten: what H_out
  /// acts on, for the backward pass. An empty s is not kept; where the output side is not adapted,
  /// backward has no use for it.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y,
               MatrixView<Intermediate> s) const {
    detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)");
    detail::check_shape("y", y, x.rows, out_features(), "(tokens of x, out_features)");
    detail::check_disjoint("x", x, "y", y);
    check_beside_weight("y", y);
    if (!s.empty()) {
      detail::check_shape("s", s, x.rows, out_features(), "(tokens of x, out_features)");
      detail::check_disjoint("x", x, "s", s);
      detail::check_disjoint("y", y, "s", s);
      check_beside_weight("s", s);
    }
    if (y.empty()) return;
    const auto h_in = prepared_.reflection(Side::input);
    const auto h_out = prepared_.reflection(Side::output);
    if (s.empty() && h_in.step == 0)
      return Product::multiply(ctx, weight_, h_in, x, h_out, bias(), y);
    Frame frame(ctx);
    const auto to = s.empty() ? detail::as_intermediate<Backend>(frame, y) : s;
    product().forward(ctx, x, to);
    if (!s.empty() || h_out.terms() != 0 || bias_ != nullptr || !same_type)
      Backend::reflect(ctx, h_out, View(to), y, bias());
  }

  /// From grad_y = dL/dy: overwrites grad_x = dL/dx, skipped where grad_x is empty; and
  /// grads += dL/du, dL/dv of every adapted side. The weight and the bias are frozen.
  /// `grads` has the adapter's shape. Throws shape_error before anything is written.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, Adapter<Parameter>& grads) const {
    backward(ctx, BackwardArguments<Backend>{x, grad_y, grad_x}, grads);
  }

  /// The same with arguments by name, among them the s that forward kept.
  void backward(Context& ctx, const BackwardArguments<Backend>& arguments,
                Adapter<Parameter>& grads) const {
    prepared_.check_same_shape("the gradients'", grads, "make them with Adapter::zeros_like");
    const GradientViews<Parameter> host{grads.parameters(Side::input),
                                        grads.parameters(Side::output)};
    if constexpr (Backend::host_memory) {
      backward(ctx, arguments, host);
    } else {
      Frame frame(ctx);
      const auto on_device = [&](MatrixView<Parameter> from) {
        const auto device = frame.template matrix<Parameter>(from.rows, from.cols);
        Backend::copy_in(ctx, MatrixView<const Parameter>(from), device);
        return device;
      };
      const GradientViews<Parameter> device{on_device(host.input), on_device(host.output)};
      backward(ctx, arguments, device);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device.input), host.input);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device.output), host.output);
      Backend::synchronize(ctx);
    }
  }

  /// The same with the gradients in backend memory.
  void backward(Context& ctx, const BackwardArguments<Backend>& arguments,
                const GradientViews<Parameter>& grads) const {
    static_assert(detail::has<Probe::template multiply_transposed_t, Weight>,
                  "ether: backward needs a Weight with multiply_transposed(ctx, grad_s, grad_z) "
                  "const, grad_z = grad_s W");
    check_backward(arguments, grads);
    const auto& [x, grad_y, grad_x, kept_s] = arguments;
    if (x.rows == 0) return;

    const auto h_out = prepared_.reflection(Side::output);
    const Product product = this->product();
    const bool need_grad_z = !grad_x.empty() || grads.input.rows != 0;
    Frame frame(ctx);
    if (h_out.terms() == 0) {
      const auto grad_s = detail::reflected<Backend>(ctx, frame, h_out, grad_y);
      return product.backward(ctx, frame, x, grad_s, grad_x, grads.input);
    }
    if constexpr (detail::has<Probe::template output_grad_t, Weight>)
      if (kept_s.empty() && product.h.step == 0) {
        MatrixView<Intermediate> grad_z;
        if (need_grad_z) grad_z = Product::grad_z_for(frame, x, grad_x);
        if (weight_.output_grad(ctx, product.h, x, h_out, grad_y, grad_z, grads.output)) {
          if (need_grad_z) product.finish(ctx, x, View(grad_z), grad_x, grads.input);
          return;
        }
      }
    View s = kept_s;
    if (s.empty()) {
      const auto again = frame.template matrix<Intermediate>(x.rows, out_features());
      product.forward(ctx, x, again);
      s = again;
    }
    MatrixView<Intermediate> grad_s;
    if (need_grad_z) grad_s = frame.template matrix<Intermediate>(x.rows, out_features());
    Backend::reflect_grad(ctx, h_out, s, grad_y, grad_s, grads.output);
    if (need_grad_z) product.backward(ctx, frame, x, View(grad_s), grad_x, grads.input);
  }

  /// merged = W' = H_out W H_in, (out, in), overwritten; may be the wrapped memory itself, which
  /// the layer then goes on to wrap. Computed in at least float32, rounded once.
  /// Throws shape_error.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: merge needs a Weight with dense() const, a MatrixView");
    const auto& dense = weight_.dense();  // what owns its memory lives until the end
    const MatrixView<const Scalar> w(dense);
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)");
    detail::check_in_place_or_disjoint("the weight", w, "merged", merged);
    Backend::transform(ctx, prepared_.reflection(Side::input), prepared_.reflection(Side::output),
                       w, merged);
  }

  /// The inverse of merge, in place: merged = H_out^-1 merged H_in^-1. Throws shape_error, and
  /// ill_conditioned for a block with a condition number above max_condition; nothing is written
  /// then. In 16-bit types merge followed by unmerge does not restore every bit: keep the base.
  void unmerge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: unmerge needs a Weight with dense() const, a MatrixView");
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)");
    const InverseReflection<Backend> input(ctx, prepared_, Side::input);
    const InverseReflection<Backend> output(ctx, prepared_, Side::output);
    detail::transform_output_first<Backend>(ctx, input.reflection(), output.reflection(), merged);
    Backend::synchronize(ctx);  // the two inverses end here
  }

 private:
  using Frame = typename Context::Frame;
  using View = MatrixView<const Intermediate>;
  using Probe = detail::WeightProbe<Weight, Backend>;
  using Product = detail::InputProduct<Backend, Weight>;
  static constexpr bool same_type = Product::same_type;
  static constexpr bool has_dense = detail::has<Probe::template dense_t, Weight>;

  Product product() const { return {weight_, prepared_.reflection(Side::input)}; }

  template <class T>
  void check_beside_weight(const char* name, MatrixView<T> output) const {
    if constexpr (detail::shows_dense<Weight, Backend>())
      detail::check_disjoint("the weight", MatrixView<const Scalar>(weight_.dense()), name, output);
  }

  void check_backward(const BackwardArguments<Backend>& a,
                      const GradientViews<Parameter>& grads) const {
    detail::check_shape("x", a.x, a.x.rows, in_features(), "(tokens, in_features)");
    if (!a.s.empty())
      detail::check_shape("s", a.s, a.x.rows, out_features(), "(tokens of x, out_features)");
    detail::check_shape("grad_y", a.grad_y, a.x.rows, out_features(),
                        "(tokens of x, out_features)");
    if (a.grad_x.rows != 0 || a.grad_x.data != nullptr) {
      detail::check_shape("grad_x", a.grad_x, a.x.rows, in_features(),
                          "(tokens of x, in_features)");
      detail::check_disjoint("x", a.x, "grad_x", a.grad_x);
      detail::check_disjoint("grad_y", a.grad_y, "grad_x", a.grad_x);
      detail::check_disjoint("s", a.s, "grad_x", a.grad_x);
      check_beside_weight("grad_x", a.grad_x);
    }
    check_grads("input", grads.input, prepared_.reflection(Side::input));
    check_grads("output", grads.output, prepared_.reflection(Side::output));
  }

  static void check_grads(const char* side, MatrixView<Parameter> grads,
                          const Reflection<Parameter>& h) {
    if (grads.rows != h.terms() || (h.terms() != 0 && grads.cols != h.width()))
      detail::fail<shape_error>("the ", side, " gradients are (", grads.rows, ", ", grads.cols,
                                ") but the adapter's are (", h.terms(), ", ",
                                h.terms() == 0 ? 0 : h.width(), "), (vectors per block, width)");
  }

  /// The bias as an addend of every row; no rows where there is none.
  MatrixView<const Scalar> bias() const {
    return {bias_, bias_ == nullptr ? 0 : 1, out_features(), 0};
  }

  Weight weight_;
  const Scalar* bias_;
  PreparedAdapter<Backend> prepared_;
};

}  // namespace ether
