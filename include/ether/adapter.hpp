#pragma once

/// Adapter: the trained parameters of one linear layer, on the host.

#include <ether/finite.hpp>
#include <ether/transform.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

ETHER_BEGIN_NAMESPACE

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

namespace detail {

/// Uniform within +-1/sqrt(block_size) in the first row of each side, its negative in the second.
/// Flattened: a generator's function of its own would be a symbol that other files share (version.hpp).
template <class Parameter>
ETHER_FLATTEN void fill_random(std::uint64_t seed, const MatrixView<Parameter> (&sides)[2],
                               const Index (&block_sizes)[2]) {
  std::mt19937_64 generator(seed);
  for (int side = 0; side < 2; ++side) {
    const MatrixView<Parameter> w = sides[side];
    if (w.empty()) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(block_sizes[side]));
    for (Index i = 0; i < w.cols; ++i) {
      const double unit = static_cast<double>(generator() >> 11) * 0x1p-53;  // [0, 1)
      w(0, i) = static_cast<Parameter>(bound * (2 * unit - 1));
      if (w.rows == 2) w(1, i) = -w(0, i);
    }
  }
}

}  // namespace detail
ETHER_END_NAMESPACE

ETHER_BEGIN_INTERFACE

/// The vectors u (and v) of each adapted side: (blocks, block_size), row-major, of any non-zero
/// length; the transform normalises them. Gradients have the same shape and the same type.
/// A copyable value.
template <class Parameter>
class Adapter {
 public:
  /// All zeros: a place for gradients, or to be filled in.
  ETHER_INLINE Adapter(const AdapterConfig& config, Index out, Index in)
      : config_(config), out_(out), in_(in) {
    check_config(config, out, in);
    values_ = std::vector<Parameter>(
        static_cast<std::size_t>(terms(Side::input) * in + terms(Side::output) * out));
  }

  ETHER_INLINE static Adapter zeros_like(const Adapter& other) {
    return Adapter(other.config_, other.out_, other.in_);
  }

  /// The authors' initialisation: u Kaiming-uniform with a = sqrt(5), that is uniform within
  /// +-1/sqrt(block_size), and v = -u, so that ETHER+ starts at the identity (paper, section 3.3).
  /// ETHER starts at distance 2 per block by construction. The same seed gives the same values
  /// with every compiler.
  ETHER_INLINE static Adapter random(const AdapterConfig& config, Index out, Index in,
                                     std::uint64_t seed) {
    Adapter adapter(config, out, in);
    detail::fill_random<Parameter>(
        seed, {adapter.parameters(Side::input), adapter.parameters(Side::output)},
        {adapter.terms(Side::input) == 0 ? 1 : adapter.block_size(Side::input),
         adapter.terms(Side::output) == 0 ? 1 : adapter.block_size(Side::output)});
    return adapter;
  }

  ETHER_INLINE const AdapterConfig& config() const { return config_; }
  /// Takes effect when the adapter is next given to a layer.
  ETHER_INLINE void set_strength(double strength) {
    AdapterConfig changed = config_;
    changed.strength = strength;
    check_config(changed, out_, in_);
    config_ = changed;
  }
  ETHER_INLINE Index out_features() const { return out_; }
  ETHER_INLINE Index in_features() const { return in_; }
  /// Trainable parameters, for optimisers and for tables.
  ETHER_INLINE Index size() const { return static_cast<Index>(values_.size()); }
  ETHER_INLINE Parameter* data() { return values_.data(); }
  ETHER_INLINE const Parameter* data() const { return values_.data(); }
  ETHER_INLINE void set_zero() { std::fill(values_.begin(), values_.end(), Parameter(0)); }

  /// (blocks, block_size) each; empty where the config has none.
  ETHER_INLINE MatrixView<Parameter> input_u() { return vectors(*this, Side::input, 0); }
  ETHER_INLINE MatrixView<Parameter> input_v() { return vectors(*this, Side::input, 1); }
  ETHER_INLINE MatrixView<Parameter> output_u() { return vectors(*this, Side::output, 0); }
  ETHER_INLINE MatrixView<Parameter> output_v() { return vectors(*this, Side::output, 1); }
  ETHER_INLINE MatrixView<const Parameter> input_u() const {
    return vectors(*this, Side::input, 0);
  }
  ETHER_INLINE MatrixView<const Parameter> input_v() const {
    return vectors(*this, Side::input, 1);
  }
  ETHER_INLINE MatrixView<const Parameter> output_u() const {
    return vectors(*this, Side::output, 0);
  }
  ETHER_INLINE MatrixView<const Parameter> output_v() const {
    return vectors(*this, Side::output, 1);
  }

