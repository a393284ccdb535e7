#pragma once

/// Many adapters of one layer, so that each row of a batch can have its own:
///
///     y_r = ((x_r H_in,i) W^T) H_out,i + b,   i = ids[r];   ids[r] = -1: y_r = x_r W^T + b
///
/// One product with W serves them all. See EtherLinear::forward and backward.

#include <ether/adapter.hpp>
#include <ether/backend.hpp>
#include <ether/row_reflections.hpp>

#include <limits>
#include <optional>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

template <class Backend, class Unit>
struct BankSide {
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Shape = SlotShape<Parameter>;

  BankSide(Context& ctx, Index terms_, Index width_, Index capacity)
      : terms(terms_),
        width(width_),
        unit(ctx, capacity * terms, terms == 0 ? 0 : width),
        shapes(ctx, 1, capacity) {
    const std::vector<Shape> none(static_cast<std::size_t>(capacity));
    Backend::copy_in(ctx, MatrixView<const Shape>{none.data(), Index{1}, capacity}, shapes.view());
  }

  MatrixView<Unit> vectors(Index slot) const {
    return unit.view().middle_rows(slot * terms, terms);
  }
  void set_shape(Context& ctx, Index slot, const Shape& shape) const {
    Backend::copy_in(ctx, MatrixView<const Shape>{&shape, 1, 1},
                     shapes.view().block(0, slot, 1, 1));
  }
  RowReflections<Parameter, Unit> rows(const std::int32_t* ids) const {
    return {MatrixView<const Unit>{unit.view().data, unit.view().rows, width, unit.view().stride},
            shapes.view().data, ids, terms, /*bad_id=*/nullptr};
  }

  Index terms, width;
  typename Backend::template Buffer<Unit> unit;
  typename Backend::template Buffer<Shape> shapes;
};

}  // namespace detail

/// Fixed memory for `capacity` adapters of one layer (out, in), in slots 0 to capacity - 1. A slot holds a
/// smaller adapter than `limits` allow as well: ETHER where they are ETHER+, one side of both, any number of
/// blocks that divides the width, and its own strength. The vectors are kept normalised, as `Unit`:
/// Parameter, or Eigen::half or Eigen::bfloat16 (for serving only: their gradients are not computed).
///
/// set and clear change one slot: one of them at a time, and not while a call whose ids name the slot runs.
/// Calls that use other slots are not disturbed. On a GPU set and clear are ordered on their Context's stream:
/// synchronise other streams yourself.
template <class Backend, class Unit_ = typename Backend::Parameter>
class AdapterBank {
 public:
  using Unit = Unit_;
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Rows = RowReflections<Parameter, Unit>;
  static constexpr bool trainable = std::is_same_v<Unit, Parameter>;
  static_assert(detail::has<detail::reflect_each_t, Backend>,
                "ether: the backend has no reflect(ctx, RowReflections, in, out, add), which gives "
                "rows adapters of their own");
  static_assert(Backend::host_memory || trainable || std::is_same_v<Unit, typename Backend::Scalar>,
                "ether: on a GPU a bank keeps vectors of Backend::Parameter or of Backend::Scalar");

  /// `limits` say which variant and sides a slot can hold; its other fields are ignored. Every slot
  /// is the identity. Throws parameter_error for a capacity below 1 or beyond 2^31 - 1, and a weight
  /// without elements.
  AdapterBank(Context& ctx, const AdapterConfig& limits, Index out, Index in, Index capacity)
      : limits_(checked(limits, out, in, capacity)),
        input_(ctx, term_count(limits, Side::input), in, capacity),
        output_(ctx, term_count(limits, Side::output), out, capacity),
        bad_id_(ctx, 1, 1),
        slots_(static_cast<std::size_t>(capacity)),
        staging_(static_cast<std::size_t>(
            Backend::host_memory ? 0 : (std::max)(input_.terms * in, output_.terms * out))) {
    set_bad_id(ctx, 0);
    Backend::synchronize(ctx);  // other Contexts may use it from here on
  }

  Index capacity() const { return static_cast<Index>(slots_.size()); }
  Index out_features() const { return output_.width; }
  Index in_features() const { return input_.width; }
  const AdapterConfig& limits() const { return limits_; }

  /// Puts an adapter into a slot, in place of what was there: O(in + out). Allocates nothing, except for the
  /// lengths of the blocks where a trainable bank's slot gets more of them than it ever had. Nothing changes
  /// when it throws, unless the device fails: the slot is then empty. Throws shape_error for an adapter of
  /// another shape; parameter_error for a slot that is not there, an adapter beyond the
  /// limits, a zero or non-finite block, and layout row_chunk with several blocks.
  void set(Context& ctx, Index slot, const Adapter<Parameter>& adapter) {
    check_slot(slot);
    check_set(adapter).require();
    Slot& held = slots_[static_cast<std::size_t>(slot)];
    if constexpr (trainable) {
      Index blocks = 0;
      for (const Side side : {Side::input, Side::output})
        blocks += adapter.terms(side) * adapter.blocks(side);
      held.lengths.reserve(static_cast<std::size_t>(blocks));
      held.lengths.clear();
    }
    held.config.reset();  // should the device fail
    for (const Side side : {Side::input, Side::output}) set_side(ctx, slot, adapter, side);
    held.config = adapter.config();
  }

