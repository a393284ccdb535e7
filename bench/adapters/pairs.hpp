#pragma once

/// Two calls timed in turns: whatever else the machine does falls on both alike.

#include <algorithm>
#include <chrono>
#include <vector>

namespace bench {

/// The middle of three quarters; of none, zeros.
struct Quartiles {
  double low = 0, median = 0, high = 0;
};

inline Quartiles quartiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {  // interpolated between neighbours
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

/// Seconds of `base` and of `other`, one pair for each call of time(), `before` each of them, untimed;
/// who begins, alternates, first `base` or not.
class Pairs {
 public:
  explicit Pairs(bool base_first) : base_first_(base_first) {}

  /// Returns the seconds of `before` and `other`.
  template <class Before, class Base, class Other>
  double time(Before&& before, Base&& base, Other&& other) {
    double all = 0;
    for (bool is_base : {base_first_, !base_first_}) {
      const double prepared = seconds_of(before);
      (is_base ? base_ : other_).push_back(is_base ? seconds_of(base) : seconds_of(other));
      if (!is_base) all = prepared + other_.back();
    }
    base_first_ = !base_first_;
    return all;
  }

  Quartiles base() const { return quartiles(base_); }
  Quartiles other() const { return quartiles(other_); }
  Quartiles ratio() const {
    return over_pairs([](double base, double other) { return other / base; });
  }
  Quartiles added() const {
    return over_pairs([](double base, double other) { return other - base; });
  }

 private:
  template <class Call>
  static double seconds_of(Call&& call) {
    const auto start = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  template <class F>
  Quartiles over_pairs(F&& f) const {
    std::vector<double> values(base_.size());
    std::transform(base_.begin(), base_.end(), other_.begin(), values.begin(), f);
    return quartiles(std::move(values));
  }

  bool base_first_;
  std::vector<double> base_, other_;
};

}  // namespace bench