  /// One side's vectors, a row for each term: (1, width) for ETHER, (2, width) = u, v for ETHER+.
  ETHER_INLINE MatrixView<Parameter> parameters(Side side) { return side_view(*this, side); }
  ETHER_INLINE MatrixView<const Parameter> parameters(Side side) const {
    return side_view(*this, side);
  }

  ETHER_INLINE Index width(Side side) const { return side == Side::input ? in_ : out_; }
  ETHER_INLINE Index blocks(Side side) const { return block_count(config_, side); }
  ETHER_INLINE Index block_size(Side side) const { return width(side) / blocks(side); }
  /// Vectors per block of a side: 0 (not adapted), 1 or 2.
  ETHER_INLINE Index terms(Side side) const { return term_count(config_, side); }

 private:
  template <class Self>
  ETHER_INLINE static auto side_view(Self& self, Side side) {
    const Index offset = side == Side::input ? 0 : self.terms(Side::input) * self.in_;
    return MatrixView<std::remove_pointer_t<decltype(self.data())>>{
        self.data() + offset, self.terms(side), self.width(side)};
  }
  template <class Self>
  ETHER_INLINE static auto vectors(Self& self, Side side, Index term) {
    using View = decltype(side_view(self, side));
    const View all = side_view(self, side);
    return term < all.rows ? View{all.row(term), self.blocks(side), self.block_size(side)} : View{};
  }

  AdapterConfig config_;
  Index out_;
  Index in_;
  std::vector<Parameter> values_;  // input u, input v, output u, output v
};

ETHER_END_INTERFACE

ETHER_BEGIN_NAMESPACE
namespace detail {

inline const char* term_name(Index term) { return term == 0 ? "u" : "v"; }

/// |w|, computed without overflow or underflow. Not inlined: whether a compiler joins the product and the
/// sum to one rounding may differ between copies, and an adapter must become the same bits everywhere.
template <class Parameter>
__attribute__((noinline)) double length(const Parameter* w, Index size) {
  const Bits<Parameter> bits = largest_bits(w, size);
  Parameter most;
  std::memcpy(&most, &bits, sizeof most);
  const double largest = static_cast<double>(most);
  if (bits == 0 || bits >= infinity_bits<Parameter>) return largest;
  double sum = 0;
  for (Index i = 0; i < size; ++i) {
    const double scaled = static_cast<double>(w[i]) / largest;
    sum += scaled * scaled;
  }
  return largest * std::sqrt(sum);
}

/// unit = w / |w|, rounded to Parameter, then to Unit. Returns |w|.
template <class Parameter, class Unit>
double normalize(const Parameter* w, Index size, Unit* unit) {
  const double norm = length(w, size);
  for (Index i = 0; i < size; ++i)
    unit[i] = static_cast<Unit>(static_cast<Parameter>(static_cast<double>(w[i]) / norm));
  return norm;
}

}  // namespace detail

/// A parameter_error, naming the block, for a zero or non-finite one, or for a strength beyond the type:
/// what PreparedAdapter and EtherLinear throw.
template <class Parameter>
Status check_adapter(const Adapter<Parameter>& adapter) {
  const AdapterConfig& config = adapter.config();
  const auto largest = (std::numeric_limits<Parameter>::max)();
  // A block whose largest element is so neither has a length beyond double, nor one too small to invert.
  const std::pair usual(detail::magnitude_bits((std::numeric_limits<Parameter>::min)()),
                        detail::magnitude_bits(static_cast<Parameter>(largest * 0x1p-32)));
  for (const Side side : {Side::input, Side::output}) {
    const MatrixView<const Parameter> w = adapter.parameters(side);
    for (Index k = 0; k < w.rows; ++k) {
      const double c = config.strength * term_coefficient(config.variant, k);
      if (!detail::is_finite(static_cast<Parameter>(c)))
        return detail::found<parameter_error>("strength is ", config.strength,
                                              " but must stay below ", largest / 2,
                                              ", half the largest value of the parameter type");
      const Index blocks = adapter.blocks(side), size = adapter.block_size(side);
      for (Index b = 0; b < blocks; ++b) {
        const Parameter* const block = w.row(k) + b * size;
        const auto bits = detail::largest_bits(block, size);
        if (bits >= usual.first && bits < usual.second) continue;
        const double length = detail::length(block, size);
        // Elements first: of a length, once computed, -ffast-math may say that it is no NaN.
        if (bits >= detail::infinity_bits<Parameter> || !detail::is_finite(length) ||
            !(length > 0) || !(1 / length <= static_cast<double>(largest)))
          return detail::found<parameter_error>(
              to_string(side), "_", detail::term_name(k), " block ", b, " of ", blocks,
              " has length ", length,
              "; every block needs finite values and a length whose inverse is finite");
      }
    }
  }
  return {};
}

ETHER_END_NAMESPACE
