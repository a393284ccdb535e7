// 16-bit weights to double and back, against conversions in exact arithmetic.

#include "support/catch.hpp"

#include <ether/io/dtype.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using ether::Dtype;
using ether::Index;

namespace {

/// A binary format of 16 bits: sign, exponent, mantissa.
struct Format {
  Dtype dtype;
  int exponent_bits, mantissa_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  unsigned infinity() const { return ((1u << exponent_bits) - 1) << mantissa_bits; }
  /// 2^e of the smallest positive value.
  int smallest_exponent() const { return 1 - bias() - mantissa_bits; }
};
const Format half{Dtype::f16, 5, 10};
const Format bfloat16{Dtype::bf16, 8, 7};

/// The value of a finite pattern, by the definition of the format; exact. Also for the pattern of
/// infinity, as if the exponents went on: the value that is halfway decided against.
double value_of(const Format& f, unsigned bits) {
  const unsigned magnitude = bits & 0x7fff, fraction = magnitude & ((1u << f.mantissa_bits) - 1);
  const int exponent = static_cast<int>(magnitude >> f.mantissa_bits);
  const double value = exponent == 0 ? std::ldexp(fraction, f.smallest_exponent())
                                     : std::ldexp(fraction + (1u << f.mantissa_bits),
                                                  exponent - 1 + f.smallest_exponent());
  return bits & 0x8000 ? -value : value;
}

/// The nearest pattern, ties to the even one: bisects the positive patterns, which are in order,
/// then compares the distances to the two neighbours. Those are exact in long double, whose 64 bits
/// hold the difference of a double and a neighbour of it.
unsigned nearest(const Format& f, double value) {
  const unsigned sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  unsigned below = 0, above = f.infinity();
  if (!(magnitude < value_of(f, above))) return sign | above;
  while (above - below > 1) {
    const unsigned middle = (below + above) / 2;
    (value_of(f, middle) <= magnitude ? below : above) = middle;
  }
  const long double down = static_cast<long double>(magnitude) - value_of(f, below);
  const long double up = static_cast<long double>(value_of(f, above)) - magnitude;
  const bool round_up = up < down || (up == down && above % 2 == 0);
  return sign | (round_up ? above : below);
}

std::vector<double> widen(Dtype dtype, const void* from, std::size_t count) {
  std::vector<double> wide(count);
  ether::detail::widen(dtype, static_cast<const std::byte*>(from), static_cast<Index>(count),
                       wide.data());
  return wide;
}
std::vector<std::uint16_t> narrow16(Dtype dtype, const std::vector<double>& values) {
  std::vector<std::uint16_t> bits(values.size());
  ether::detail::narrow(dtype, values.data(), static_cast<Index>(values.size()),
                        reinterpret_cast<std::byte*>(bits.data()));
  return bits;
}

/// How many of `values` are not narrowed to the nearest pattern.
int wrong_roundings(const Format& f, const std::vector<double>& values) {
  const std::vector<std::uint16_t> bits = narrow16(f.dtype, values);
  int wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (bits[i] != nearest(f, values[i])) {
      if (wrong++ == 0)
        UNSCOPED_INFO("value " << std::hexfloat << values[i] << " gives " << bits[i]);
    }
  return wrong;
}

/// Each representable value, each tie, and the doubles around both, of either sign, from 2^-126 on.
std::vector<double> values_and_ties(const Format& f) {
  std::vector<double> values;
  for (unsigned bits = 0; bits < f.infinity(); ++bits) {
    const double value = value_of(f, bits), next = value_of(f, bits + 1);
    for (const double at : {value, value + (next - value) / 2})
      for (const double beside : {std::nextafter(at, -1.0), at, std::nextafter(at, HUGE_VAL)})
        if (beside >= 0x1p-126 || beside == 0) values.push_back(beside), values.push_back(-beside);
  }
  return values;
}

}  // namespace

TEST_CASE("the reference conversion itself") {
  CHECK(value_of(half, 0x3c00) == 1);
  CHECK(value_of(half, 0x7bff) == 65504);
  CHECK(value_of(half, 0x0001) == 0x1p-24);
  CHECK(value_of(half, 0x8400) == -0x1p-14);
  CHECK(value_of(bfloat16, 0x3f80) == 1);
  CHECK(value_of(bfloat16, 0x7f7f) == 0x1.fep127);
  CHECK(value_of(bfloat16, 0x0001) == 0x1p-133);
  CHECK(nearest(half, 1 + 0x1p-11) == 0x3c00);      // a tie, to even
  CHECK(nearest(half, 1 + 3 * 0x1p-11) == 0x3c02);  // a tie, to even
  CHECK(nearest(half, 1 + 0x1p-11 + 0x1p-52) == 0x3c01);
  CHECK(nearest(half, 65520) == 0x7c00);  // halfway to 2^16
  CHECK(nearest(half, std::nextafter(65520.0, 0)) == 0x7bff);
  CHECK(nearest(half, -0x1p-25) == 0x8000);
  CHECK(nearest(bfloat16, 1 - 0x1p-9) == 0x3f80);  // a tie between 1 - 2^-8 and 1
}

