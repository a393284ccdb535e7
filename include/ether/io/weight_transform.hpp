#pragma once

/// Adapters applied to a stored weight, streamed: a few rows at a time, in double, so that the
/// result can be rounded once and memory does not depend on the weight's size.

#include <ether/backends/eigen.hpp>
#include <ether/inverse.hpp>

#include <memory>
#include <numeric>
#include <vector>

namespace ether {

namespace detail {

/// Throws parameter_error for row_chunk with several blocks on a weight stored as (in, out).
inline void check_stored_layout(const AdapterConfig& config, bool fan_in_fan_out) {
  if (fan_in_fan_out && config.layout == BlockLayout::row_chunk && config.input_blocks > 1 &&
      has_side(config.sides, Side::input))
    fail<parameter_error>("block_layout row_chunk with ", config.input_blocks,
                          " input blocks is not supported for weights stored as (in, out), "
                          "fan_in_fan_out");
}

/// The coefficients of h, (terms, blocks), with 0 for the blocks that are the identity, as û = v̂ or
/// û = -v̂: so those of a fresh ETHER+ adapter are. Empty if all are.
inline std::vector<double> effective_coefficients(const Reflection<double>& h) {
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
  if (!any) coefficients.clear();
  return coefficients;
}

}  // namespace detail

/// W <- H_out W H_in for one adapter after another, or the inverse, on a stored (rows, cols) matrix:
/// W itself, (out, in), or W^T where the file has that (fan_in_fan_out).
///
/// On the stored rows one of the sides acts within each row, the other as the sum over a block of
/// rows r of
///     row_r <- row_r + sum_k c_k ŵ_k[r] sums_k,     sums_k = sum_r ŵ_k[r] row_r
/// So each column step takes a pass over the rows for its sums, and a last pass transforms and
/// writes. Groups of rows that share no block are independent of each other.
class WeightTransform {
 public:
  using Backend = EigenBackend<double>;

  WeightTransform(Index rows, Index cols, bool fan_in_fan_out)
      : rows_(rows), cols_(cols), fan_in_fan_out_(fan_in_fan_out) {}

  /// W <- H_out W H_in. Throws parameter_error as PreparedAdapter does, and for row_chunk with
  /// several blocks on a weight stored as (in, out).
  void apply(const Adapter<double>& adapter) {
    const auto& prepared = prepare(adapter);
    add_step(prepared.reflection(Side::input), Side::input);
    add_step(prepared.reflection(Side::output), Side::output);
  }

  /// W <- H_out^-1 W H_in^-1. Throws ill_conditioned too.
  void apply_inverse(const Adapter<double>& adapter, double limit) {
    const auto& prepared = prepare(adapter);
    for (const Side side : {Side::output, Side::input}) {
      inverses_.push_back(
          std::make_unique<InverseReflection<Backend>>(ctx_, prepared, side, limit));
      add_step(inverses_.back()->reflection(), side);
    }
  }

  /// How many rows a task has, from any multiple of it on: whole blocks of every column step.
  Index group_rows() const {
    constexpr Index elements = Index{1} << 20, sum_elements = Index{1} << 17;
    Index alike = 1;
    for (const Step& step : steps_)
      if (step.columns) alike = std::lcm(alike, step.h.block_size);
    const Index sums = std::max<Index>(1, sum_rows(alike));
    return alike *
           std::clamp<Index>(std::min(elements / (alike * cols_), sum_elements / (sums * cols_)), 1,
                             rows_ / alike);
  }

  /// Memory of a thread: a panel, its rounded rows, and the sums of a group.
  std::uint64_t thread_bytes() const {
    const Index rows = 2 * panel_rows(sizeof(double)) + sum_rows(group_rows());
    return static_cast<std::uint64_t>(rows * cols_) * sizeof(double);
  }

