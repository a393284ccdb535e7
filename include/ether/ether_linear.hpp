#pragma once

/// EtherLinear: a frozen linear layer with an ETHER or ETHER+ adapter.
///
///     y = ((x H_in) W^T) H_out + b  =  x W'^T + b,      W' = H_out W H_in
///
/// forward and backward transform activations, O(in + out) per token, and never write W;
/// merge writes W' (paper, sections 3.2 to 3.4). x (tokens, in), y (tokens, out), W (out, in).

#include <ether/bank_gradients.hpp>
#include <ether/bank_product.hpp>
#include <ether/inverse.hpp>
#include <ether/reflect.hpp>

ETHER_BEGIN_NAMESPACE

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
      : EtherLinear(ctx, weight, detail::whole_weight(weight, adapter), bias) {}

  /// For a weight whose rows belong to several adapters, or are in an order of the engine's, see
  /// adapted_rows.hpp. It has forward and, where no block is taken apart, merge. H_in then differs between
  /// rows, which needs a Weight that can be sliced. Throws as above, and as PreparedAdapter does.
  EtherLinear(Context& ctx, Weight weight, const std::vector<AdaptedRows<Parameter>>& parts,
              const Scalar* bias = nullptr)
      : prepared_(ctx, weight.out_features(), weight.in_features(), parts),
        weight_(detail::fitting<Backend>(std::move(weight), prepared_)),
        bias_(bias) {}

  /// The frozen layer, without an adapter: for banks. Throws shape_error for a Weight whose memory is of another
  /// shape.
  EtherLinear(Context& ctx, Weight weight, const Scalar* bias = nullptr)
      : EtherLinear(ctx, weight, std::vector<AdaptedRows<Parameter>>{}, bias) {}

  Index out_features() const { return prepared_.out_features(); }
  Index in_features() const { return prepared_.in_features(); }
  const AdapterConfig& config(Index part = 0) const { return prepared_.config(part); }
  const Weight& weight() const { return weight_; }
  const PreparedAdapter<Backend>& prepared() const { return prepared_; }

  /// Other parameters of the same shape, of one part; O(in + out), no allocation. Not while another thread
  /// uses the layer. Throws as the constructor does, and then changes nothing.
  void set_adapter(Context& ctx, const Adapter<Parameter>& adapter, Index part = 0) {
    prepared_.set(ctx, adapter, part);
  }

  /// What forward would throw. Needs no try around it.
  Status check_forward(MatrixView<const Scalar> x, MatrixView<Scalar> y,
                       MatrixView<Intermediate> s = {}) const {
    return check().forward(x, y, s);
  }

  /// y = x W'^T + b. Overwrites y. Throws shape_error.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    forward(ctx, x, y, {});
  }

  /// The same but for the last bits of y, and s = x H_in W^T (tokens, out), overwritten: what H_out
  /// acts on, for the backward pass. An empty s is not kept; where the output side is not adapted,
  /// backward has no use for it.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y,
               MatrixView<Intermediate> s) const {
    check_forward(x, y, s).require();
    if (y.empty()) return;
    const Product product = this->product();
    if (s.empty() && product.has_one_h() && has_one_output())
      return Product::multiply(ctx, weight_, product.h(), x,
                               prepared_.output(prepared_.spans()[0], 0), bias(), y);
    Frame frame(ctx);
    const auto to = s.empty() ? detail::as_intermediate<Backend>(frame, y) : s;
    product.forward(ctx, x, to);
    detail::apply_output(ctx, prepared_, View(to), y, Addends<Backend>{bias_, {}});
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
    check_backward(arguments, grads).require();
    backward(ctx, product(), prepared_.reflection(Side::output), arguments, grads);
  }

  /// y = x W'^T + b where each row has its own W': that of the adapter in slot ids[row] of the bank, or W where
  /// ids[row] is -1. ids: one for each row of x, in backend memory. A row's y depends on the ids of no other row,
  /// and with -1 is what the layer without a bank computes, to the bit (on a GPU where cuBLAS
  /// uses the same product). s as above, (tokens, out); may be empty. The layer has no adapter of its own.
  /// Throws shape_error, also for an id that is no slot, unless ids are in device memory; parameter_error for a layer that has an adapter.
  template <class Unit>
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y,
               const AdapterBank<Backend, Unit>& bank, const std::int32_t* ids,
               MatrixView<Intermediate> s = {}) const {
    check_forward(x, y, bank, ids, s).require();
    if (y.empty()) return;
    if (Backend::host_memory && std::all_of(ids, ids + x.rows, [](auto id) { return id == -1; }))
      return forward(ctx, x, y, s);
    const auto h_out = bank.rows(Side::output, ids);
    const auto product = this->product(bank, ids);
    if (s.empty())
      return detail::multiply_each<Backend>(ctx, weight_, product.h, x, h_out, bias(), y);
    product.forward(ctx, x, s);
    Backend::reflect(ctx, h_out, View(s), y, bias());
  }

  /// What that would throw. Needs no try around it.
  template <class Unit>
  Status check_forward(MatrixView<const Scalar> x, MatrixView<Scalar> y,
                       const AdapterBank<Backend, Unit>& bank, const std::int32_t* ids,
                       MatrixView<Intermediate> s = {}) const {
    ETHER_RETURN_IF_ERROR(check_forward(x, y, s));
    return check_bank(bank, ids, x.rows);
  }

  /// From grad_y = dL/dy: overwrites grad_x = dL/dx, skipped where it is empty, and adds dL/du, dL/dv of each
  /// row to the gradients of its slot; rows with id -1 have none. The same for any number of threads. Throws
  /// as forward does, and shape_error for gradients of another bank.
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, const AdapterBank<Backend>& bank,
                const std::int32_t* ids, BankGradients<Backend>& grads) const {
    backward(ctx, BackwardArguments<Backend>{x, grad_y, grad_x}, bank, ids, grads);
  }

  /// The same with arguments by name, among them the s that forward kept.
  void backward(Context& ctx, const BackwardArguments<Backend>& arguments,
                const AdapterBank<Backend>& bank, const std::int32_t* ids,
                BankGradients<Backend>& grads) const {
    static_assert(detail::has<Probe::template multiply_transposed_t, Weight>,
                  "ether: backward needs a Weight with multiply_transposed(ctx, grad_s, grad_z) "
                  "const, grad_z = grad_s W");
    check_bank(bank, ids, arguments.x.rows).require();
    check().backward(arguments).require();
    if (&grads.bank() != &bank)
      detail::fail<shape_error>("the gradients are another bank's; make them with this bank");
    backward(ctx, product(bank, ids), bank.rows(Side::output, ids), arguments, grads.views());
  }

  /// merged = W' = H_out W H_in, (out, in), overwritten; may be the wrapped memory itself, which
  /// the layer then goes on to wrap. Computed in at least float32, rounded once.
  /// Throws shape_error; parameter_error where an order of rows takes blocks apart.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: merge needs a Weight with dense() const, a MatrixView");
    const auto& dense = weight_.dense();  // what owns its memory lives until the end
    const MatrixView<const Scalar> w(dense);
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)").require();
    detail::check_in_place_or_disjoint("the weight", w, "merged", merged).require();
    for (const auto& span : prepared_.spans()) prepared_.check_can_merge(span).require();
    for (const auto& span : prepared_.spans())
      Backend::transform(ctx, prepared_.input(span), prepared_.output(span, 0),
                         w.middle_rows(span.first, span.count),
                         merged.middle_rows(span.first, span.count));
  }

  /// The inverse of merge, in place: merged = H_out^-1 merged H_in^-1. Throws shape_error, and
  /// ill_conditioned for a block with a condition number above max_condition; nothing is written
  /// then. In 16-bit types merge followed by unmerge does not restore every bit: keep the base.
  void unmerge(Context& ctx, MatrixView<Scalar> merged) const {
    static_assert(has_dense, "ether: unmerge needs a Weight with dense() const, a MatrixView");
    detail::check_shape("merged", merged, out_features(), in_features(), "(out, in)").require();
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
  static constexpr bool has_dense = detail::has<Probe::template dense_t, Weight>;

  Product product() const { return {weight_, prepared_}; }
  template <class Unit>
  auto product(const AdapterBank<Backend, Unit>& bank, const std::int32_t* ids) const {
    using Rows = typename AdapterBank<Backend, Unit>::Rows;
    return detail::BankProduct<Backend, Weight, Rows>{weight_, bank.rows(Side::input, ids)};
  }
  detail::LayerCheck<Backend, Weight> check() const { return {weight_}; }
  bool has_one_output() const {
    return prepared_.spans().size() == 1 && prepared_.passes(prepared_.spans()[0]) == 1;
  }

  Status check_backward(const BackwardArguments<Backend>& arguments,
                        const GradientViews<Parameter>& grads) const {
    using Check = detail::LayerCheck<Backend, Weight>;
    if (!prepared_.in_own_order())
      return detail::found<parameter_error>(
          "backward needs one adapter, for all rows of the weight in its own order; train with a "
          "layer for each adapter");
    ETHER_RETURN_IF_ERROR(check().backward(arguments));
    ETHER_RETURN_IF_ERROR(
        Check::gradients("input", grads.input, prepared_.reflection(Side::input)));
    return Check::gradients("output", grads.output, prepared_.reflection(Side::output));
  }

  template <class Unit>
  Status check_bank(const AdapterBank<Backend, Unit>& bank, const std::int32_t* ids,
                    Index rows) const {
    if (bank.out_features() != out_features() || bank.in_features() != in_features())
      return detail::found<shape_error>("the bank is for (", bank.out_features(), ", ",
                                        bank.in_features(), ") but the layer is (", out_features(),
                                        ", ", in_features(), "), both (out_features, in_features)");
    if (prepared_.parts() != 0)
      return detail::found<parameter_error>(
          "the layer has an adapter of its own; for a bank make it without one, "
          "EtherLinear(ctx, weight, bias)");
    return bank.check_ids(ids, rows);
  }

  /// `product` is the layer up to its output transform h_out.
  template <class AnyProduct, class HOut>
  void backward(Context& ctx, const AnyProduct& product, const HOut& h_out,
                const BackwardArguments<Backend>& arguments,
                const GradientViews<Parameter>& grads) const {
    const auto& [x, grad_y, grad_x, kept_s] = arguments;
    if (x.rows == 0) return;
    const bool need_grad_z = !grad_x.empty() || grads.input.rows != 0;
    Frame frame(ctx);
    if (h_out.terms() == 0) {
      if (!need_grad_z) return;
      const auto grad_s =
          detail::reflected<Backend>(ctx, frame, identity<Parameter>(out_features()), grad_y);
      return product.backward(ctx, frame, x, grad_s, grad_x, grads.input);
    }
    if constexpr (std::is_same_v<AnyProduct, Product> &&
                  detail::has<Probe::template output_grad_t, Weight>)
      if (kept_s.empty() && product.has_one_h()) {
        MatrixView<Intermediate> grad_z;
        if (need_grad_z) grad_z = Product::grad_z_for(frame, x, grad_x);
        if (weight_.output_grad(ctx, product.h(), x, h_out, grad_y, grad_z, grads.output)) {
          if (need_grad_z) Product::finish(ctx, product.h(), x, View(grad_z), grad_x, grads.input);
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

  /// The bias as an addend of every row; no rows where there is none.
  MatrixView<const Scalar> bias() const {
    return {bias_, bias_ == nullptr ? 0 : 1, out_features(), 0};
  }

  PreparedAdapter<Backend> prepared_;
  Weight weight_;
  const Scalar* bias_;
};

ETHER_END_NAMESPACE
