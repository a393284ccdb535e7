// Loads and stores of vectors: conversion, stores past the cache, tails of vectors.

#include "support/catch.hpp"

#include <ether/simd/stream.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using ether::Index;

/// Every 16-bit pattern there is.
template <class T>
std::vector<T> all_patterns() {
  std::vector<T> all(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    std::memcpy(static_cast<void*>(&all[bits]), &half, sizeof half);
  }
  return all;
}

template <class T>
void check_conversion() {
  const std::vector<T> patterns = all_patterns<T>();
  std::vector<float> wide(patterns.size());
  ether::detail::convert<float>(patterns.data(), Index(patterns.size()), wide.data());
  std::vector<float> inputs;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const float expected = static_cast<float>(patterns[i]);
    if (!(wide[i] == expected || (std::isnan(wide[i]) && std::isnan(expected))))
      FAIL("pattern " << i << " widens to " << wide[i] << " instead of " << expected);
    // The value itself, its neighbours in float, and the ties to the next pattern.
    std::uint32_t bits;
    std::memcpy(&bits, &wide[i], sizeof bits);
    constexpr std::uint32_t tie = std::uint32_t{1} << (23 - std::numeric_limits<T>::digits);
    for (std::uint32_t offset : {0u, 1u, tie - 1, tie, tie + 1}) {
      const std::uint32_t near = bits + offset;
      float value;
      std::memcpy(&value, &near, sizeof value);
      inputs.push_back(value);
    }
  }
  for (Index shift : {0, 1, 5}) {  // all of it, and tails of every length
    std::vector<T> narrow(inputs.size());
    const Index count = Index(inputs.size()) - shift;
    ether::detail::convert<float>(inputs.data() + shift, count, narrow.data());
    for (Index i = 0; i < count; ++i) {
      const float input = inputs[std::size_t(i + shift)];
      const T expected = static_cast<T>(input);  // Eigen's scalar conversion, to nearest even
      const T actual = narrow[std::size_t(i)];
      const bool both_nan = std::isnan(static_cast<float>(actual)) && std::isnan(input);
      if (!(both_nan || std::memcmp(&actual, &expected, sizeof(T)) == 0))
        FAIL(input << " rounds to " << float(actual) << " instead of " << float(expected));
    }
  }
}

}  // namespace

TEST_CASE("16-bit conversion is exact one way and to nearest even the other") {
  check_conversion<Eigen::bfloat16>();
  check_conversion<Eigen::half>();
}

TEST_CASE("streaming stores write what stores write, at every alignment") {
  constexpr Index lanes = ether::detail::lanes<float>;
  alignas(64) float values[lanes];
  for (Index i = 0; i < lanes; ++i) values[i] = 1.1f * float(i) - 3;
  const auto check = [&](auto type) {
    using T = decltype(type);
    alignas(64) T stored[4 * lanes], streamed[4 * lanes];
    for (Index offset = 0; offset < 2 * lanes; ++offset) {
      std::fill_n(stored, 4 * lanes, T(7));
      std::fill_n(streamed, 4 * lanes, T(7));
      ether::detail::store<float>(stored + offset, ether::detail::load<float>(values));
      ether::detail::stream<float>(streamed + offset, ether::detail::load<float>(values));
      ether::detail::finish_streaming();
      CHECK(std::memcmp(stored, streamed, sizeof stored) == 0);
    }
  };
  check(float());
  check(Eigen::bfloat16());
  check(Eigen::half());
}