  /// Transforms `count` rows from `first` on, a group. read(row, panel) fills a panel with the
  /// weight's rows from `row` on, and may be called several times for a row; write(row, panel)
  /// takes their results, once. `ctx` is for one thread.
  template <class Read, class Write>
  void run(EigenContext& ctx, Index first, Index count, Read&& read, Write&& write) const {
    EigenContext::Frame frame(ctx);
    const auto panel = frame.matrix<double>(panel_rows(sizeof(double)), cols_);
    const auto rows_from = [&](Index row, Index rows) {
      const auto part = panel.middle_rows(0, rows);
      read(row, part);
      return part;
    };
    std::vector<Sums> sums(steps_.size());
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      if (!steps_[s].columns) continue;
      const Index height = steps_[s].h.block_size;
      sums[s] = make_sums(frame, s, first, count, [&](Index top) {
        return [&, s, top, height](Index r) -> const double* {
          const Index at = r % panel.rows;
          if (at == 0) {
            const auto rows = rows_from(top + r, std::min(panel.rows, height - r));
            apply_steps(s, rows_differ_, top + r, rows, sums);
          }
          return panel.row(at);
        };
      });
    }
    transform_sums(sums);
    for (Index row = first; row < first + count; row += panel.rows) {
      const auto rows = rows_from(row, std::min(panel.rows, first + count - row));
      apply_steps(steps_.size(), true, row, rows, sums);
      write(row, rows);
    }
  }

  /// Whether run_stored can: one adapter, alike in all rows.
  bool is_simple() const { return prepared_.size() == 1 && !rows_differ_; }

