#pragma once

/// EtherLinear: a frozen linear layer with an ETHER or ETHER+ adapter.
///
///     y = ((x H_in) W^T) H_out + b  =  x W'^T + b,      W' = H_out W H_in
///
/// forward and backward transform activations, O(in + out) per token, and never write W;
/// merge writes W' (paper, sections 3.2 to 3.4). x (tokens, in), y (tokens, out), W (out, in).

#include <ether/input_product.hpp>
#include <ether/inverse.hpp>
#include <ether/merge.hpp>
#include <ether/output_grad.hpp>
#include <ether/prepared_adapter.hpp>

namespace ether {

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
    if constexpr (Product::fuses)
      if (s.empty() && h_in.step == 0)
        return Backend::reflect_gemm(ctx, h_in, x, weight_.dense(), h_out, bias(), y);
    Frame frame(ctx);
    const auto to = s.empty() ? detail::as_intermediate<Backend>(frame, y) : s;
    product().forward(ctx, frame, x, to);
    if (!s.empty() || h_out.terms() != 0 || bias_ != nullptr || !same_type)
      Backend::reflect(ctx, h_out, View(to), y, bias());
  }

  /// From grad_y = dL/dy: overwrites grad_x = dL/dx, skipped where grad_x is empty; and
  /// grads += dL/du, dL/dv of every adapted side. The weight and the bias are frozen.
  /// `grads` has the adapter's shape. Throws shape_error before anything is written.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, Adapter<Parameter>& grads) const {
    backward(ctx, x, View{}, grad_y, grad_x, grads);
  }

  /// The same with the s that forward gave for this x and adapter: cheaper where the output side is
  /// adapted, whose gradients need s. An empty s is computed again or, over a DenseWeight where that
  /// is cheaper, W is used once more, see output_grad.hpp.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Intermediate> s,
                MatrixView<const Scalar> grad_y, MatrixView<Scalar> grad_x,
                Adapter<Parameter>& grads) const {
    prepared_.check_same_shape("the gradients'", grads, "make them with Adapter::zeros_like");
    const auto input = grads.parameters(Side::input), output = grads.parameters(Side::output);
    if constexpr (Backend::host_memory) {
      backward(ctx, x, s, grad_y, grad_x, input, output);
    } else {
      Frame frame(ctx);
      const auto on_device = [&](MatrixView<Parameter> host) {
        const auto device = frame.template matrix<Parameter>(host.rows, host.cols);
        Backend::copy_in(ctx, MatrixView<const Parameter>(host), device);
        return device;
      };
      const auto device_input = on_device(input), device_output = on_device(output);
      backward(ctx, x, s, grad_y, grad_x, device_input, device_output);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device_input), input);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device_output), output);
      Backend::synchronize(ctx);
    }
  }

  /// Both with the gradients in backend memory, a row for each term as Adapter::parameters gives
  /// them: grads_input (terms, in), grads_output (terms, out); 0 rows for a side not adapted.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, MatrixView<Parameter> grads_input,
                MatrixView<Parameter> grads_output) const {
    backward(ctx, x, View{}, grad_y, grad_x, grads_input, grads_output);
  }
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Intermediate> s,
                MatrixView<const Scalar> grad_y, MatrixView<Scalar> grad_x,
                MatrixView<Parameter> grads_input, MatrixView<Parameter> grads_output) const {
    static_assert(detail::has<Probe::template multiply_transposed_t, Weight>,
                  "ether: backward needs a Weight with multiply_transposed(ctx, grad_s, grad_z) "
                  "const, grad_z = grad_s W");
    detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)");
    if (!s.empty())
      detail::check_shape("s", s, x.rows, out_features(), "(tokens of x, out_features)");
    detail::check_shape("grad_y", grad_y, x.rows, out_features(), "(tokens of x, out_features)");
    if (grad_x.rows != 0 || grad_x.data != nullptr) {
      detail::check_shape("grad_x", grad_x, x.rows, in_features(), "(tokens of x, in_features)");
      detail::check_disjoint("x", x, "grad_x", grad_x);
      detail::check_disjoint("grad_y", grad_y, "grad_x", grad_x);
      detail::check_disjoint("s", s, "grad_x", grad_x);
      check_beside_weight("grad_x", grad_x);
    }
    const auto h_out = prepared_.reflection(Side::output);
    check_grads("input", grads_input, prepared_.reflection(Side::input));
    check_grads("output", grads_output, h_out);
    if (x.rows == 0) return;

    Frame frame(ctx);
    if (h_out.terms() == 0)
      return product().backward(ctx, frame, x,
                                detail::reflected<Backend>(ctx, frame, h_out, grad_y), grad_x,
                                grads_input);
    if constexpr (regroups)
      if (s.empty() && product().h.step == 0 &&
          detail::output_grad_regroups(x.rows, h_out.terms() * h_out.blocks, out_features()))
        return backward_without_s(ctx, frame, x, grad_y, grad_x, grads_input, grads_output);
    if (s.empty()) {
      const auto again = frame.template matrix<Intermediate>(x.rows, out_features());
      product().forward(ctx, frame, x, again);
      s = again;
    }
    const bool need_grad_s = !grad_x.empty() || grads_input.rows != 0;
    MatrixView<Intermediate> grad_s;
    if (need_grad_s) grad_s = frame.template matrix<Intermediate>(x.rows, out_features());
    detail::reflect_with_grad<Backend>(ctx, h_out, s, grad_y, grad_s, grads_output);
    if (need_grad_s) product().backward(ctx, frame, x, View(grad_s), grad_x, grads_input);
  }

  /// merged = W' = H_out W H_in, (out, in), overwritten; may be the wrapped memory itself, which
  /// the layer then goes on to wrap. Computed in at least float32, rounded once.
  /// Throws shape_error.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: merge needs a Weight with dense() const, a MatrixView");
    const MatrixView<const Scalar> w = weight_.dense();
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)");
    detail::check_in_place_or_disjoint("the weight", w, "merged", merged);
    detail::transform_weight<Backend>(ctx, prepared_.reflection(Side::input),
                                      prepared_.reflection(Side::output), w, merged,
                                      detail::First::input);
  }

  /// The inverse of merge, in place: merged = H_out^-1 merged H_in^-1. Throws shape_error, and
  /// ill_conditioned for a block with a condition number above max_condition; nothing is written
  /// then. In 16-bit types merge followed by unmerge does not restore every bit: keep the base.
  void unmerge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: unmerge needs a Weight with dense() const, a MatrixView");
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)");
    const InverseReflection<Backend> input(ctx, prepared_, Side::input);
    const InverseReflection<Backend> output(ctx, prepared_, Side::output);
    detail::transform_weight<Backend>(ctx, input.reflection(), output.reflection(), merged, merged,
                                      detail::First::output);
    Backend::synchronize(ctx);  // the two inverses end here
  }

 private:
  using Frame = typename Context::Frame;
  using View = MatrixView<const Intermediate>;
  using Probe = detail::WeightProbe<Weight, Backend>;
  using Product = detail::InputProduct<Backend, Weight>;
  static constexpr bool same_type = Product::same_type;
  static constexpr bool has_dense = detail::has<Probe::template dense_t, Weight>;
  /// Whether output_grad may use W: only where W and its product are ours.
  static constexpr bool regroups =
      std::is_same_v<Weight, DenseWeight<Backend>> && std::is_same_v<Parameter, Intermediate>;

  Product product() const { return {weight_, prepared_.reflection(Side::input)}; }

  template <class T>
  void check_beside_weight(const char* name, MatrixView<T> output) const {
    if constexpr (has_dense) detail::check_disjoint("the weight", weight_.dense(), name, output);
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

  /// backward over a dense W, without computing s again.
  void backward_without_s(Context& ctx, Frame& frame, MatrixView<const Scalar> x,
                          MatrixView<const Scalar> grad_y, MatrixView<Scalar> grad_x,
                          MatrixView<Parameter> grads_input,
                          MatrixView<Parameter> grads_output) const {
    const auto h_in = prepared_.reflection(Side::input);
    const auto h_out = prepared_.reflection(Side::output);
    const bool need_grad_s = !grad_x.empty() || grads_input.rows != 0;
    View grad_s;
    MatrixView<Intermediate> grad_z;
    if (need_grad_s) {
      grad_s = detail::reflected<Backend>(ctx, frame, h_out, grad_y);
      grad_z = Product::grad_z_for(frame, x, grad_x);
    }
    if constexpr (regroups)
      detail::output_grad<Backend>(ctx, h_out, weight_.dense(),
                                   detail::reflected<Backend>(ctx, frame, h_in, x), grad_y, grad_s,
                                   grad_z, grads_output);
    if (need_grad_s)
      detail::reflect_with_grad<Backend>(ctx, h_in, x, View(grad_z), grad_x, grads_input);
  }

  Weight weight_;
  const Scalar* bias_;
  PreparedAdapter<Backend> prepared_;
};

}  // namespace ether
