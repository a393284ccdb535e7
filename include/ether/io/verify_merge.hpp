#pragma once

/// A merged weight compared with plain loops over the paper's formulas: no kernel, no regrouping.

#include <ether/adapter.hpp>
#include <ether/analysis.hpp>
#include <ether/finite.hpp>
#include <ether/io/checkpoint.hpp>

#include <cmath>
#include <numeric>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// One side of one adapter on a stored matrix, with its own normalised vectors.
struct PlainSide {
  bool columns;  // blocks of stored rows; else of stored columns
  Index terms, blocks, size;
  Index out = 0;                    // for row_chunk: the number of output rows; else 0
  std::vector<double> unit;         // (terms, blocks * size)
  std::vector<double> coefficient;  // (terms)
  std::vector<double> sums = {};    // (blocks of the group, terms, cols)

  PlainSide(const Adapter<double>& adapter, Side side, bool columns_)
      : columns(columns_),
        terms(adapter.terms(side)),
        blocks(adapter.blocks(side)),
        size(adapter.block_size(side)) {
    const AdapterConfig& c = adapter.config();
    if (side == Side::input && c.layout == BlockLayout::row_chunk) out = adapter.out_features();
    for (Index k = 0; k < terms; ++k) {
      coefficient.push_back(c.strength * term_coefficient(c.variant, k));
      const double* const w = adapter.parameters(side).row(k);
      for (Index b = 0; b < blocks; ++b)
        for (Index i = 0; i < size; ++i)
          unit.push_back(w[b * size + i] / length(w + b * size, size));
    }
  }

  /// Acts within row `r`.
  void act_within(Index r, std::vector<double>& row) const {
    for (Index chunk = 0; chunk < blocks; ++chunk) {
      const Index b = out == 0 ? chunk : (r * blocks + chunk) / out;
      double dots[2] = {0, 0};
      for (Index k = 0; k < terms; ++k)
        for (Index i = 0; i < size; ++i) dots[k] += at(k, b * size + i) * row[index(chunk, i)];
      for (Index k = 0; k < terms; ++k)
        for (Index i = 0; i < size; ++i)
          row[index(chunk, i)] += coefficient[size_t(k)] * dots[k] * at(k, b * size + i);
    }
  }
  /// sums += the share of row `r`, of a group that begins with row `first`.
  void add_to_sums(Index r, Index first, const std::vector<double>& row) {
    for (Index k = 0; k < terms; ++k)
      for (std::size_t i = 0; i < row.size(); ++i)
        sums[sum(r, first, k, row.size()) + i] += at(k, r) * row[i];
  }
  void add_sums(Index r, Index first, std::vector<double>& row) const {
    for (Index k = 0; k < terms; ++k)
      for (std::size_t i = 0; i < row.size(); ++i)
        row[i] += coefficient[size_t(k)] * at(k, r) * sums[sum(r, first, k, row.size()) + i];
  }

 private:
  using size_t = std::size_t;
  double at(Index k, Index i) const { return unit[size_t(k * blocks * size + i)]; }
  size_t index(Index chunk, Index i) const { return size_t(chunk * size + i); }
  size_t sum(Index r, Index first, Index k, size_t cols) const {
    return size_t((r - first) / size * terms + k) * cols;
  }
};

/// Compares every element of `merged` with W' computed from `base` and the adapters, in order, and
/// returns how many there are. Throws io_error where one is farther off than one unit in the last
/// place of its dtype (and what summing in another order can change in double).
inline std::uint64_t verify_merge(const Checkpoint::Tensor& base, const Checkpoint::Tensor& merged,
                                  const std::vector<Adapter<double>>& adapters,
                                  bool fan_in_fan_out) {
  const auto rows = static_cast<Index>(base.info->shape[0]);
  const auto cols = static_cast<Index>(base.info->shape[1]);
  const Dtype from = base.info->dtype, to = merged.info->dtype;
  if (merged.info->shape != base.info->shape)
    fail<io_error>("verification: '", base.info->name, "' has another shape than the base's");

  std::vector<PlainSide> sides;
  Index group = 1;
  for (const Adapter<double>& adapter : adapters)
    for (const Side side : {Side::input, Side::output}) {
      if (adapter.terms(side) == 0) continue;
      sides.emplace_back(adapter, side, (side == Side::output) != fan_in_fan_out);
      if (sides.back().columns) group = std::lcm(group, sides.back().size);
    }

  std::vector<double> row(static_cast<std::size_t>(cols)), written(row), nearest(row);
  std::vector<std::byte> rounded(row.size() * 8);
  for (Index first = 0; first < rows; first += group) {
    // Each side that needs sums takes a pass over the group for them; the last pass compares.
    for (PlainSide& side : sides)
      if (side.columns)
        side.sums.assign(static_cast<std::size_t>(group / side.size * side.terms * cols), 0);
    double magnitude = 0;  // of the group's elements
    for (std::size_t pass = 0; pass <= sides.size(); ++pass) {
      if (pass < sides.size() && !sides[pass].columns) continue;
      for (Index r = first; r < first + group; ++r) {
        widen(from, base.data() + r * cols * bit_size(from) / 8, cols, row.data());
        for (const double w : row) magnitude = (std::max)(magnitude, std::fabs(w));
        for (std::size_t s = 0; s < pass; ++s)
          sides[s].columns ? sides[s].add_sums(r, first, row) : sides[s].act_within(r, row);
        if (pass < sides.size()) {
          sides[pass].add_to_sums(r, first, row);
          continue;
        }
        widen(to, merged.data() + r * cols * bit_size(to) / 8, cols, written.data());
        narrow(to, row.data(), cols, rounded.data());
        widen(to, rounded.data(), cols, nearest.data());
        const auto [unit, least] = with_weight_type(to, [](auto type) {
          using Limits = std::numeric_limits<decltype(type)>;
          return std::pair(std::ldexp(1.0, 1 - Limits::digits),
                           static_cast<double>(Limits::denorm_min()));
        });
        for (std::size_t i = 0; i < row.size(); ++i) {
          if (same_value(written[i], nearest[i])) continue;
          const double slack =
              unit * std::fabs(nearest[i]) + least + 1e-12 * (magnitude + std::fabs(row[i]));
          const double off = std::fabs(written[i] - nearest[i]);
          if (is_nan(off) || !(off <= slack))
            fail<io_error>("verification: '", base.info->name, "' element (", r, ", ", i, ") is ",
                           written[i], ", but must be ", nearest[i]);
        }
      }
    }
  }
  return static_cast<std::uint64_t>(rows * cols);
}

}  // namespace detail
ETHER_END_NAMESPACE
