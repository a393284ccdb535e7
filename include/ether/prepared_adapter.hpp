#pragma once

/// PreparedAdapter: an adapter normalised and moved to where its backend computes.

#include <ether/analysis.hpp>
#include <ether/backend.hpp>
#include <ether/finite.hpp>

#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

namespace ether {

namespace detail {

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
    Backend::synchronize(ctx);  // other Contexts may use it from here on
  }

  /// Replaces the parameters and the strength; O(in + out), no allocation. Nothing changes when it
  /// throws: shape_error for an adapter of another shape, parameter_error as above.
  void set(Context& ctx, const Adapter<Parameter>& adapter) {
    check_same_shape("the adapter's", adapter, "make a new layer to change the shape");
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

  /// Throws shape_error unless `adapter` has vectors of the same shapes as this one; `owner` and
  /// `advice` are words for the message.
  void check_same_shape(const char* owner, const Adapter<Parameter>& adapter,
                        const char* advice) const {
    const auto same = [&](const char* what, const auto& given, const auto& expected) {
      if (given != expected)
        detail::fail<shape_error>(owner, " ", what, " is ", given, " but the layer's is ", expected,
                                  "; ", advice);
    };
    const auto text = [](auto value) { return std::string_view(to_string(value)); };
    const AdapterConfig& c = adapter.config();
    same("out_features", adapter.out_features(), out_);
    same("in_features", adapter.in_features(), in_);
    same("variant", text(c.variant), text(config_.variant));
    same("sides", text(c.sides), text(config_.sides));
    if (has_side(c.sides, Side::input) && c.input_blocks > 1)  // else the layouts agree
      same("layout", text(c.layout), text(config_.layout));
    for (Side side : {Side::input, Side::output})
      if (has_side(c.sides, side))
        same(side == Side::input ? "input_blocks" : "output_blocks", block_count(c, side),
             block_count(config_, side));
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
      const double strength = adapter.config().strength;
      for (Index k = 0; k < terms; ++k) {
        const auto c =
            static_cast<Parameter>(strength * term_coefficient(adapter.config().variant, k));
        if (!detail::is_finite(c))
          detail::fail<parameter_error>("strength is ", strength, " but must stay below ",
                                        (std::numeric_limits<Parameter>::max)() / 2,
                                        ", half the largest value of the parameter type");
        for (Index b = 0; b < blocks; ++b) {
          const Parameter* block = w.row(k) + b * size;
          const double length = detail::length(block, size);
          const double inverse = 1 / length;
          // Elements first: of a length, once computed, -ffast-math may say that it is no NaN.
          if (detail::largest_bits(block, size) >= detail::infinity_bits<Parameter> ||
              !detail::is_finite(length) || !(length > 0) ||
              !(inverse <= static_cast<double>((std::numeric_limits<Parameter>::max)())))
            detail::fail<parameter_error>(
                to_string(side), "_", detail::term_name(k), " block ", b, " of ", blocks,
                " has length ", length,
                "; every block needs finite values and a length whose inverse is finite");
          const auto at = static_cast<std::size_t>(k * blocks + b);
          coefficient[at] = c;
          inverse_length[at] = static_cast<Parameter>(inverse);
          Parameter* to = unit.data() + k * w.cols + b * size;
          for (Index i = 0; i < size; ++i)
            to[i] = static_cast<Parameter>(static_cast<double>(block[i]) / length);
        }
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

  AdapterConfig config_;
  Index out_;
  Index in_;
  Stage input_;
  Stage output_;
};

}  // namespace ether
