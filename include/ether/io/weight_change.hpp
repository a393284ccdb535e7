#pragma once

/// What a transform did to a stored weight: how much changed, what no longer fits its dtype.

#include <ether/finite.hpp>
#include <ether/io/dtype.hpp>
#include <ether/io/norm.hpp>

#include <cmath>

ETHER_BEGIN_NAMESPACE

/// What a transform did to a weight.
struct WeightChange {
  Norm change;                   ///< |W' - W|_F, as written
  Norm weight;                   ///< |W|_F
  std::uint64_t overflowed = 0;  ///< elements too large for the dtype, now infinite
  std::uint64_t nonfinite = 0;   ///< elements that already were infinite or not a number, or had
                                 ///< one in their row or column

  WeightChange& operator+=(const WeightChange& other) {
    change += other.change, weight += other.weight;
    overflowed += other.overflowed, nonfinite += other.nonfinite;
    return *this;
  }
};

namespace detail {

/// What changed between two arrays of one type. False where an element of `after` is infinite or
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
  const auto changes = static_cast<double>(sum(squared_change));
  const auto weights = static_cast<double>(sum(squared_weight));
  // Else squares have overflowed, or so many were lost that it shows in their sum.
  const double least = double((std::numeric_limits<P>::min)()) * 0x1p40 * double(count);
  if (detail::is_finite(changes) && detail::is_finite(weights) && weights >= least) {
    change.change.add_squares(changes), change.weight.add_squares(weights);
  } else {
    i = 0;
  }
  bool finite = true;
  for (; i < count; ++i) {
    const double w = static_cast<double>(before[i]), a = static_cast<double>(after[i]);
    finite = finite && detail::is_finite(a) && detail::is_finite(w);
    change.change.add(a - w), change.weight.add(w);
  }
  return finite;
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
    if (!detail::is_finite(result[c])) {
      ++change.nonfinite;
    } else if (!detail::is_finite(after[c])) {
      ++change.overflowed;
    } else {
      change.change.add(after[c] - before[c]), change.weight.add(before[c]);
    }
  }
  return change;
}

}  // namespace detail

ETHER_END_NAMESPACE
