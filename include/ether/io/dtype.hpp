#pragma once

/// Element types of safetensors files, and weights of four of them as double.

#include <ether/simd/stream.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

ETHER_BEGIN_NAMESPACE

/// In the order of `detail::dtypes`.
enum class Dtype {
  f64,
  f32,
  f16,
  bf16,
  i64,
  u64,
  c64,
  i32,
  u32,
  i16,
  u16,
  i8,
  u8,
  boolean,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e5m2fnuz,
  f8_e4m3fnuz,
  f6_e2m3,
  f6_e3m2,
  f4
};  // clang-format off

namespace detail {

struct DtypeInfo {
  const char* name;  // as in a safetensors header
  int bits;
};
inline constexpr std::array<DtypeInfo, 22> dtypes{{
    {"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16},
    {"I64", 64}, {"U64", 64}, {"C64", 64}, {"I32", 32}, {"U32", 32}, {"I16", 16}, {"U16", 16},
    {"I8", 8}, {"U8", 8}, {"BOOL", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8},
    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}}};
// clang-format on

}  // namespace detail

constexpr const char* to_string(Dtype dtype) {
  return detail::dtypes[static_cast<std::size_t>(dtype)].name;
}
constexpr int bit_size(Dtype dtype) { return detail::dtypes[static_cast<std::size_t>(dtype)].bits; }

inline std::optional<Dtype> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtypes.size(); ++i)
    if (detail::dtypes[i].name == name) return static_cast<Dtype>(i);
  return std::nullopt;
}

/// Whether a weight or an adapter can have this type: F64, F32, F16, BF16.
constexpr bool is_weight_dtype(Dtype dtype) { return dtype <= Dtype::bf16; }

template <class T>
inline constexpr Dtype dtype_of = std::is_same_v<T, double>        ? Dtype::f64
                                  : std::is_same_v<T, float>       ? Dtype::f32
                                  : std::is_same_v<T, Eigen::half> ? Dtype::f16
                                                                   : Dtype::bf16;

namespace detail {

/// Calls f(T()) with the C++ type of a weight dtype.
template <class F>
decltype(auto) with_weight_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::f64) return f(double());
  if (dtype == Dtype::f32) return f(float());
  if (dtype == Dtype::f16) return f(Eigen::half());
  return f(Eigen::bfloat16());
}

/// Elements converted at a time, from or to aligned memory.
inline constexpr Index conversion_run = 512;

/// from -> to, exactly. `from` may have any alignment.
inline void widen(Dtype dtype, const std::byte* from, Index count, double* to) {
  // A mapped file lies in memory page by page, and no hardware prefetches beyond one.
  constexpr Index pages_ahead = 16384;
  with_weight_type(dtype, [&](auto type) {
    using T = decltype(type);
    T stored[conversion_run];
    for (Index i = 0; i < count; i += conversion_run) {
      const Index run = (std::min)(conversion_run, count - i);
      const Index at = i * Index(sizeof(T)), bytes = run * Index(sizeof(T));
      for (Index line = 0; line < bytes; line += Index(cache_line))
        prefetch(from, at + pages_ahead + line);
      std::memcpy(static_cast<void*>(stored), from + at, static_cast<std::size_t>(bytes));
      convert<double>(stored, run, to + i);
    }
  });
}

/// from -> to, rounded once, to nearest, ties to even. `to` may have any alignment. Whether all of
/// `to` is finite. (Magnitudes below 2^-126, of which a float holds fewer bits, are rounded to
/// float first.)
inline bool narrow(Dtype dtype, const double* from, Index count, std::byte* to) {
  return with_weight_type(dtype, [&](auto type) {
    using T = decltype(type);
    using Bits =
        std::conditional_t<sizeof(T) == 2, std::uint16_t,
                           std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;
    const T infinity = std::numeric_limits<T>::infinity();
    Bits exponent, bits[conversion_run], not_finite = 0;
    std::memcpy(&exponent, &infinity, sizeof exponent);
    T stored[conversion_run];
    for (Index i = 0; i < count; i += conversion_run) {
      const Index run = (std::min)(conversion_run, count - i);
      convert<double>(from + i, run, stored);
      const auto bytes = static_cast<std::size_t>(run) * sizeof(T);
      std::memcpy(bits, static_cast<const void*>(stored), bytes);
      for (Index j = 0; j < run; ++j)
        not_finite = static_cast<Bits>(not_finite | ((bits[j] & exponent) == exponent));
      std::memcpy(to + i * Index(sizeof(T)), bits, bytes);
    }
    return not_finite == 0;
  });
}

}  // namespace detail
ETHER_END_NAMESPACE
