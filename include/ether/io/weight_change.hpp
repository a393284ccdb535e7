#pragma once

/// What a transform did to a stored weight: how much changed, what no longer fits its dtype.

#include <ether/io/dtype.hpp>

#include <cmath>

namespace ether {

/// What a transform did to a weight.
struct WeightChange {
  double squared_change = 0;     ///< |W' - W|_F^2, as written
  double squared_weight = 0;     ///< |W|_F^2
  std::uint64_t overflowed = 0;  ///< elements too large for the dtype, now infinite
  std::uint64_t nonfinite = 0;   ///< elements that already were infinite or not a number, or had
                                 ///< one in their row or column

  WeightChange& operator+=(const WeightChange& other) {
    squared_change += other.squared_change, squared_weight += other.squared_weight;
    overflowed += other.overflowed, nonfinite += other.nonfinite;
    return *this;
  }
};

namespace detail {

/// What changed between two arrays of one type. False where an element of `after` may be infinite or
/// not a number; `change` then says nothing.
template <class T>
bool add_change(const T* before, const T* after, Index count, WeightChange& change) {
  using P = std::conditional_t<sizeof(T) == 2, float, double>;
  constexpr Index L = lanes<P>;
  const auto minus_one = broadcast(P(-1));
  auto squared_change = broadcast(P(0)), squared_weight = broadcast(P(0));
  Index i = 0;
  for (; i + L <= count; i += L) {
    const auto w = load<P>(before + i);
    const auto difference = multiply_add(w, minus_one, load<P>(after + i));
    squared_change = multiply_add(difference, difference, squared_change);
    squared_weight = multiply_add(w, w, squared_weight);
  }
  double total = static_cast<double>(sum(squared_change));
  change.squared_weight += static_cast<double>(sum(squared_weight));
  for (; i < count; ++i) {
    const double w = static_cast<double>(before[i]), d = static_cast<double>(after[i]) - w;
    total += d * d, change.squared_weight += w * w;
  }
  change.squared_change += total;
  return std::isfinite(total);
}

/// A row rounded to its stored bytes, and what changed in it. `before`, `after`: workspace.
inline WeightChange round_row(Dtype from, const std::byte* weight, Dtype to, const double* result,
                              Index count, double* before, double* after, std::byte* bytes) {
  WeightChange change;
  widen(from, weight, count, before);
  const bool finite = narrow(to, result, count, bytes);
  widen(to, bytes, count, after);
  if (finite && add_change(before, after, count, change)) return change;
  change = {};
  for (Index c = 0; c < count; ++c) {  // something is infinite or no number: look at each
    if (!std::isfinite(result[c])) {
      ++change.nonfinite;
    } else if (!std::isfinite(after[c])) {
      ++change.overflowed;
    } else {
      change.squared_change += (after[c] - before[c]) * (after[c] - before[c]);
      change.squared_weight += before[c] * before[c];
    }
  }
  return change;
}

}  // namespace detail

}  // namespace ether