  /// What set would throw for an adapter.
  Status check_set(const Adapter<Parameter>& adapter) const {
    const AdapterConfig& config = adapter.config();
    if (adapter.out_features() != out_features() || adapter.in_features() != in_features())
      return detail::found<shape_error>("the adapter is for (", adapter.out_features(), ", ",
                                        adapter.in_features(), ") but the bank is for (",
                                        out_features(), ", ", in_features(),
                                        "), both (out_features, in_features)");
    for (const Side side : {Side::input, Side::output})
      if (adapter.terms(side) > bank_side(side).terms)
        return detail::found<parameter_error>(
            "the adapter is ", to_string(config.variant), " on ", to_string(config.sides),
            " but the bank's limits are ", to_string(limits_.variant), " on ",
            to_string(limits_.sides), "; make a bank with larger limits");
    if (config.layout == BlockLayout::row_chunk && has_side(config.sides, Side::input) &&
        config.input_blocks > 1)
      return detail::found<parameter_error>(
          "the adapter has layout row_chunk with ", config.input_blocks,
          " input blocks, so that output rows see different inputs and one product cannot serve "
          "it beside others; merge it, or give it a layer of its own");
    return check_adapter(adapter);
  }

  /// The identity again. Throws parameter_error for a slot that is not there.
  void clear(Context& ctx, Index slot) {
    check_slot(slot);
    for (const auto* side : {&input_, &output_}) side->set_shape(ctx, slot, {});
    slots_[static_cast<std::size_t>(slot)].config.reset();
  }

  /// Whether a slot has an adapter, and how it is configured. Throw parameter_error for a slot that is not
  /// there, the second one for an empty slot too.
  bool occupied(Index slot) const {
    check_slot(slot);
    return slots_[static_cast<std::size_t>(slot)].config.has_value();
  }
  AdapterConfig config(Index slot) const {
    if (!occupied(slot))
      detail::fail<parameter_error>("slot ", slot, " of the bank is empty; set an adapter first");
    return *slots_[static_cast<std::size_t>(slot)].config;
  }

  /// A copy of a slot's adapter on the host: its vectors as they were rounded, of the length they had in a
  /// trainable bank, of length 1 in another. Throws as config does.
  Adapter<Parameter> get(Context& ctx, Index slot) const {
    Adapter<Parameter> adapter(config(slot), out_features(), in_features());
    std::vector<Unit> vector;
    for (const Side side : {Side::input, Side::output}) {
      const MatrixView<Parameter> to = adapter.parameters(side);
      vector.resize(static_cast<std::size_t>(to.cols));
      for (Index k = 0; k < to.rows; ++k) {
        Backend::copy_out(ctx,
                          MatrixView<const Unit>(bank_side(side).vectors(slot).middle_rows(k, 1)),
                          MatrixView<Unit>{vector.data(), Index{1}, to.cols});
        Backend::synchronize(ctx);
        for (Index i = 0; i < to.cols; ++i)
          to(k, i) = static_cast<Parameter>(vector[static_cast<std::size_t>(i)]);
      }
      if constexpr (trainable)
        for_each_block(adapter, side, [&](Index k, Index b, Index first, Index size) {
          for (Index i = first; i < first + size; ++i)
            to(k, i) *= length(slot, adapter, side, k, b);
        });
    }
    return adapter;
  }

  /// A shape_error where an id of `rows` rows names no slot; not for ids in device memory.
  Status check_ids(const std::int32_t* ids, Index rows) const {
    if (ids == nullptr && rows != 0)
      return detail::found<shape_error>("ids is null but there are ", rows,
                                        " rows; give it one for each, -1 for no adapter");
    if constexpr (Backend::host_memory)
      for (Index r = 0; r < rows; ++r)
        if (ids[r] < -1 || ids[r] >= capacity())
          return detail::found<shape_error>("ids[", r, "] is ", ids[r], " but the bank has ",
                                            capacity(), " slots; an id is 0 to ", capacity() - 1,
                                            ", or -1 for no adapter");
    return {};
  }

  /// Throws shape_error where a call with ids in device memory saw one that is neither a slot nor -1 since
  /// the last check; such rows were computed without adapter. Waits for the Context's work; what other streams
  /// do meanwhile may be missed.
  void check(Context& ctx) const {
    if constexpr (!Backend::host_memory) {
      std::int32_t bad = 0;
      Backend::copy_out(ctx, MatrixView<const std::int32_t>(bad_id_.view()),
                        MatrixView<std::int32_t>{&bad, 1, 1});
      Backend::synchronize(ctx);
      if (bad == 0) return;
      set_bad_id(ctx, 0);
      Backend::synchronize(ctx);
      detail::fail<shape_error>("an id was neither a slot of the bank, 0 to ", capacity() - 1,
                                ", nor -1; its rows were computed without an adapter");
    } else {
      static_cast<void>(ctx);
    }
  }