namespace {

/// A page of memory with pages before and after it that nobody may touch.
class GuardedPage {
 public:
  GuardedPage() {
    void* const all = ::mmap(nullptr, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(all != MAP_FAILED);
    begin_ = static_cast<char*>(all) + size;
    REQUIRE(::mprotect(begin_, size, PROT_READ | PROT_WRITE) == 0);
  }
  GuardedPage(const GuardedPage&) = delete;
  GuardedPage& operator=(const GuardedPage&) = delete;
  ~GuardedPage() { ::munmap(begin_ - size, 3 * size); }

  template <class T>
  T* first() {
    return reinterpret_cast<T*>(begin_);
  }
  template <class T>
  T* last(Index count) {
    return reinterpret_cast<T*>(begin_ + size) - count;
  }

 private:
  const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  char* begin_;
};

/// Tails of every length (stored ones may be whole): at both ends of a page, so that reading beyond
/// them does not go unseen, and in the middle of other elements, which keep their bits.
template <class P, class T>
void check_tails() {
  constexpr Index lanes = ether::detail::lanes<P>;
  GuardedPage page;
  for (Index count = 0; count <= lanes; ++count)
    for (T* const at : {page.first<T>(), page.last<T>(count)}) {
      std::fill(page.first<T>(), page.last<T>(0), static_cast<T>(7.0f));
      for (Index i = 0; i < count; ++i) at[i] = static_cast<T>(static_cast<float>(i + 1));
      P values[lanes];
      if (count != lanes) {
        ether::detail::store<P>(values, ether::detail::load_tail<P>(at, count));
        for (Index i = 0; i < lanes; ++i) REQUIRE(values[i] == P(i < count ? i + 1 : 0));
      }

      for (P& value : values) value = -2;
      ether::detail::store_tail<P>(at, ether::detail::load<P>(values), count);
      for (Index i = 0; i < count; ++i) REQUIRE(static_cast<float>(at[i]) == -2.0f);

      const T kept = static_cast<T>(7.0f), stored = static_cast<T>(-2.0f);
      for (const bool past_cache : {false, true}) {
        alignas(64) T around[3 * lanes];
        for (T& value : around) value = kept;
        if (past_cache)
          ether::detail::stream_tail<P>(around + lanes, ether::detail::load<P>(values), count);
        else
          ether::detail::store_tail<P>(around + lanes, ether::detail::load<P>(values), count);
        ether::detail::finish_streaming();
        for (Index i = 0; i < 3 * lanes; ++i)
          REQUIRE(around[i] == (i >= lanes && i < lanes + count ? stored : kept));
      }
    }
}

/// Rows rows to columns: every number of them there can be, with room between and nothing else written.
template <class P, int Rows>
void check_transposed_store() {
  constexpr Index lanes = ether::detail::lanes<P>, stride = Rows + 3;
  P rows[Rows * lanes];
  for (Index i = 0; i < Rows * lanes; ++i) rows[i] = P(i + 1);
  ether::detail::Packet<P> packets[Rows];
  for (int r = 0; r < Rows; ++r) packets[r] = ether::detail::load<P>(rows + r * lanes);
  for (Index count = 0; count <= lanes; ++count) {
    std::vector<P> columns(std::size_t(lanes * stride), P(-1));
    ether::detail::store_transposed<Rows>(columns.data(), stride, packets, count);
    for (Index i = 0; i < lanes; ++i)
      for (Index r = 0; r < stride; ++r)
        REQUIRE(columns[std::size_t(i * stride + r)] ==
                (i < count && r < Rows ? rows[r * lanes + i] : P(-1)));
  }
}

template <class P>
void check_transpose() {
  constexpr Index lanes = ether::detail::lanes<P>;
  P before[lanes * lanes], after[lanes * lanes];
  for (Index i = 0; i < lanes * lanes; ++i) before[i] = P(i);
  ether::detail::Packet<P> rows[lanes];
  for (Index r = 0; r < lanes; ++r) rows[r] = ether::detail::load<P>(before + r * lanes);
  ether::detail::transpose(rows);
  for (Index r = 0; r < lanes; ++r) ether::detail::store<P>(after + r * lanes, rows[r]);
  for (Index r = 0; r < lanes; ++r)
    for (Index c = 0; c < lanes; ++c) REQUIRE(after[r * lanes + c] == before[c * lanes + r]);
}

}  // namespace

TEST_CASE("rows are stored as columns") {
  check_transposed_store<float, 1>();
  check_transposed_store<float, 4>();
  check_transposed_store<double, 1>();
  check_transposed_store<double, 4>();
  check_transpose<float>();
  check_transpose<double>();
}

TEST_CASE("tails are read and written and nothing beyond them") {
  check_tails<float, float>();
  check_tails<float, Eigen::bfloat16>();
  check_tails<float, Eigen::half>();
  check_tails<double, double>();
  check_tails<double, float>();
  check_tails<double, Eigen::bfloat16>();
}
