#pragma once

/// The paper's transforms as data (arXiv 2405.20271, sections 3.2 to 3.4).
///
/// A side of width D cut into n blocks of size D/n is transformed by H = diag(H_1, ..., H_n):
///
///     ETHER    H_i = I - 2 û û^T              terms (u, -2)            equation 1
///     ETHER+   H_i = I - û û^T + v̂ v̂^T        terms (u, -1), (v, +1)   section 3.3
///
/// with û = u/|u|, v̂ = v/|v|. Both are I + s * sum_k c_k ŵ_k ŵ_k^T with strength s = 1; every H is
/// symmetric. That sum is all the rest of the library knows.

#include <ether/matrix_view.hpp>

ETHER_BEGIN_INTERFACE

enum class Variant { ether, ether_plus };
enum class Side { input, output };
enum class Sides { input, output, both };

/// Which block of u transforms which part of the weight, on the input side.
///   diagonal   the paper's: chunk i of the input is transformed by H_i, for every output row.
///   row_chunk  the authors' training code with n > 1: chunk c of output row o is transformed by
///              H_k, k = floor((o * n + c) / out).
/// With n = 1 they agree. The output side is always diagonal.
enum class BlockLayout { diagonal, row_chunk };

struct AdapterConfig {
  Variant variant = Variant::ether;
  Sides sides = Sides::input;
  Index input_blocks = 1;   ///< n on the input side; divides in
  Index output_blocks = 1;  ///< n on the output side; divides out
  BlockLayout layout = BlockLayout::diagonal;
  double strength = 1.0;  ///< s; 0 is the frozen layer, 1 the trained one
};

ETHER_INLINE constexpr bool has_side(Sides sides, Side side) {
  return sides == Sides::both || (sides == Sides::input) == (side == Side::input);
}
ETHER_INLINE constexpr Index term_count(Variant variant) {
  return variant == Variant::ether ? 1 : 2;
}
/// Vectors per block of a side: 0 where it is not adapted.
ETHER_INLINE constexpr Index term_count(const AdapterConfig& config, Side side) {
  return has_side(config.sides, side) ? term_count(config.variant) : 0;
}
ETHER_INLINE constexpr Index block_count(const AdapterConfig& config, Side side) {
  return side == Side::input ? config.input_blocks : config.output_blocks;
}
/// c_k of the table above, k < term_count(variant).
ETHER_INLINE constexpr double term_coefficient(Variant variant, Index term) {
  return variant == Variant::ether ? -2.0 : term == 0 ? -1.0 : 1.0;
}

ETHER_INLINE constexpr const char* to_string(Variant v) {
  return v == Variant::ether ? "ether" : "ether_plus";
}
ETHER_INLINE constexpr const char* to_string(Side s) {
  return s == Side::input ? "input" : "output";
}
ETHER_INLINE constexpr const char* to_string(Sides s) {
  return s == Sides::input ? "input" : s == Sides::output ? "output" : "both";
}
ETHER_INLINE constexpr const char* to_string(BlockLayout l) {
  return l == BlockLayout::diagonal ? "diagonal" : "row_chunk";
}

/// One side's H as a backend receives it, in backend memory. Per row of a matrix and per chunk c
/// of block_size columns, with b = block(row, c):
///
///     out = in + sum_k coefficient(k, b) (in . ŵ_kb) ŵ_kb
///
/// `terms` is 0, 1 or 2. With no terms H is the identity and the operation a copy that may convert
/// and add a bias.
template <class Parameter>
struct Reflection {
  MatrixView<const Parameter> unit;            ///< (terms, width): ŵ_k, block after block
  MatrixView<const Parameter> coefficient;     ///< (terms, blocks): s * c_k
  MatrixView<const Parameter> inverse_length;  ///< (terms, blocks): 1 / |w_k|, for gradients
  Index blocks = 1;
  Index block_size = 0;

  // block(row, c) = floor((first + row * step + c) / period). Diagonal: 0, 0, 1.
  Index first = 0;
  Index step = 0;
  Index period = 1;

  ETHER_INLINE constexpr Index terms() const { return unit.rows; }
  ETHER_INLINE constexpr Index width() const { return blocks * block_size; }
  ETHER_INLINE constexpr Index block(Index row, Index chunk) const {
    return (first + row * step + chunk) / period;
  }

  /// The same H for a matrix whose row 0 is this one's row `row`.
  ETHER_INLINE constexpr Reflection from_row(Index row) const {
    Reflection shifted = *this;
    shifted.first += row * step;
    return shifted;
  }
  /// The H that row `row` sees, for every row: what acts on activations.
  ETHER_INLINE constexpr Reflection at_row(Index row) const {
    Reflection fixed = from_row(row);
    fixed.step = 0;
    return fixed;
  }
  /// The H of `count` blocks from b on alone, on a matrix of their width; diagonal layout only.
  ETHER_INLINE constexpr Reflection middle_blocks(Index b, Index count) const {
    Reflection some;
    some.unit = unit.block(0, b * block_size, terms(), count * block_size);
    some.coefficient = coefficient.block(0, b, terms(), count);
    some.inverse_length = inverse_length.block(0, b, terms(), count);
    some.blocks = count;
    some.block_size = block_size;
    return some;
  }
  /// How many rows from `row` on see the same H; all of `rows` in the diagonal layout.
  ETHER_INLINE constexpr Index rows_alike(Index row, Index rows) const {
    if (step == 0) return rows - row;
    const Index next_change = ((first + row * step) / period + 1) * period;
    const Index count = (next_change - first) / step - row;
    return count < 1 ? 1 : count < rows - row ? count : rows - row;
  }
};

/// The identity on a side of this width.
template <class Parameter>
ETHER_INLINE constexpr Reflection<Parameter> identity(Index width) {
  Reflection<Parameter> r;
  r.block_size = width;
  return r;
}

ETHER_END_INTERFACE
