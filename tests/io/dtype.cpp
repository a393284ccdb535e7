// Stored weights to double and back: names of dtypes, wide dtypes, any count and alignment.

#include "support/catch.hpp"

#include <ether/io/dtype.hpp>

#include <cmath>
#include <random>
#include <string>
#include <vector>

using ether::Dtype;
using ether::Index;

namespace {

std::vector<double> widen(Dtype dtype, const void* from, std::size_t count) {
  std::vector<double> wide(count);
  ether::detail::widen(dtype, static_cast<const std::byte*>(from), static_cast<Index>(count),
                       wide.data());
  return wide;
}

}  // namespace

TEST_CASE("F32 is rounded once and F64 kept, bit for bit") {
  std::mt19937_64 generator(9);
  std::vector<double> values{0.0,      -0.0,       HUGE_VAL, 1 + 0x1p-24, 1 + 3 * 0x1p-24,
                             0x1p-150, 0x1.8p-149, 1e300};
  std::vector<float> expected{0.0f, -0.0f, INFINITY, 1.0f, 1 + 0x1p-22f, 0.0f, 0x1p-148f, INFINITY};
  while (values.size() < 2000) {  // 24 bits, and what rounds away
    const double kept = static_cast<double>(generator() >> 40 | 1u << 23);
    const double rest = std::ldexp(static_cast<double>(generator() >> 11), -53) - 0.5;
    if (std::fabs(rest) == 0.5) continue;
    values.push_back(kept + rest), expected.push_back(static_cast<float>(kept));
  }
  std::vector<float> narrow(values.size());
  ether::detail::narrow(Dtype::f32, values.data(), static_cast<Index>(values.size()),
                        reinterpret_cast<std::byte*>(narrow.data()));
  CHECK(std::memcmp(narrow.data(), expected.data(), expected.size() * sizeof(float)) == 0);
  const std::vector<double> wide = widen(Dtype::f32, narrow.data(), narrow.size());
  for (std::size_t i = 0; i < wide.size(); ++i)
    if (!(wide[i] == static_cast<double>(expected[i]))) FAIL(i);

  std::vector<double> copy(values.size());
  ether::detail::narrow(Dtype::f64, values.data(), static_cast<Index>(values.size()),
                        reinterpret_cast<std::byte*>(copy.data()));
  const std::vector<double> again = widen(Dtype::f64, copy.data(), copy.size());
  CHECK(std::memcmp(again.data(), values.data(), values.size() * sizeof(double)) == 0);
}

TEST_CASE("any count, any alignment, and nothing beside it") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16}) {
    const std::size_t size = static_cast<std::size_t>(bit_size(dtype)) / 8;
    for (const std::size_t count : {0, 1, 2, 7, 15, 16, 17, 511, 512, 513, 1025, 1031})
      for (const std::size_t shift : {0, 1, 2, 3, 5, 7}) {
        std::vector<double> values(count + 1, -77);  // the last one is not to be written
        for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<double>(i % 251) / 4 - 20;
        std::vector<std::byte> bytes(shift + count * size + 1, std::byte{0x55});
        ether::detail::narrow(dtype, values.data(), static_cast<Index>(count),
                              bytes.data() + shift);
        bool same = bytes.back() == std::byte{0x55};
        for (std::size_t i = 0; i < shift; ++i) same &= bytes[i] == std::byte{0x55};
        std::vector<double> back(count + 1, -77);
        ether::detail::widen(dtype, bytes.data() + shift, static_cast<Index>(count), back.data());
        INFO(to_string(dtype) << ", " << count << " at " << shift);
        CHECK((same && back == values));
      }
  }
}

TEST_CASE("names of dtypes") {
  for (const char* name :
       {"F64", "F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F6_E3M2", "F4"}) {
    REQUIRE(ether::parse_dtype(name));
    CHECK(to_string(*ether::parse_dtype(name)) == std::string(name));
  }
  CHECK(!ether::parse_dtype(""));
  CHECK(!ether::parse_dtype("f32"));
  CHECK(ether::is_weight_dtype(Dtype::bf16));
  CHECK(!ether::is_weight_dtype(Dtype::i64));
  CHECK(ether::dtype_of<Eigen::bfloat16> == Dtype::bf16);
  CHECK(ether::dtype_of<Eigen::half> == Dtype::f16);
}
