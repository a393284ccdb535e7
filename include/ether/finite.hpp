#pragma once

/// Whether numbers are finite, by their bits in memory. Under -ffast-math compilers take every value
/// for finite and remove std::isfinite, and comparisons that only a NaN could fail.

#include <ether/version.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// The bits of |value|, for float and double: in the order of the values, then an infinity's, NaNs'.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
inline constexpr Bits<T> infinity_bits = sizeof(T) == 4 ? 0x7f800000 : 0x7ff0000000000000;
template <class T>
Bits<T> magnitude_bits(const T& value) {
  Bits<T> bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits & static_cast<Bits<T>>(-1) >> 1;
}

template <class T>
bool is_finite(const T& value) {
  return magnitude_bits(value) < infinity_bits<T>;
}
template <class T>
bool is_nan(const T& value) {
  return magnitude_bits(value) > infinity_bits<T>;
}
/// Whether a and b are equal, or both no numbers.
template <class T>
bool same_value(const T& a, const T& b) {
  return is_nan(a) || is_nan(b) ? is_nan(a) && is_nan(b) : a == b;
}
/// The largest magnitude_bits of an array; 0 for none.
template <class T>
Bits<T> largest_bits(const T* values, std::ptrdiff_t count) {
  Bits<T> largest = 0;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const Bits<T> bits = magnitude_bits(values[i]);
    if (bits > largest) largest = bits;
  }
  return largest;
}

}  // namespace detail
ETHER_END_NAMESPACE