TEST_CASE("all 16-bit patterns widen exactly and come back") {
  for (const Format& f : {half, bfloat16}) {
    std::vector<std::uint16_t> all(0x10000);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    const std::vector<double> wide = widen(f.dtype, all.data(), all.size());
    const std::vector<std::uint16_t> back = narrow16(f.dtype, wide);
    int wrong = 0;
    for (const std::uint16_t bits : all) {
      const unsigned magnitude = bits & 0x7fff;
      if (magnitude > f.infinity()) {  // NaN stays one, of its sign; it may become a quiet one
        const unsigned returned = back[bits] & 0x7fff;
        wrong += !std::isnan(wide[bits]) || returned <= f.infinity() ||
                 (back[bits] & 0x8000) != (bits & 0x8000);
      } else {
        const double expected = magnitude == f.infinity()
                                    ? std::copysign(HUGE_VAL, bits & 0x8000 ? -1.0 : 1.0)
                                    : value_of(f, bits);
        wrong += std::memcmp(&wide[bits], &expected, sizeof expected) != 0 || back[bits] != bits;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("narrowing rounds once, to nearest, ties to even") {
  for (const Format& f : {half, bfloat16}) {
    const std::vector<double> values = values_and_ties(f);
    CHECK(values.size() > 100'000);
    CHECK(wrong_roundings(f, values) == 0);

    std::mt19937_64 generator(7);
    std::vector<double> random;
    while (random.size() < 200'000) {
      const std::uint64_t bits = generator();
      const int exponent = static_cast<int>(generator() % 60) - (f.dtype == Dtype::f16 ? 40 : 30);
      random.push_back(std::ldexp(static_cast<double>(bits >> 11), exponent - 52) *
                       (bits % 2 ? 1 : -1));
    }
    CHECK(wrong_roundings(f, random) == 0);
  }
}

TEST_CASE("rounding to float first, then to 16 bits, is wrong beside a tie") {
  for (const Format& f : {half, bfloat16}) {
    std::vector<double> beside;
    int naive_wrong = 0;
    for (const unsigned even : {0x3c00u, 0x4002u, 0x3f80u, 0xbf82u}) {
      const double tie = (value_of(f, even) + value_of(f, even + 1)) / 2;
      const double value = std::nextafter(tie, value_of(f, even + 1));
      beside.push_back(value);
      CHECK(nearest(f, value) == even + 1);
      const float once = static_cast<float>(value);
      CHECK(static_cast<double>(once) == tie);
      const unsigned twice = f.dtype == Dtype::f16
                                 ? Eigen::numext::bit_cast<std::uint16_t>(Eigen::half(once))
                                 : Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16(once));
      naive_wrong += twice != nearest(f, value);
    }
    CHECK(naive_wrong == 4);
    CHECK(wrong_roundings(f, beside) == 0);
  }
}

TEST_CASE("bfloat16 below the smallest normal number is at most one unit off") {
  std::mt19937_64 generator(8);
  std::vector<double> values;
  for (int i = 0; i < 10'000; ++i)
    values.push_back(std::ldexp(static_cast<double>(generator() >> 11), -52 - 127));
  const std::vector<std::uint16_t> bits = narrow16(Dtype::bf16, values);
  for (std::size_t i = 0; i < values.size(); ++i)  // half a unit, and half of a float's
    if (!(std::fabs(value_of(bfloat16, bits[i]) - values[i]) <= 0x1p-134 + 0x1p-150))
      FAIL(values[i]);
}

TEST_CASE("infinities, NaN, overflow and zeros are kept") {
  const double inf = HUGE_VAL, nan = std::numeric_limits<double>::quiet_NaN();
  for (const Format& f : {half, bfloat16}) {
    const auto top = static_cast<std::uint16_t>(f.infinity());
    const auto minus_top = static_cast<std::uint16_t>(top | 0x8000);
    const double largest = value_of(f, top - 1u), overflow = value_of(f, top);
    CHECK(narrow16(f.dtype, {inf, -inf, 0.0, -0.0, 1e300, -1e300, overflow}) ==
          std::vector<std::uint16_t>{top, minus_top, 0, 0x8000, top, minus_top, top});
    CHECK(narrow16(f.dtype, {largest, -largest, (largest + overflow) / 2}) ==
          std::vector<std::uint16_t>{static_cast<std::uint16_t>(top - 1),
                                     static_cast<std::uint16_t>(minus_top - 1), top});
    CHECK(narrow16(f.dtype, {5e-324, -5e-324}) == std::vector<std::uint16_t>{0, 0x8000});
    std::uint64_t payload = 0x7ff0000000000001;  // NaN by its lowest bit alone
    double signalling;
    std::memcpy(&signalling, &payload, sizeof signalling);
    for (const std::uint16_t bits : narrow16(f.dtype, {nan, -nan, signalling}))
      CHECK((bits & 0x7fff) > f.infinity());
  }
}
