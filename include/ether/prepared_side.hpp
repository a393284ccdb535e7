#pragma once

/// One side of a prepared adapter: its vectors normalised, in backend memory.

#include <ether/adapted_rows.hpp>
#include <ether/backend.hpp>

#include <algorithm>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// What a Reflection refers to. `stage` computes on the host, `copy_in` moves it, so that nothing in
/// backend memory changes before all sides are checked.
template <class Backend>
class PreparedSide {
 public:
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  /// Empty where the side is not adapted. `order`: of the weight's rows, empty for the adapter's own.
  PreparedSide(Context& ctx, const Adapter<Parameter>& adapter, Side side,
               const std::vector<Index>& order = {})
      : terms_(adapter.terms(side)),
        width_(terms_ == 0 ? 0 : adapter.width(side)),
        blocks_(terms_ == 0 ? 1 : adapter.blocks(side)),
        reordered_(order.empty() || terms_ == 0 ? ReorderedBlocks{width_ / blocks_, 1, {}}
                                                : reorder_blocks(order, width_, blocks_)),
        factors_(width_ == 0 ? 0 : passes() * width_ / reordered_.block_size),
        unit_(static_cast<std::size_t>(terms_ * passes() * width_)),
        coefficient_(static_cast<std::size_t>(terms_ * factors_)),
        inverse_length_(coefficient_.size()),
        unit_buffer_(ctx, terms_, passes() * width_),
        coefficient_buffer_(ctx, terms_, factors_),
        inverse_length_buffer_(ctx, terms_, factors_) {}

  Index terms() const { return terms_; }
  /// How many Reflections H is, one applied after the other.
  Index passes() const { return reordered_.passes; }

  Reflection<Parameter> reflection(Index pass = 0) const {
    Reflection<Parameter> r;
    r.block_size = reordered_.block_size;
    r.blocks = width_ / r.block_size;
    r.unit = unit_buffer_.view().block(0, pass * width_, terms_, width_);
    r.coefficient = coefficient_buffer_.view().block(0, pass * r.blocks, terms_, r.blocks);
    r.inverse_length = inverse_length_buffer_.view().block(0, pass * r.blocks, terms_, r.blocks);
    return r;
  }

  /// `adapter` was checked, and has the shape of the one before.
  void stage(const Adapter<Parameter>& adapter, Side side) {
    const MatrixView<const Parameter> w = adapter.parameters(side);
    const AdapterConfig& config = adapter.config();
    for (Index k = 0; k < terms_; ++k) {
      std::fill_n(coefficient_.data() + k * factors_, factors_,
                  static_cast<Parameter>(config.strength * term_coefficient(config.variant, k)));
      for (Index b = 0; b < blocks_; ++b) stage_block(w.row(k), k, b);
    }
  }

  void copy_in(Context& ctx) {
    if (terms_ == 0) return;
    const auto copy = [&](const std::vector<Parameter>& from, const Buffer& to, Index cols) {
      Backend::copy_in(ctx, MatrixView<const Parameter>{from.data(), terms_, cols}, to.view());
    };
    copy(unit_, unit_buffer_, passes() * width_);
    copy(coefficient_, coefficient_buffer_, factors_);
    copy(inverse_length_, inverse_length_buffer_, factors_);
  }

 private:
  using Buffer = typename Backend::template Buffer<Parameter>;

  /// Vector `w` of term k, block b.
  void stage_block(const Parameter* w, Index k, Index b) {
    const Index size = width_ / blocks_, first = b * size;
    Parameter* const unit = unit_.data() + k * passes() * width_;
    Parameter* const inverse = inverse_length_.data() + k * factors_;
    if (reordered_.place.empty()) {
      inverse[b] = static_cast<Parameter>(1 / normalize(w + first, size, unit + first));
      return;
    }
    const double norm = length(w + first, size);
    for (Index i = first; i < first + size; ++i) {
      const Index to = reordered_.place[static_cast<std::size_t>(i)];
      // What lies between stays 0.
      unit[to] = static_cast<Parameter>(static_cast<double>(w[i]) / norm);
      inverse[to / reordered_.block_size] = static_cast<Parameter>(1 / norm);
    }
  }

  Index terms_;
  Index width_;
  Index blocks_;  // of the adapter
  ReorderedBlocks reordered_;
  Index factors_;  // blocks of all passes together
  std::vector<Parameter> unit_, coefficient_, inverse_length_;
  Buffer unit_buffer_, coefficient_buffer_, inverse_length_buffer_;
};

}  // namespace detail
ETHER_END_NAMESPACE
