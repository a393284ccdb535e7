#pragma once

/// What an adapter does to a weight, from its vectors alone (paper, section 3.3).

#include <ether/adapter.hpp>
#include <ether/finite.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

ETHER_BEGIN_NAMESPACE

namespace detail {}  // namespace detail

/// The angle between û and v̂ of one ETHER+ block. sine = 0: the block is the identity;
/// sine = 1: it is singular at strength 1.
struct BlockAngle {
  double cosine = 1;
  double sine = 0;
};

/// u, v: `size` elements each, of any non-zero length (NaN where a length is zero).
template <class Parameter>
BlockAngle block_angle(const Parameter* u, const Parameter* v, Index size) {
  const double u_length = detail::length(u, size), v_length = detail::length(v, size);
  // sine = |û - v̂| |û + v̂| / 2, exact where sqrt(1 - cosine^2) would cancel.
  double dot = 0, difference = 0, sum = 0;
  for (Index i = 0; i < size; ++i) {
    const double a = static_cast<double>(u[i]) / u_length, b = static_cast<double>(v[i]) / v_length;
    dot += a * b, difference += (a - b) * (a - b), sum += (a + b) * (a + b);
  }
  const double sine = size == 1 ? 0 : std::sqrt(difference) * std::sqrt(sum) / 2;
  return {std::clamp(dot, -1.0, 1.0), (std::min)(sine, 1.0)};
}

/// The eigenvalues of one block of H(s) = I + s sum_k c_k ŵ_k ŵ_k^T that may differ from 1:
/// 1 - 2s for ETHER (and 1), 1 -+ s sine for ETHER+.
inline std::array<double, 2> eigenvalues(Variant variant, double strength, double sine) {
  if (variant == Variant::ether) return {1 - 2 * strength, 1};
  return {1 - strength * sine, 1 + strength * sine};
}

/// Largest over smallest magnitude of the eigenvalues of one block; infinite where singular.
inline double condition_number(std::array<double, 2> values, Index block_size) {
  if (block_size == 1) values[1] = values[0];  // a 1 x 1 block has one
  const double other = block_size > 2 ? 1 : std::fabs(values[1]);
  const auto [low, high] = std::minmax({std::fabs(values[0]), std::fabs(values[1]), other});
  return low > 0 ? high / low : std::numeric_limits<double>::infinity();
}

/// The sine of one block of a side; 0 for ETHER and for a side that is not adapted.
template <class Parameter>
double block_sine(const Adapter<Parameter>& adapter, Side side, Index block) {
  if (adapter.terms(side) < 2) return 0;
  const Index size = adapter.block_size(side);
  const auto w = adapter.parameters(side);
  return block_angle(w.row(0) + block * size, w.row(1) + block * size, size).sine;
}

/// |H - I| in the Frobenius norm over all blocks of a side: exactly 2 |s| sqrt(n) for ETHER, at
/// most |s| sqrt(2 n) for ETHER+; 0 for a side that is not adapted.
template <class Parameter>
double distance_to_identity(const Adapter<Parameter>& adapter, Side side) {
  const AdapterConfig& config = adapter.config();
  if (adapter.terms(side) == 0) return 0;
  double sum = 0;
  for (Index b = 0; b < adapter.blocks(side); ++b)
    for (double value : eigenvalues(config.variant, config.strength, block_sine(adapter, side, b)))
      sum += (value - 1) * (value - 1);
  return std::sqrt(sum);
}

ETHER_END_NAMESPACE
