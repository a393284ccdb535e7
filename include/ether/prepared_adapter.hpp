#pragma once

/// PreparedAdapter: an adapter normalised and moved to where its backend computes.

#include <ether/adapter.hpp>
#include <ether/backend.hpp>

#include <limits>
#include <string_view>

namespace ether {

namespace detail {

/// |w|, computed without overflow or underflow.
template <class Parameter>
double length(const Parameter* w, Index size) {
  double largest = 0;
  for (Index i = 0; i < size; ++i) {
    const double magnitude = std::fabs(static_cast<double>(w[i]));
    if (!(magnitude <= largest)) largest = magnitude;  // takes a NaN over
  }
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  double sum = 0;
  for (Index i = 0; i < size; ++i) {
    const double scaled = static_cast<double>(w[i]) / largest;
    sum += scaled * scaled;
  }
  return largest * std::sqrt(sum);
}

inline const char* term_name(Index term) { return term == 0 ? "u" : "v"; }

}  // namespace detail

/// Holds ŵ_k = w_k / |w_k|, s * c_k and 1 / |w_k| of both sides in backend memory. Movable.
template <class Backend>
class PreparedAdapter {
 public:
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  /// Throws parameter_error for a zero or non-finite block, naming it.
  PreparedAdapter(Context& ctx, const Adapter<Parameter>& adapter)
      : config_(adapter.config()),
        out_(adapter.out_features()),
        in_(adapter.in_features()),
        input_(ctx, adapter, Side::input),
        output_(ctx, adapter, Side::output) {
    set(ctx, adapter);
  }

  /// Replaces the parameters and the strength; O(in + out), no allocation. Nothing changes when it
  /// throws: shape_error for an adapter of another shape, parameter_error as above.
  void set(Context& ctx, const Adapter<Parameter>& adapter) {
    check_same_shape(adapter);
    input_.stage(adapter, Side::input);
    output_.stage(adapter, Side::output);
    input_.copy_in(ctx);
    output_.copy_in(ctx);
    config_ = adapter.config();
  }

  const AdapterConfig& config() const { return config_; }
  Index out_features() const { return out_; }
  Index in_features() const { return in_; }
  Index width(Side side) const { return side == Side::input ? in_ : out_; }

  /// A side's H; on the input side as it acts on the rows of the weight. Identity where the config
  /// does not adapt the side.
  Reflection<Parameter> reflection(Side side) const {
    const Stage& stage = side == Side::input ? input_ : output_;
    Reflection<Parameter> r = identity<Parameter>(width(side));
    if (!has_side(config_.sides, side)) return r;
    r.blocks = block_count(config_, side);
    r.block_size = width(side) / r.blocks;
    r.unit = stage.unit_buffer.view();
    r.coefficient = stage.coefficient_buffer.view();
    r.inverse_length = stage.inverse_length_buffer.view();
    if (side == Side::input && config_.layout == BlockLayout::row_chunk && r.blocks > 1) {
      r.step = r.blocks;
      r.period = out_;
    }
    return r;
  }

 private:
  template <class T>
  using Buffer = typename Backend::template Buffer<T>;

  /// One side: normalised on the host first, so that nothing is written before all is checked.
  struct Stage {
    Stage(Context& ctx, const Adapter<Parameter>& adapter, Side side)
        : terms(adapter.terms(side)),
          blocks(terms ? adapter.blocks(side) : 0),
          unit(static_cast<std::size_t>(terms * adapter.width(side))),
          coefficient(static_cast<std::size_t>(terms * blocks)),
          inverse_length(coefficient.size()),
          unit_buffer(ctx, terms, terms ? adapter.width(side) : 0),
          coefficient_buffer(ctx, terms, blocks),
          inverse_length_buffer(ctx, terms, blocks) {}

    void stage(const Adapter<Parameter>& adapter, Side side) {
      if (terms == 0) return;
      const MatrixView<const Parameter> w = adapter.parameters(side);
      const Index size = adapter.block_size(side);
      for (Index k = 0; k < terms; ++k)
        for (Index b = 0; b < blocks; ++b) {
          const Parameter* block = w.row(k) + b * size;
          const double length = detail::length(block, size);
          const double inverse = 1 / length;
          if (!(length > 0) || !std::isfinite(length) ||
              !(inverse <= static_cast<double>(std::numeric_limits<Parameter>::max())))
            detail::fail<parameter_error>(
                to_string(side), "_", detail::term_name(k), " block ", b, " of ", blocks,
                " has length ", length,
                "; every block needs finite values and a length whose inverse is finite");
          const auto at = static_cast<std::size_t>(k * blocks + b);
          coefficient[at] = static_cast<Parameter>(adapter.config().strength *
                                                   term_coefficient(adapter.config().variant, k));
          inverse_length[at] = static_cast<Parameter>(inverse);
          Parameter* to = unit.data() + k * w.cols + b * size;
          for (Index i = 0; i < size; ++i)
            to[i] = static_cast<Parameter>(static_cast<double>(block[i]) / length);
        }
    }

    void copy_in(Context& ctx) {
      if (terms == 0) return;
      const Index width = static_cast<Index>(unit.size()) / terms;
      Backend::copy_in(ctx, MatrixView<const Parameter>{unit.data(), terms, width},
                       unit_buffer.view());
      Backend::copy_in(ctx, MatrixView<const Parameter>{coefficient.data(), terms, blocks},
                       coefficient_buffer.view());
      Backend::copy_in(ctx, MatrixView<const Parameter>{inverse_length.data(), terms, blocks},
                       inverse_length_buffer.view());
    }

    Index terms;
    Index blocks;
    std::vector<Parameter> unit, coefficient, inverse_length;
    Buffer<Parameter> unit_buffer, coefficient_buffer, inverse_length_buffer;
  };

  void check_same_shape(const Adapter<Parameter>& adapter) const {
    const auto same = [&](const char* what, const auto& given, const auto& expected) {
      if (given != expected)
        detail::fail<shape_error>("the adapter's ", what, " is ", given, " but must stay ",
                                  expected, "; prepare a new one to change its shape");
    };
    const AdapterConfig& c = adapter.config();
    same("out_features", adapter.out_features(), out_);
    same("in_features", adapter.in_features(), in_);
    same("variant", std::string_view(to_string(c.variant)), to_string(config_.variant));
    same("sides", std::string_view(to_string(c.sides)), to_string(config_.sides));
    same("layout", std::string_view(to_string(c.layout)), to_string(config_.layout));
    for (Side side : {Side::input, Side::output})
      if (has_side(c.sides, side))
        same(side == Side::input ? "input_blocks" : "output_blocks", block_count(c, side),
             block_count(config_, side));
  }

  AdapterConfig config_;
  Index out_;
  Index in_;
  Stage input_;
  Stage output_;
};

}  // namespace ether