  /// A side's H of rows with these ids, as backends take it.
  Rows rows(Side side, const std::int32_t* ids) const {
    Rows of_ids = bank_side(side).rows(ids);
    if constexpr (!Backend::host_memory) of_ids.bad_id = bad_id_.view().data;
    return of_ids;
  }

  /// |w_k| of a block of the adapter in a slot, which `adapter` has the shape of.
  Parameter length(Index slot, const Adapter<Parameter>& adapter, Side side, Index k,
                   Index b) const {
    static_assert(trainable, "ether: a bank of 16-bit vectors does not keep their lengths");
    const Index before =
        side == Side::input ? 0 : adapter.terms(Side::input) * adapter.blocks(Side::input);
    return slots_[static_cast<std::size_t>(slot)]
        .lengths[static_cast<std::size_t>(before + k * adapter.blocks(side) + b)];
  }

  /// Throws parameter_error for a capacity that ids cannot count.
  static Index checked_capacity(Index capacity) {
    if (capacity < 1 || capacity > (std::numeric_limits<std::int32_t>::max)())
      detail::fail<parameter_error>("the bank's capacity is ", capacity,
                                    "; it must be 1 to 2147483647, as ids are 32-bit integers");
    return capacity;
  }

  /// f(term, block, first, size) for every block of a side; its elements are [first, first + size).
  template <class F>
  static void for_each_block(const Adapter<Parameter>& adapter, Side side, F&& f) {
    for (Index k = 0; k < adapter.terms(side); ++k)
      for (Index b = 0; b < adapter.blocks(side); ++b)
        f(k, b, b * adapter.block_size(side), adapter.block_size(side));
  }

 private:
  struct NoLengths {};
  struct Slot {
    std::optional<AdapterConfig> config;  // none: empty
    std::conditional_t<trainable, std::vector<Parameter>, NoLengths>
        lengths;  // input, output; term, block
  };

  static const AdapterConfig& checked(const AdapterConfig& limits, Index out, Index in,
                                      Index capacity) {
    if (out < 1 || in < 1)
      detail::fail<parameter_error>("the bank is for a weight (", out, ", ", in,
                                    "), (out_features, in_features); both must be at least 1");
    checked_capacity(capacity);
    return limits;
  }
  void check_slot(Index slot) const {
    if (slot < 0 || slot >= capacity())
      detail::fail<parameter_error>("slot is ", slot, " but the bank has ", capacity(),
                                    ", counted from 0");
  }
  const detail::BankSide<Backend, Unit>& bank_side(Side side) const {
    return side == Side::input ? input_ : output_;
  }

  void set_side(Context& ctx, Index slot, const Adapter<Parameter>& adapter, Side side) {
    const auto& to = bank_side(side);
    SlotShape<Parameter> shape;
    shape.terms = static_cast<std::int32_t>(adapter.terms(side));
    if (shape.terms != 0) shape.block_size = static_cast<std::int32_t>(adapter.block_size(side));
    for (Index k = 0; k < shape.terms; ++k)
      shape.coefficient[k] = static_cast<Parameter>(adapter.config().strength *
                                                    term_coefficient(adapter.config().variant, k));

    const MatrixView<Unit> vectors = to.vectors(slot).middle_rows(0, shape.terms);
    MatrixView<Unit> units = vectors;
    if constexpr (!Backend::host_memory) units = {staging_.data(), vectors.rows, vectors.cols};
    for_each_block(adapter, side, [&](Index k, Index /*block*/, Index first, Index size) {
      const double length =
          detail::normalize(adapter.parameters(side).row(k) + first, size, units.row(k) + first);
      if constexpr (trainable)
        slots_[static_cast<std::size_t>(slot)].lengths.push_back(static_cast<Parameter>(length));
      else
        static_cast<void>(length);
    });
    if constexpr (!Backend::host_memory)
      Backend::copy_in(ctx, MatrixView<const Unit>(units), vectors);
    to.set_shape(ctx, slot, shape);
  }

  void set_bad_id(Context& ctx, std::int32_t value) const {
    Backend::copy_in(ctx, MatrixView<const std::int32_t>{&value, 1, 1}, bad_id_.view());
  }

  AdapterConfig limits_;
  detail::BankSide<Backend, Unit> input_, output_;
  typename Backend::template Buffer<std::int32_t> bad_id_;
  std::vector<Slot> slots_;
  std::vector<Unit> staging_;  // for memory that the host cannot write
};

ETHER_END_NAMESPACE
