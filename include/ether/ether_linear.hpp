#pragma once

/// EtherLinear: a frozen linear layer with an ETHER or ETHER+ adapter.
///
///     y = ((x H_in) W^T) H_out + b  =  x W'^T + b,      W' = H_out W H_in
///
/// forward and backward transform activations, O(in + out) per token, and never write W;
/// merge writes W' (paper, sections 3.2 to 3.4). x (tokens, in), y (tokens, out), W (out, in).

#include <ether/inverse.hpp>
#include <ether/merge.hpp>
#include <ether/output_grad.hpp>
#include <ether/weight.hpp>

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
    detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)");
    detail::check_shape("y", y, x.rows, out_features(), "(tokens of x, out_features)");
    detail::check_disjoint("x", x, "y", y);
    check_beside_weight("y", y);
    if (y.empty()) return;
    const auto h_in = prepared_.reflection(Side::input);
    const auto h_out = prepared_.reflection(Side::output);
    if constexpr (fuses)
      if (h_in.step == 0)
        return Backend::reflect_gemm(ctx, h_in, x, weight_.dense(), h_out, bias(), y);
    Frame frame(ctx);
    const MatrixView<Intermediate> s = as_intermediate(frame, y);
    product(ctx, frame, x, s);
    if (h_out.terms() != 0 || bias_ != nullptr || !same_type)
      Backend::reflect(ctx, h_out, View(s), y, bias());
  }

  /// From grad_y = dL/dy: overwrites grad_x = dL/dx, skipped where grad_x is empty; and
  /// grads += dL/du, dL/dv of every adapted side. The weight and the bias are frozen.
  /// `grads` has the adapter's shape. Throws shape_error before anything is written.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, Adapter<Parameter>& grads) const {
    prepared_.check_same_shape("the gradients'", grads, "make them with Adapter::zeros_like");
    const auto input = grads.parameters(Side::input), output = grads.parameters(Side::output);
    if constexpr (Backend::host_memory) {
      backward(ctx, x, grad_y, grad_x, input, output);
    } else {
      Frame frame(ctx);
      const auto on_device = [&](MatrixView<Parameter> host) {
        const auto device = frame.template matrix<Parameter>(host.rows, host.cols);
        Backend::copy_in(ctx, MatrixView<const Parameter>(host), device);
        return device;
      };
      const auto device_input = on_device(input), device_output = on_device(output);
      backward(ctx, x, grad_y, grad_x, device_input, device_output);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device_input), input);
      Backend::copy_out(ctx, MatrixView<const Parameter>(device_output), output);
      Backend::synchronize(ctx);
    }
  }

  /// The same with the gradients in backend memory, a row for each term as Adapter::parameters
  /// gives them: grads_input (terms, in), grads_output (terms, out); 0 rows for a side not adapted.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, MatrixView<Parameter> grads_input,
                MatrixView<Parameter> grads_output) const {
    static_assert(detail::has<Probe::template multiply_transposed_t, Weight>,
                  "ether: backward needs a Weight with multiply_transposed(ctx, grad_s, grad_z) "
                  "const, grad_z = grad_s W");
    const auto h_in = prepared_.reflection(Side::input);
    const auto h_out = prepared_.reflection(Side::output);
    detail::check_shape("x", x, x.rows, in_features(), "(tokens, in_features)");
    detail::check_shape("grad_y", grad_y, x.rows, out_features(), "(tokens of x, out_features)");
    if (grad_x.rows != 0 || grad_x.data != nullptr) {
      detail::check_shape("grad_x", grad_x, x.rows, in_features(), "(tokens of x, in_features)");
      detail::check_disjoint("x", x, "grad_x", grad_x);
      detail::check_disjoint("grad_y", grad_y, "grad_x", grad_x);
      check_beside_weight("grad_x", grad_x);
    }
    check_grads("input", grads_input, h_in);
    check_grads("output", grads_output, h_out);
    if (x.rows == 0) return;

    Frame frame(ctx);
    if constexpr (regroups)
      if (h_out.terms() != 0 && h_in.step == 0 &&
          detail::output_grad_regroups(x.rows, h_out.terms() * h_out.blocks, out_features()))
        return dense_backward(ctx, frame, x, grad_y, grad_x, grads_input, grads_output);
    if (!grad_x.empty() || h_in.terms() != 0)
      input_backward(ctx, frame, x, reflected(ctx, frame, h_out, grad_y), grad_x, grads_input);
    if (h_out.terms() != 0) {
      const auto s = frame.template matrix<Intermediate>(x.rows, out_features());
      product(ctx, frame, x, s);
      Backend::reflect_grad(ctx, h_out, View(s), grad_y, grads_output);
    }
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
  using Probe = detail::WeightProbe<Weight, Backend>;
  using View = MatrixView<const Intermediate>;
  static constexpr bool same_type = std::is_same_v<Scalar, Intermediate>;
  static constexpr bool has_dense = detail::has<Probe::template dense_t, Weight>;
  static constexpr bool has_slices = detail::has<Probe::template slice_rows_t, Weight>;
  /// Whether output_grad may use W: only where W and its product are ours.
  static constexpr bool regroups =
      std::is_same_v<Weight, DenseWeight<Backend>> && std::is_same_v<Parameter, Intermediate>;
  /// Whether H_in and H_out are applied within the product.
  static constexpr bool fuses =
      std::is_same_v<Weight, DenseWeight<Backend>> && detail::has<detail::reflect_gemm_t, Backend>;

  void check_beside_weight(const char* name, MatrixView<Scalar> output) const {
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

  /// `view` itself where it can hold an Intermediate, else workspace of its shape.
  static MatrixView<Intermediate> as_intermediate(Frame& frame, MatrixView<Scalar> view) {
    if constexpr (same_type)
      return view;
    else
      return frame.template matrix<Intermediate>(view.rows, view.cols);
  }

  /// from H, in workspace; or `from` itself where there is nothing to do.
  static View reflected(Context& ctx, Frame& frame, const Reflection<Parameter>& h,
                        MatrixView<const Scalar> from) {
    if constexpr (same_type)
      if (h.terms() == 0) return from;
    const auto to = frame.template matrix<Intermediate>(from.rows, from.cols);
    Backend::reflect(ctx, h, from, to, View{});
    return to;
  }

  /// Calls f(h, first, count) for every slice of output rows that sees one H_in.
  template <class F>
  void for_each_slice(F&& f) const {
    const auto h = prepared_.reflection(Side::input);
    for (Index first = 0, count; first < out_features(); first += count) {
      count = h.rows_alike(first, out_features());
      f(h.at_row(first), first, count);
    }
  }

  /// s = x H_in W^T.
  void product(Context& ctx, Frame& frame, MatrixView<const Scalar> x,
               MatrixView<Intermediate> s) const {
    const auto h = prepared_.reflection(Side::input);
    if constexpr (fuses)
      if (h.step == 0)
        return Backend::reflect_gemm(ctx, h, x, weight_.dense(),
                                     identity<Parameter>(out_features()), {}, s);
    if (h.step == 0) {
      weight_.multiply(ctx, reflected(ctx, frame, h, x), s);
    } else if constexpr (has_slices) {
      const auto z = frame.template matrix<Intermediate>(x.rows, x.cols);
      for_each_slice([&](const Reflection<Parameter>& slice, Index first, Index count) {
        Backend::reflect(ctx, slice, x, z, View{});
        weight_.slice_rows(first, count).multiply(ctx, z, s.block(0, first, s.rows, count));
      });
    }
  }

  /// Workspace for grad_z = dL/d(x H_in), or grad_x where that can hold it.
  MatrixView<Intermediate> grad_z_for(Frame& frame, Index tokens, MatrixView<Scalar> grad_x) const {
    if (!grad_x.empty()) return as_intermediate(frame, grad_x);
    return frame.template matrix<Intermediate>(tokens, in_features());
  }

  /// From grad_z: the gradients of the input side, and grad_x = grad_z H_in.
  void through_input(Context& ctx, MatrixView<const Scalar> x, View grad_z,
                     MatrixView<Scalar> grad_x, MatrixView<Parameter> grads) const {
    const auto h = prepared_.reflection(Side::input);
    if constexpr (detail::has<detail::reflect_with_grad_t, Backend>)
      if (h.terms() != 0 && !grad_x.empty())
        return Backend::reflect_with_grad(ctx, h, x, grad_z, grad_x, grads);
    if (h.terms() != 0) Backend::reflect_grad(ctx, h, x, grad_z, grads);
    if (!grad_x.empty() && (h.terms() != 0 || !same_type))
      Backend::reflect(ctx, h, grad_z, grad_x, View{});
  }

  /// grad_z = grad_s W, and through_input; slice by slice where output rows differ in H_in.
  void input_backward(Context& ctx, Frame& frame, MatrixView<const Scalar> x, View grad_s,
                      MatrixView<Scalar> grad_x, MatrixView<Parameter> grads) const {
    if (prepared_.reflection(Side::input).step == 0) {
      const auto grad_z = grad_z_for(frame, x.rows, grad_x);
      weight_.multiply_transposed(ctx, grad_s, grad_z);
      through_input(ctx, x, grad_z, grad_x, grads);
    } else if constexpr (has_slices) {
      const auto sum = grad_z_for(frame, x.rows, grad_x);
      const auto grad_z = frame.template matrix<Intermediate>(x.rows, x.cols);
      for_each_slice([&](const Reflection<Parameter>& slice, Index first, Index count) {
        weight_.slice_rows(first, count)
            .multiply_transposed(ctx, grad_s.block(0, first, x.rows, count), grad_z);
        Backend::reflect_grad(ctx, slice, x, View(grad_z), grads);
        if (!grad_x.empty())
          Backend::reflect(ctx, slice, View(grad_z), sum, first == 0 ? View{} : View(sum));
      });
      if (!same_type && !grad_x.empty())
        Backend::reflect(ctx, identity<Parameter>(x.cols), View(sum), grad_x, View{});
    }
  }

  /// Both sides over a dense W, without recomputing the tokens before H_out.
  void dense_backward(Context& ctx, Frame& frame, MatrixView<const Scalar> x,
                      MatrixView<const Scalar> grad_y, MatrixView<Scalar> grad_x,
                      MatrixView<Parameter> grads_input, MatrixView<Parameter> grads_output) const {
    const auto h_in = prepared_.reflection(Side::input);
    const auto h_out = prepared_.reflection(Side::output);
    const bool need_grad_z = !grad_x.empty() || h_in.terms() != 0;
    const auto grad_s = need_grad_z ? reflected(ctx, frame, h_out, grad_y) : View{};
    const auto grad_z =
        need_grad_z ? grad_z_for(frame, x.rows, grad_x) : MatrixView<Intermediate>{};
    if constexpr (regroups)
      detail::output_grad<Backend>(ctx, h_out, weight_.dense(), reflected(ctx, frame, h_in, x),
                                   grad_y, grad_s, grad_z, grads_output);
    if (need_grad_z) through_input(ctx, x, grad_z, grad_x, grads_input);
  }

  Weight weight_;
  const Scalar* bias_;
  PreparedAdapter<Backend> prepared_;
};

}  // namespace ether
