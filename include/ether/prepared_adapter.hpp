#pragma once

/// PreparedAdapter: an adapter normalised and moved to where its backend computes; or several, each for
/// some rows of a weight.

#include <ether/prepared_side.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// Holds ŵ_k = w_k / |w_k|, s * c_k and 1 / |w_k| of both sides in backend memory. Movable.
template <class Backend>
class PreparedAdapter {
 public:
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  /// Throws parameter_error for a zero or non-finite block, naming it.
  PreparedAdapter(Context& ctx, const Adapter<Parameter>& adapter)
      : PreparedAdapter(ctx, adapter.out_features(), adapter.in_features(), {{adapter}}) {}

  /// For a weight (out, in) whose rows belong to several adapters, or are in an order of the engine's: rows
  /// that no adapter is for are left as they are; without any the adapter is the identity. Throws shape_error for rows beyond the weight or in two
  /// parts, and for another in_features; parameter_error as above and for an order that is no permutation.
  PreparedAdapter(Context& ctx, Index out, Index in,
                  const std::vector<AdaptedRows<Parameter>>& parts)
      : out_(out), in_(in) {
    parts_.reserve(parts.size());
    for (const AdaptedRows<Parameter>& rows : parts) {
      check_place(rows);
      check_adapter(rows.adapter).require();
      parts_.emplace_back(ctx, rows);
    }
    find_spans();
    for (const Span& span : spans_) find_slices(span);
    Backend::synchronize(ctx);  // other Contexts may use it from here on
  }

  /// Replaces the parameters and the strength of one part; O(in + out), no allocation. Nothing changes when
  /// it throws: shape_error for an adapter of another shape, parameter_error as above.
  void set(Context& ctx, const Adapter<Parameter>& adapter, Index part = 0) {
    check_same_shape("the adapter's", adapter, "make a new layer to change the shape", part);
    check_adapter(adapter).require();
    parts_[static_cast<std::size_t>(part)].set(ctx, adapter);
  }

  Index parts() const { return static_cast<Index>(parts_.size()); }
  const AdapterConfig& config(Index part = 0) const { return at(part).config; }
  Index out_features() const { return out_; }
  Index in_features() const { return in_; }
  Index width(Side side) const { return side == Side::input ? in_ : out_; }

  /// Whether there is one adapter, for all rows in its own order: what backward and unmerge need.
  bool in_own_order() const { return parts_.empty() || (is_single() && parts_[0].order.empty()); }

  /// A side's H; on the input side as it acts on the rows of the weight. Identity where the config
  /// does not adapt the side. Throws parameter_error where one Reflection cannot say it: for several
  /// parts, and for an order of rows that takes blocks apart.
  Reflection<Parameter> reflection(Side side) const {
    if (parts_.empty()) return identity<Parameter>(width(side));
    if (!is_single() || parts_[0].output.passes() != 1)
      detail::fail<parameter_error>(
          "the adapter is for parts of the weight's rows, or these are in an order that takes its "
          "blocks apart: no single H says it; this needs one adapter, for all rows in its own "
          "order");
    return side == Side::input ? parts_[0].input_reflection(in_) : parts_[0].output_reflection(0);
  }

  /// Neighbouring rows of the weight that see the same H_in, and it, for all of them.
  struct Slice {
    Index first, count;
    Index part;  ///< -1: not adapted
    Index row;   ///< of the adapter: the first
  };
  const std::vector<Slice>& slices() const { return slices_; }
  /// The slice of an output row. Throws shape_error for one that the weight has not.
  const Slice& slice_at(Index row) const {
    if (row < 0 || row >= out_)
      detail::fail<shape_error>("output_row is ", row, " but the layer has ", out_,
                                " output rows, counted from 0");
    std::size_t at = 0;
    while (row >= slices_[at].first + slices_[at].count) ++at;
    return slices_[at];
  }
  Reflection<Parameter> input(const Slice& slice) const {
    if (slice.part < 0) return identity<Parameter>(in_);
    return at(slice.part).input_reflection(in_).at_row(slice.row);
  }

  /// Neighbouring rows of one part, or of none (-1): on its columns of s, H_out is the Reflections of all
  /// passes, one after the other.
  struct Span {
    Index first, count;
    Index part;
  };
  const std::vector<Span>& spans() const { return spans_; }
  Index passes(const Span& span) const { return span.part < 0 ? 1 : at(span.part).output.passes(); }
  Reflection<Parameter> output(const Span& span, Index pass) const {
    if (span.part < 0) return identity<Parameter>(span.count);
    return at(span.part).output_reflection(pass);
  }

  /// H_in as it acts on the rows of a span.
  Reflection<Parameter> input(const Span& span) const {
    return span.part < 0 ? identity<Parameter>(in_) : at(span.part).input_reflection(in_);
  }
  /// A parameter_error where the rows of a span cannot be merged by `input` and `output` together.
  Status check_can_merge(const Span& span) const {
    const bool by_row = input(span).step != 0;  // depends on a row's number
    if (passes(span) == 1 && !(by_row && !at(span.part).order.empty())) return {};
    return detail::found<parameter_error>(
        "the order of the weight's rows takes the adapter's blocks apart, so that it cannot be "
        "merged "
        "here; merge the checkpoint whose rows are in the adapter's order");
  }

