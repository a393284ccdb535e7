#pragma once

/// Two checkpoints compared.

#include <ether/finite.hpp>
#include <ether/io/checkpoint.hpp>
#include <ether/io/norm.hpp>
#include <ether/io/parallel.hpp>
#include <ether/io/progress.hpp>

#include <cmath>

ETHER_BEGIN_NAMESPACE

/// One tensor that both have.
struct TensorDiff {
  std::string name;
  const TensorInfo* a;
  const TensorInfo* b;
  bool comparable = true;   ///< same shape; and the same dtype where it is none of a weight
  bool same_bytes = false;  ///< dtype, shape and every bit
  double max_absolute = 0;  ///< max |a - b|; infinite where only one is not a number
  double relative = 0;      ///< |a - b|_F / |a|_F
};

struct CheckpointDiff {
  std::vector<std::string> only_in_a, only_in_b;
  std::vector<TensorDiff> tensors;  ///< in order of their names

  /// Whether a tensor is missing or cannot be compared, or some relative difference exceeds
  /// `tolerance`; with tolerance 0 also where dtypes differ.
  bool differs(double tolerance) const {
    if (!only_in_a.empty() || !only_in_b.empty()) return true;
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorDiff& t) {
      if (t.same_bytes) return false;
      return !t.comparable || !detail::is_finite(t.relative) || t.relative > tolerance ||
             (tolerance == 0 && (t.a->dtype != t.b->dtype || t.max_absolute > 0));
    });
  }
};

namespace detail {

inline void compare_values(const Checkpoint::Tensor& a, const Checkpoint::Tensor& b,
                           TensorDiff& diff) {
  const Index count = static_cast<Index>(a.info->bytes() / (size_t(bit_size(a.info->dtype)) / 8));
  const Index a_size = bit_size(a.info->dtype) / 8, b_size = bit_size(b.info->dtype) / 8;
  double x[conversion_run], y[conversion_run];
  Norm all, difference;
  for (Index i = 0; i < count; i += conversion_run) {
    const Index run = (std::min)(conversion_run, count - i);
    widen(a.info->dtype, a.data() + i * a_size, run, x);
    widen(b.info->dtype, b.data() + i * b_size, run, y);
    for (Index j = 0; j < run; ++j) {
      if (same_value(x[j], y[j])) {
        if (is_finite(x[j])) all.add(x[j]);
        continue;
      }
      double d = std::fabs(x[j] - y[j]);
      if (is_nan(d)) d = std::numeric_limits<double>::infinity();
      diff.max_absolute = (std::max)(diff.max_absolute, d);
      difference.add(d);
      if (is_finite(x[j])) all.add(x[j]);
    }
  }
  diff.relative = Norm::ratio(difference, all);
}

inline void compare(const Checkpoint::Tensor& a, const Checkpoint::Tensor& b, TensorDiff& diff) {
  const bool same_shape = a.info->shape == b.info->shape;
  diff.same_bytes = same_shape && a.info->dtype == b.info->dtype &&
                    (a.info->bytes() == 0 || std::memcmp(a.data(), b.data(), a.info->bytes()) == 0);
  if (diff.same_bytes) return;
  diff.comparable = same_shape && is_weight_dtype(a.info->dtype) && is_weight_dtype(b.info->dtype);
  if (diff.comparable) compare_values(a, b, diff);
}

}  // namespace detail

/// Compares by values, in double; tensors of other than weight dtypes by their bytes. Throws what
/// `progress` throws.
inline CheckpointDiff diff_checkpoints(const Checkpoint& a, const Checkpoint& b, int threads = 0,
                                       const ProgressCallback& progress = {}) {
  CheckpointDiff diff;
  std::vector<std::pair<Checkpoint::Tensor, Checkpoint::Tensor>> pairs;
  for (const auto& [name, tensor] : a.tensors()) {
    const Checkpoint::Tensor* const other = b.find(name);
    if (other == nullptr) {
      diff.only_in_a.push_back(name);
      continue;
    }
    diff.tensors.push_back({name, tensor.info, other->info});
    pairs.emplace_back(tensor, *other);
  }
  for (const auto& [name, tensor] : b.tensors())
    if (a.find(name) == nullptr) diff.only_in_b.push_back(name);

  Progress state{0, 0};
  for (const auto& pair : pairs) state.bytes_total += pair.first.info->bytes();
  std::mutex mutex;
  detail::for_each_task(detail::thread_count(threads), pairs.size(), [&](std::size_t i, int) {
    detail::compare(pairs[i].first, pairs[i].second, diff.tensors[i]);
    const std::lock_guard<std::mutex> lock(mutex);
    state.bytes_done += pairs[i].first.info->bytes();
    if (progress) progress(state);
  });
  return diff;
}

ETHER_END_NAMESPACE
