#pragma once

/// Adapters applied to a stored weight, streamed: a few rows at a time, in double, so that the
/// result can be rounded once and memory does not depend on the weight's size.

#include <ether/backends/eigen.hpp>
#include <ether/inverse.hpp>

#include <memory>
#include <numeric>
#include <vector>

ETHER_BEGIN_NAMESPACE

namespace detail {

/// Throws parameter_error for row_chunk with several blocks on a weight stored as (in, out).
inline void check_stored_layout(const AdapterConfig& config, bool fan_in_fan_out) {
  if (fan_in_fan_out && config.layout == BlockLayout::row_chunk && config.input_blocks > 1 &&
      has_side(config.sides, Side::input))
    fail<parameter_error>("block_layout row_chunk with ", config.input_blocks,
                          " input blocks is not supported for weights stored as (in, out), "
                          "fan_in_fan_out");
}

}  // namespace detail

/// W <- H_out W H_in for one adapter after another, or the inverse, on a stored (rows, cols) matrix:
/// W itself, (out, in), or W^T where the file has that (fan_in_fan_out).
///
/// On the stored rows one of the sides acts within each row, the other within each column: the
/// passes of backends/eigen/transform.hpp. Groups of rows that share no block are independent of
/// each other.
class WeightTransform {
 public:
  using Backend = EigenBackend<double>;

  WeightTransform(Index rows, Index cols, bool fan_in_fan_out)
      : rows_(rows), cols_(cols), fan_in_fan_out_(fan_in_fan_out) {}

  /// W <- H_out W H_in. Throws parameter_error as PreparedAdapter does, and for row_chunk with
  /// several blocks on a weight stored as (in, out).
  void apply(const Adapter<double>& adapter) {
    const auto& prepared = prepare(adapter);
    add_step(prepared.reflection(Side::input), prepared.reflection(Side::output), Side::input);
  }

  /// W <- H_out^-1 W H_in^-1. Throws ill_conditioned too.
  void apply_inverse(const Adapter<double>& adapter, double limit) {
    const auto& prepared = prepare(adapter);
    const auto inverse = [&](Side side) {
      inverses_.push_back(
          std::make_unique<InverseReflection<Backend>>(ctx_, prepared, side, limit));
      return inverses_.back()->reflection();
    };
    const auto h_out = inverse(Side::output), h_in = inverse(Side::input);
    add_step(h_in, h_out, Side::output);
  }

  /// How many rows a task has, from any multiple of it on: whole blocks of every column operation.
  Index group_rows() const {
    constexpr Index elements = Index{1} << 20, sum_elements = Index{1} << 17;
    Index alike = 1;
    for (const Step& step : steps_)
      if (step.columns.terms() != 0) alike = std::lcm(alike, step.columns.block_size);
    const Index sums = std::max<Index>(1, sum_rows(alike));
    return alike *
           std::clamp<Index>((std::min)(elements / (alike * cols_), sum_elements / (sums * cols_)),
                             1, rows_ / alike);
  }

  /// Memory of a thread: a panel, its rounded rows, and the sums of a group.
  std::uint64_t thread_bytes() const {
    const Index rows = 2 * panel_rows(sizeof(double)) + sum_rows(group_rows());
    return static_cast<std::uint64_t>(rows * cols_) * sizeof(double);
  }

  /// Whether run is for rows of the weight's own type: nothing is rounded between steps.
  bool is_simple() const { return steps_.size() <= 1; }

