#pragma once

/// The gradients of all adapters of a bank.

#include <ether/adapter_bank.hpp>
#include <ether/layer_check.hpp>

#include <vector>

ETHER_BEGIN_NAMESPACE

/// A place for the gradients of every slot of a bank, in backend memory, zero at first. The bank must
/// outlive it.
template <class Backend>
class BankGradients {
 public:
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  BankGradients(Context& ctx, const AdapterBank<Backend>& bank)
      : bank_(bank), input_(make(ctx, Side::input)), output_(make(ctx, Side::output)) {
    set_zero(ctx);
    Backend::synchronize(ctx);
  }

  /// dL/du, dL/dv of the adapter that is in a slot, shaped like it, on the host. To be read before another
  /// adapter is set there. Throws parameter_error for a slot that is empty or not there.
  Adapter<Parameter> slot(Context& ctx, Index slot) const {
    Adapter<Parameter> grads(bank_.config(slot), bank_.out_features(), bank_.in_features());
    for (const Side side : {Side::input, Side::output}) {
      const MatrixView<Parameter> to = grads.parameters(side);
      if (to.rows == 0) continue;
      const Index first = slot * bank_.rows(side, nullptr).most_terms;
      Backend::copy_out(ctx, MatrixView<const Parameter>(view(side).middle_rows(first, to.rows)),
                        to);
      Backend::synchronize(ctx);
      AdapterBank<Backend>::for_each_block(
          grads, side, [&](Index k, Index b, Index at, Index size) {
            const Parameter inverse = 1 / bank_.length(slot, grads, side, k, b);
            for (Index i = at; i < at + size; ++i) to(k, i) *= inverse;
          });
    }
    return grads;
  }

  void set_zero(Context& ctx) {
    for (const Side side : {Side::input, Side::output}) {
      const MatrixView<Parameter> all = view(side);
      const std::vector<Parameter> zeros(static_cast<std::size_t>(all.cols));
      for (Index r = 0; r < all.rows; ++r)
        Backend::copy_in(ctx, MatrixView<const Parameter>{zeros.data(), Index{1}, all.cols},
                         all.middle_rows(r, 1));
    }
  }

  const AdapterBank<Backend>& bank() const { return bank_; }
  /// What backward adds to, for vectors of length 1: (capacity * vectors per block, width) each.
  GradientViews<Parameter> views() const { return {input_.view(), output_.view()}; }
  MatrixView<Parameter> view(Side side) const {
    return side == Side::input ? views().input : views().output;
  }

 private:
  using Buffer = typename Backend::template Buffer<Parameter>;
  Buffer make(Context& ctx, Side side) const {
    const auto rows = bank_.rows(side, nullptr);
    return Buffer(ctx, rows.unit.rows, rows.unit.rows == 0 ? 0 : rows.unit.cols);
  }

  const AdapterBank<Backend>& bank_;
  Buffer input_, output_;
};

ETHER_END_NAMESPACE