  /// Throws shape_error unless `adapter` has vectors of the same shapes as the part's; `owner` and
  /// `advice` are words for the message.
  void check_same_shape(const char* owner, const Adapter<Parameter>& adapter, const char* advice,
                        Index part = 0) const {
    const Part& mine = at(part);
    const auto same = [&](const char* what, const auto& given, const auto& expected) {
      if (given != expected)
        detail::fail<shape_error>(owner, " ", what, " is ", given, " but the layer's is ", expected,
                                  "; ", advice);
    };
    const auto text = [](auto value) { return std::string_view(to_string(value)); };
    const AdapterConfig& c = adapter.config();
    same("out_features", adapter.out_features(), mine.rows);
    same("in_features", adapter.in_features(), in_);
    same("variant", text(c.variant), text(mine.config.variant));
    same("sides", text(c.sides), text(mine.config.sides));
    if (has_side(c.sides, Side::input) && c.input_blocks > 1)  // else the layouts agree
      same("layout", text(c.layout), text(mine.config.layout));
    for (Side side : {Side::input, Side::output})
      if (has_side(c.sides, side))
        same(side == Side::input ? "input_blocks" : "output_blocks", block_count(c, side),
             block_count(mine.config, side));
  }

 private:
  struct Part {
    Part(Context& ctx, const AdaptedRows<Parameter>& part)
        : config(part.adapter.config()),
          first(part.first),
          rows(part.adapter.out_features()),
          order(part.order),
          input(ctx, part.adapter, Side::input),
          output(ctx, part.adapter, Side::output, part.order) {
      set(ctx, part.adapter);
    }
    void set(Context& ctx, const Adapter<Parameter>& adapter) {
      input.stage(adapter, Side::input);
      output.stage(adapter, Side::output);
      input.copy_in(ctx);
      output.copy_in(ctx);
      config = adapter.config();
    }

    /// As it acts on the adapter's rows.
    Reflection<Parameter> input_reflection(Index in) const {
      if (input.terms() == 0) return identity<Parameter>(in);
      Reflection<Parameter> r = input.reflection();
      if (config.layout == BlockLayout::row_chunk && r.blocks > 1) {
        r.step = r.blocks;
        r.period = rows;
      }
      return r;
    }
    Reflection<Parameter> output_reflection(Index pass) const {
      return output.terms() == 0 ? identity<Parameter>(rows) : output.reflection(pass);
    }

    AdapterConfig config;
    Index first, rows;
    std::vector<Index> order;
    detail::PreparedSide<Backend> input, output;
  };

  const Part& at(Index part) const {
    if (part < 0 || part >= parts())
      detail::fail<parameter_error>("part is ", part, " but the layer has ", parts(),
                                    ", counted from 0");
    return parts_[static_cast<std::size_t>(part)];
  }

  bool is_single() const { return parts_.size() == 1 && parts_[0].rows == out_; }

  void check_place(const AdaptedRows<Parameter>& rows) const {
    const Index first = rows.first, count = rows.adapter.out_features();
    if (first < 0 || count > out_ - first)
      detail::fail<shape_error>("an adapter is for the rows [", first, ", ", first + count,
                                ") of a weight that has ", out_);
    if (rows.adapter.in_features() != in_)
      detail::fail<shape_error>("an adapter's in_features is ", rows.adapter.in_features(),
                                " but the weight's is ", in_);
    for (const Part& part : parts_)
      if (first < part.first + part.rows && part.first < first + count)
        detail::fail<shape_error>("rows [", first, ", ", first + count, ") and [", part.first, ", ",
                                  part.first + part.rows, ") overlap; a row has one adapter");
    detail::check_order(rows.order, count);
  }

  void find_spans() {
    std::vector<Span> parts;
    for (Index p = 0; p < this->parts(); ++p) parts.push_back({at(p).first, at(p).rows, p});
    std::sort(parts.begin(), parts.end(),
              [](const Span& a, const Span& b) { return a.first < b.first; });
    Index row = 0;
    for (const Span& part : parts) {
      if (part.first > row) spans_.push_back({row, part.first - row, -1});
      spans_.push_back(part);
      row = part.first + part.count;
    }
    if (row < out_) spans_.push_back({row, out_ - row, -1});
  }

  void find_slices(const Span& span) {
    if (span.part < 0 || at(span.part).input.terms() == 0) {
      if (!slices_.empty() && slices_.back().part < 0)
        slices_.back().count += span.count;
      else
        slices_.push_back({span.first, span.count, -1, 0});
      return;
    }
    const Part& part = at(span.part);
    const Reflection<Parameter> h = part.input_reflection(in_);
    const auto row_of = [&](Index r) {
      return part.order.empty() ? r : part.order[static_cast<std::size_t>(r)];
    };
    const auto alike = [&](Index a, Index b) {
      for (Index chunk = 0; h.step != 0 && chunk < h.blocks; ++chunk)
        if (h.block(a, chunk) != h.block(b, chunk)) return false;
      return true;
    };
    for (Index r = 0, count; r < span.count; r += count) {
      count = 1;
      while (r + count < span.count && alike(row_of(r), row_of(r + count))) ++count;
      slices_.push_back({span.first + r, count, span.part, row_of(r)});
    }
  }

  Index out_;
  Index in_;
  std::vector<Part> parts_;
  std::vector<Slice> slices_;
  std::vector<Span> spans_;
};

ETHER_END_NAMESPACE