  /// The same for a simple transform of a weight whose type stays: reads `weight`, all of it,
  /// where it is, and rounds once. write(row, panel) takes rows of results. The fast path.
  template <class T, class Write>
  void run_stored(EigenContext& ctx, Index first, Index count, MatrixView<const T> weight,
                  Write&& write) const {
    EigenContext::Frame frame(ctx);
    const auto panel = frame.matrix<T>(panel_rows(sizeof(T)), cols_);
    std::vector<Sums> sums(steps_.size());
    const Step *of_rows = nullptr, *of_columns = nullptr;
    Sums final_sums;
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      (steps_[s].columns ? of_columns : of_rows) = &steps_[s];
      if (!steps_[s].columns) continue;
      sums[s] = make_sums(frame, s, first, count, [&](Index top) {
        return [&, top](Index r) { return weight.row(top + r); };
      });
      final_sums = sums[s];
    }
    if (of_rows != nullptr && of_columns != nullptr) {  // in either order: they commute
      const auto all = final_sums.of_all;
      update(&of_rows->h, nullptr, {}, 0, MatrixView<const double>(all), all);
    }
    for (Index row = first; row < first + count; row += panel.rows) {
      const auto rows = panel.middle_rows(0, std::min(panel.rows, first + count - row));
      update(of_rows ? &of_rows->h : nullptr, of_columns ? &of_columns->h : nullptr, final_sums,
             row, weight.middle_rows(row, rows.rows), rows);
      write(row, rows);
    }
  }

 private:
  struct Step {
    Reflection<double> h;
    bool columns;                      // acts on columns: h's blocks are blocks of rows
    std::vector<double> coefficients;  // h's, of its blocks that are not the identity
  };
  /// sums_k of each block of a group, one column step's.
  struct Sums {
    Index first = 0;  // row of the group
    MatrixView<double> of_all;
    MatrixView<double> of_block(const Reflection<double>& h, Index block) const {
      return of_all.middle_rows((block - first / h.block_size) * h.terms(), h.terms());
    }
  };

  const PreparedAdapter<Backend>& prepare(const Adapter<double>& adapter) {
    detail::check_stored_layout(adapter.config(), fan_in_fan_out_);
    prepared_.push_back(std::make_unique<PreparedAdapter<Backend>>(ctx_, adapter));
    return *prepared_.back();
  }

  void add_step(const Reflection<double>& h, Side side) {
    const bool columns = (side == Side::output) != fan_in_fan_out_;
    Step step{h, columns, detail::effective_coefficients(h)};
    if (step.coefficients.empty()) return;
    step.h.coefficient = {step.coefficients.data(), h.terms(), h.blocks};
    steps_.push_back(std::move(step));
    rows_differ_ = rows_differ_ || (!columns && h.step != 0);
  }

  /// Rows of sums for `rows` rows of the weight.
  Index sum_rows(Index rows) const {
    Index sums = 0;
    for (const Step& step : steps_)
      if (step.columns) sums += rows / step.h.block_size * step.h.terms();
    return sums;
  }

  /// A multiple of four rows, which fit a level-2 cache.
  Index panel_rows(std::size_t element) const {
    constexpr Index bytes = Index{1} << 19;
    return std::max<Index>(4, bytes / Index(element) / cols_ / 4 * 4);
  }

  /// The sums of step s for a group of rows; rows_of(top)(r) is row r of the block that begins at
  /// `top`.
  template <class RowsOf>
  Sums make_sums(EigenContext::Frame& frame, std::size_t s, Index first, Index count,
                 RowsOf&& rows_of) const {
    const auto& h = steps_[s].h;
    const Sums sums{first, frame.matrix<double>(count / h.block_size * h.terms(), cols_)};
    for (Index top = first; top < first + count; top += h.block_size) {
      const auto unit = h.unit.block(0, top, h.terms(), h.block_size);
      const auto to = sums.of_block(h, top / h.block_size);
      if (h.terms() == 1)
        detail::project_rows<1>(rows_of(top), unit, to);
      else
        detail::project_rows<2>(rows_of(top), unit, to);
    }
    return sums;
  }

  /// Row steps that are alike in all rows commute with the sums. So sums are made from rows without
  /// them, and transformed here by those that come before.
  void transform_sums(const std::vector<Sums>& sums) const {
    if (rows_differ_) return;
    for (std::size_t s = 0; s < steps_.size(); ++s)
      for (std::size_t before = 0; before < s; ++before)
        if (steps_[s].columns && !steps_[before].columns)
          update(&steps_[before].h, nullptr, {}, 0, MatrixView<const double>(sums[s].of_all),
                 sums[s].of_all);
  }

  /// The first `end` steps on rows from `row` on, in place; column steps have their sums.
  void apply_steps(std::size_t end, bool row_steps, Index row, MatrixView<double> rows,
                   const std::vector<Sums>& sums) const {
    for (std::size_t s = 0; s < end; ++s) {
      const Step* const of_rows = steps_[s].columns ? nullptr : &steps_[s];
      if (of_rows != nullptr && !row_steps) continue;
      if (of_rows != nullptr && s + 1 < end && steps_[s + 1].columns) ++s;  // both at once
      const Step* const of_columns = steps_[s].columns ? &steps_[s] : nullptr;
      update(of_rows ? &of_rows->h : nullptr, of_columns ? &of_columns->h : nullptr, sums[s], row,
             MatrixView<const double>(rows), rows);
    }
  }

  /// out = in H + sum_k c_k ŵ_k[r] sums_k, either part where it is given. Row 0 of `in` and `out`
  /// is the weight's row `row`; out may be in.
  template <class A, class B>
  void update(const Reflection<double>* h_rows, const Reflection<double>* h_columns,
              const Sums& sums, Index row, MatrixView<const A> in, MatrixView<B> out) const {
    const auto h = h_rows != nullptr ? *h_rows : identity<double>(cols_);
    const Index height = h_columns != nullptr ? h_columns->block_size : rows_;
    for (Index r = 0, count; r < in.rows; r += count) {
      const Index block = (row + r) / height;
      count = std::min(in.rows - r, (block + 1) * height - (row + r));
      const auto given = h_columns != nullptr
                             ? MatrixView<const double>(sums.of_block(*h_columns, block))
                             : MatrixView<const double>{};
      const auto factor = [&, top = row + r](Index i, Index k) {
        return h_columns->coefficient(k, block) * h_columns->unit(k, top + i);
      };
      detail::with_terms(h.terms(), [&](auto dots) {
        detail::with_terms(given.rows, [&](auto adds) {
          detail::update_range<decltype(dots)::value, decltype(adds)::value, detail::Place::memory>(
              h.from_row(row + r), 0, count, 0, h.blocks, in.middle_rows(r, count),
              out.middle_rows(r, count), MatrixView<const A>{}, given, factor);
        });
      });
    }
  }

  Index rows_, cols_;
  bool fan_in_fan_out_;
  bool rows_differ_ = false;  // layout row_chunk: H_in is not the same for all rows
  std::vector<Step> steps_;
  EigenContext ctx_{1};
  std::vector<std::unique_ptr<PreparedAdapter<Backend>>> prepared_;
  std::vector<std::unique_ptr<InverseReflection<Backend>>> inverses_;
};

}  // namespace ether
