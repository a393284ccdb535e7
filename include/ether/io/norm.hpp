#pragma once

/// Frobenius norms of numbers of any size.

#include <ether/version.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

ETHER_BEGIN_NAMESPACE

/// The square root of a sum of squares, none of which overflows or is lost: numbers whose squares
/// would be are summed apart, scaled by a power of two.
class Norm {
 public:
  void add(double x) {
    const double magnitude = std::fabs(x);
    double& sum = magnitude > large ? large_ : magnitude < 1 / large ? small_ : middle_;
    const double scaled = magnitude > large ? x / scale : magnitude < 1 / large ? x * scale : x;
    sum += scaled * scaled;
  }
  /// A sum of squares that neither overflowed nor lost any.
  void add_squares(double sum) { middle_ += sum; }
  Norm& operator+=(const Norm& other) {
    large_ += other.large_, middle_ += other.middle_, small_ += other.small_;
    return *this;
  }

  /// a / b; 0 for two zeros, infinite for b = 0.
  static double ratio(const Norm& a, const Norm& b) {
    const double factor = a.large_ > 0 || b.large_ > 0 ? 1 / large : large;
    const double above = a.times(factor), below = b.times(factor);
    if (above == 0) return 0;
    return below == 0 ? std::numeric_limits<double>::infinity() : above / below;
  }

 private:
  static constexpr double large = 0x1p400, scale = 0x1p600;

  double times(double factor) const {
    return std::hypot(std::sqrt(large_) * (scale * factor), std::sqrt(middle_) * factor,
                      std::sqrt(small_) * (factor / scale));
  }

  double large_ = 0, middle_ = 0, small_ = 0;
};

ETHER_END_NAMESPACE
