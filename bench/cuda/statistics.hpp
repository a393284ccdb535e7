#pragma once

/// Medians and percentiles of repeated measurements.

#include <algorithm>
#include <cstddef>
#include <vector>

namespace bench {

/// The value below which a share q of the sorted, not empty values lies, between two of them linearly.
inline double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// Of the seconds that one call takes.
struct Spread {
  double median = 0, p10 = 0, p90 = 0;
};

inline Spread spread(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  return {quantile(samples, 0.5), quantile(samples, 0.1), quantile(samples, 0.9)};
}

}  // namespace bench