  /// Transforms `count` rows from `first` on, a group. T: double or, if it is simple, the weight's
  /// type. rows_of(row, panel), panel a MatrixView<T>, gives the weight's rows from `row` on, as many
  /// as panel has: read into that, or where they are; it may be asked several times for a row.
  /// write(row, results) takes a MatrixView<const T>, once for a row. `ctx` is for one thread.
  template <class T, class RowsOf, class Write>
  void run(EigenContext& ctx, Index first, Index count, RowsOf&& rows_of, Write&& write) const {
    EigenContext::Frame frame(ctx);
    const auto panel = frame.matrix<T>(panel_rows(sizeof(T)), cols_);
    std::vector<detail::ColumnSums<double>> sums;
    // Rows from `row` on after the steps that have their sums.
    const auto transformed = [&](Index row, Index rows) {
      const auto out = panel.middle_rows(0, rows);
      MatrixView<const T> in = rows_of(row, out);
      for (std::size_t s = 0; s < sums.size(); ++s) {
        detail::transform_rows<detail::Place::memory>(steps_[s].rows, steps_[s].columns, sums[s],
                                                      row, in, out);
        in = out;
      }
      return in;
    };
    for (const Step& step : steps_) {
      if (step.columns.terms() == 0)
        sums.emplace_back();
      else
        sums.push_back(detail::column_sums(
            ctx, frame, step.rows, step.columns, first, first + count, step.columns.block_size,
            panel.rows, [&](Index row, Index rows, int) { return transformed(row, rows); }));
    }
    for (Index row = first; row < first + count; row += panel.rows)
      write(row, transformed(row, (std::min)(panel.rows, first + count - row)));
  }

 private:
  /// What acts within each row, and what within each column; the identity has no terms.
  struct Step {
    Reflection<double> rows, columns;
  };

  const PreparedAdapter<Backend>& prepare(const Adapter<double>& adapter) {
    detail::check_stored_layout(adapter.config(), fan_in_fan_out_);
    prepared_.push_back(std::make_unique<PreparedAdapter<Backend>>(ctx_, adapter));
    return *prepared_.back();
  }

  /// The two sides commute, but where rows differ in H_in, layout row_chunk: then `earlier` is a step
  /// of its own.
  void add_step(const Reflection<double>& h_in, const Reflection<double>& h_out, Side earlier) {
    Step step{without_identities(fan_in_fan_out_ ? h_out : h_in),
              without_identities(fan_in_fan_out_ ? h_in : h_out)};
    if (step.rows.terms() == 0 && step.columns.terms() == 0) return;
    if (step.rows.step != 0 && step.columns.terms() != 0) {
      const Step within{step.rows, identity<double>(rows_)};
      const Step across{identity<double>(cols_), step.columns};
      steps_.push_back(earlier == Side::input ? within : across);
      step = earlier == Side::input ? across : within;
    }
    steps_.push_back(step);
  }

  /// h with coefficient 0 for the blocks that are the identity, as û = v̂ or û = -v̂: so those of a
  /// fresh ETHER+ adapter are. The identity if all are.
  Reflection<double> without_identities(Reflection<double> h) {
    if (h.terms() == 0) return h;
    std::vector<double> coefficients(static_cast<std::size_t>(h.terms() * h.blocks));
    bool any = false;
    for (Index b = 0; b < h.blocks; ++b) {
      const auto unit = h.unit.block(0, b * h.block_size, h.terms(), h.block_size);
      const auto alike = [&](double sign) {
        return std::equal(unit.row(0), unit.row(0) + unit.cols, unit.row(1),
                          [=](double u, double v) { return u == sign * v; });
      };
      if (h.terms() == 2 && (alike(1) || alike(-1))) continue;
      any = true;
      for (Index k = 0; k < h.terms(); ++k)
        coefficients[static_cast<std::size_t>(k * h.blocks + b)] = h.coefficient(k, b);
    }
    if (!any) return identity<double>(h.width());
    coefficients_.push_back(std::move(coefficients));
    h.coefficient = {coefficients_.back().data(), h.terms(), h.blocks};
    return h;
  }

  /// Rows of sums for `rows` rows of the weight.
  Index sum_rows(Index rows) const {
    Index sums = 0;
    for (const Step& step : steps_) sums += rows / step.columns.block_size * step.columns.terms();
    return sums;
  }

  /// A multiple of four rows, which fit a level-2 cache.
  Index panel_rows(std::size_t element) const {
    constexpr Index bytes = Index{1} << 19;
    return std::max<Index>(4, bytes / Index(element) / cols_ / 4 * 4);
  }

  Index rows_, cols_;
  bool fan_in_fan_out_;
  std::vector<Step> steps_;
  EigenContext ctx_{1};
  std::vector<std::unique_ptr<PreparedAdapter<Backend>>> prepared_;
  std::vector<std::unique_ptr<InverseReflection<Backend>>> inverses_;
  std::vector<std::vector<double>> coefficients_;  // of the steps
};

ETHER_END_NAMESPACE
