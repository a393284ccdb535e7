#pragma once

/// Whether a number is finite, by its bits. Under -ffast-math compilers take every value for finite
/// and remove std::isfinite, and comparisons that only a NaN could fail.

#include <cstdint>
#include <cstring>

namespace ether::detail {

/// The bits of |value|; those of an infinity are the largest that are not a NaN's.
inline std::uint64_t magnitude_bits(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & 0x7fffffffffffffff;
}
inline constexpr std::uint64_t infinity_bits = 0x7ff0000000000000;

inline bool is_finite(double value) { return magnitude_bits(value) < infinity_bits; }
inline bool is_nan(double value) { return magnitude_bits(value) > infinity_bits; }

}  // namespace ether::detail
