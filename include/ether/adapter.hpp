#pragma once

/// Adapter: the trained parameters of one linear layer, on the host.

#include <ether/finite.hpp>
#include <ether/transform.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace ether {

namespace detail {

inline void check_blocks(const AdapterConfig& config, Side side, Index width) {
  const Index blocks = block_count(config, side);
  if (blocks < 1 || width % blocks != 0)
    fail<parameter_error>(to_string(side), "_blocks is ", blocks, " and the ", to_string(side),
                          " width is ", width,
                          "; the number of blocks must be at least 1 and divide the width");
}

}  // namespace detail

/// Throws parameter_error unless `config` fits a weight (out, in).
inline void check_config(const AdapterConfig& config, Index out, Index in) {
  if (out < 1 || in < 1)
    detail::fail<parameter_error>("the weight is (", out, ", ", in,
                                  "), (out_features, in_features); both must be at least 1");
  if (has_side(config.sides, Side::input)) detail::check_blocks(config, Side::input, in);
  if (has_side(config.sides, Side::output)) detail::check_blocks(config, Side::output, out);
  if (!detail::is_finite(config.strength))
    detail::fail<parameter_error>("strength is ", config.strength,
                                  "; it must be finite (0 is the frozen layer, 1 the trained one)");
}

/// The vectors u (and v) of each adapted side: (blocks, block_size), row-major, of any non-zero
/// length; the transform normalises them. Gradients have the same shape and the same type.
/// A copyable value.
template <class Parameter>
class Adapter {
 public:
  /// All zeros: a place for gradients, or to be filled in.
  Adapter(const AdapterConfig& config, Index out, Index in) : config_(config), out_(out), in_(in) {
    check_config(config, out, in);
    values_.resize(static_cast<std::size_t>(terms(Side::input) * in + terms(Side::output) * out));
  }

  static Adapter zeros_like(const Adapter& other) {
    return Adapter(other.config_, other.out_, other.in_);
  }

  /// The authors' initialisation: u Kaiming-uniform with a = sqrt(5), that is uniform within
  /// +-1/sqrt(block_size), and v = -u, so that ETHER+ starts at the identity (paper, section 3.3).
  /// ETHER starts at distance 2 per block by construction. The same seed gives the same values
  /// with every compiler.
  static Adapter random(const AdapterConfig& config, Index out, Index in, std::uint64_t seed) {
    Adapter adapter(config, out, in);
    std::mt19937_64 generator(seed);
    for (Side side : {Side::input, Side::output}) {
      const MatrixView<Parameter> w = adapter.parameters(side);
      if (w.empty()) continue;
      const double bound = 1 / std::sqrt(static_cast<double>(adapter.block_size(side)));
      for (Index i = 0; i < w.cols; ++i) {
        const double unit = static_cast<double>(generator() >> 11) * 0x1p-53;  // [0, 1)
        w(0, i) = static_cast<Parameter>(bound * (2 * unit - 1));
        if (w.rows == 2) w(1, i) = -w(0, i);
      }
    }
    return adapter;
  }

  const AdapterConfig& config() const { return config_; }
  /// Takes effect when the adapter is next given to a layer.
  void set_strength(double strength) {
    AdapterConfig changed = config_;
    changed.strength = strength;
    check_config(changed, out_, in_);
    config_ = changed;
  }
  Index out_features() const { return out_; }
  Index in_features() const { return in_; }
  /// Trainable parameters, for optimisers and for tables.
  Index size() const { return static_cast<Index>(values_.size()); }
  Parameter* data() { return values_.data(); }
  const Parameter* data() const { return values_.data(); }
  void set_zero() { std::fill(values_.begin(), values_.end(), Parameter(0)); }

  /// (blocks, block_size) each; empty where the config has none.
  MatrixView<Parameter> input_u() { return vectors(*this, Side::input, 0); }
  MatrixView<Parameter> input_v() { return vectors(*this, Side::input, 1); }
  MatrixView<Parameter> output_u() { return vectors(*this, Side::output, 0); }
  MatrixView<Parameter> output_v() { return vectors(*this, Side::output, 1); }
  MatrixView<const Parameter> input_u() const { return vectors(*this, Side::input, 0); }
  MatrixView<const Parameter> input_v() const { return vectors(*this, Side::input, 1); }
  MatrixView<const Parameter> output_u() const { return vectors(*this, Side::output, 0); }
  MatrixView<const Parameter> output_v() const { return vectors(*this, Side::output, 1); }

  /// One side's vectors, a row for each term: (1, width) for ETHER, (2, width) = u, v for ETHER+.
  MatrixView<Parameter> parameters(Side side) { return side_view(*this, side); }
  MatrixView<const Parameter> parameters(Side side) const { return side_view(*this, side); }

  Index width(Side side) const { return side == Side::input ? in_ : out_; }
  Index blocks(Side side) const { return block_count(config_, side); }
  Index block_size(Side side) const { return width(side) / blocks(side); }
  /// Vectors per block of a side: 0 (not adapted), 1 or 2.
  Index terms(Side side) const {
    return has_side(config_.sides, side) ? term_count(config_.variant) : 0;
  }

 private:
  template <class Self>
  static auto side_view(Self& self, Side side) {
    const Index offset = side == Side::input ? 0 : self.terms(Side::input) * self.in_;
    return MatrixView<std::remove_pointer_t<decltype(self.data())>>{
        self.data() + offset, self.terms(side), self.width(side)};
  }
  template <class Self>
  static auto vectors(Self& self, Side side, Index term) {
    using View = decltype(side_view(self, side));
    const View all = side_view(self, side);
    return term < all.rows ? View{all.row(term), self.blocks(side), self.block_size(side)} : View{};
  }

  AdapterConfig config_;
  Index out_;
  Index in_;
  std::vector<Parameter> values_;  // input u, input v, output u, output v
};

}  // namespace ether
