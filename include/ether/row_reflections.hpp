#pragma once

/// Rows that have adapters of their own: what a bank gives to a backend.

#include <ether/transform.hpp>

#include <cstdint>

ETHER_BEGIN_INTERFACE

/// How a slot's H is read on one side, in backend memory.
template <class Parameter>
struct SlotShape {
  std::int32_t terms = 0;         ///< 0: the identity
  std::int32_t block_size = 0;    ///< divides the width
  Parameter coefficient[2] = {};  ///< s * c_k, of all blocks
};

/// The H of one row, which has the members of a Reflection that its kernels read.
template <class Parameter, class Unit>
struct RowReflection {
  MatrixView<const Unit> unit;  ///< (terms, width): ŵ_k, block after block
  Index blocks, block_size;
  Parameter factor[2];

  ETHER_INLINE constexpr Index terms() const { return unit.rows; }
  ETHER_INLINE constexpr Parameter coefficient(Index k, Index /*block*/) const { return factor[k]; }
};

/// One side's H of every row of a matrix, in backend memory. Row r sees the H of slot ids[r], or the
/// identity where ids[r] is -1:
///
///     out_r = in_r + sum_k coefficient_k (in_r . ŵ_kb) ŵ_kb       per block b of the slot's own size
///
/// What a row becomes depends on nothing in the other rows. Unit: Parameter, or a 16-bit type.
template <class Parameter, class Unit = Parameter>
struct RowReflections {
  MatrixView<const Unit> unit;                  ///< (slots * most_terms, width)
  const SlotShape<Parameter>* slots = nullptr;  ///< one for each slot
  const std::int32_t* ids = nullptr;            ///< one for each row
  Index most_terms = 0;                         ///< 0: the identity for all rows
  /// Device memory: set to 1 where an id is neither a slot nor -1; null on the CPU, whose ids are checked.
  std::int32_t* bad_id = nullptr;

  ETHER_INLINE constexpr Index terms() const { return most_terms; }
  ETHER_INLINE constexpr Index width() const { return unit.cols; }

  /// The same for a matrix whose row 0 is this one's row `row`.
  ETHER_INLINE constexpr RowReflections from_row(Index row) const {
    RowReflections shifted = *this;
    shifted.ids += row;
    return shifted;
  }
  /// Of one row, for code that can read backend memory.
  ETHER_INLINE constexpr RowReflection<Parameter, Unit> row(Index r) const {
    const Index slot = ids[r];
    if (most_terms == 0 || slot < 0)
      return {{unit.data, 0, unit.cols, unit.stride}, 1, unit.cols, {}};
    const SlotShape<Parameter>& shape = slots[slot];
    if (shape.terms == 0) return {{unit.data, 0, unit.cols, unit.stride}, 1, unit.cols, {}};
    return {unit.middle_rows(slot * most_terms, shape.terms),
            unit.cols / shape.block_size,
            shape.block_size,
            {shape.coefficient[0], shape.coefficient[1]}};
  }
};

namespace traits {
template <class H>
struct parameter;
template <class Parameter>
struct parameter<Reflection<Parameter>> {
  using type = Parameter;
};
template <class Parameter, class Unit>
struct parameter<RowReflections<Parameter, Unit>> {
  using type = Parameter;
};
/// What a Reflection or RowReflections is computed in.
template <class H>
using parameter_of = typename parameter<H>::type;
}  // namespace traits

ETHER_END_INTERFACE
