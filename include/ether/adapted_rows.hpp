#pragma once

/// Which rows of an engine's weight an adapter is for, and in which order.
///
/// Engines store several weights of a model as one (q, k and v; gate and up), and the rows of q and k in
/// the order that their rotary embedding wants. H_out acts across rows: applied to rows in another order
/// than the adapter's it is another transform, without any error, and results that look plausible.

#include <ether/adapter.hpp>

#include <algorithm>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// An adapter, and the rows [first, first + adapter.out_features()) of a weight that it is for.
template <class Parameter>
struct AdaptedRows {
  const Adapter<Parameter>& adapter;  ///< read when it is given to a layer, and not kept
  Index first = 0;
  /// Row first + r of the weight is the adapter's output row order[r]: a permutation. Empty: r.
  std::vector<Index> order = {};
};

/// The order of q's and k's rows in llama.cpp and in Meta's own files: in every head the rows j and
/// head_dim / 2 + j of the Hugging Face layout, which a rotary embedding turns together, are neighbours.
/// `heads`: of q, or the fewer of k. head_dim must be even. Throws parameter_error.
inline std::vector<Index> interleaved_row_order(Index heads, Index head_dim) {
  if (heads < 1 || head_dim < 2 || head_dim % 2 != 0)
    detail::fail<parameter_error>("heads is ", heads, " and head_dim is ", head_dim,
                                  "; there must be a head, and pairs of rows in it");
  std::vector<Index> order;
  order.reserve(static_cast<std::size_t>(heads * head_dim));
  for (Index head = 0; head < heads; ++head)
    for (Index pair = 0; pair < head_dim / 2; ++pair)
      for (Index half = 0; half < 2; ++half)
        order.push_back(head * head_dim + half * (head_dim / 2) + pair);
  return order;
}

namespace detail {

/// Throws parameter_error unless `order` is empty or a permutation of 0, ..., rows - 1.
inline void check_order(const std::vector<Index>& order, Index rows) {
  if (order.empty()) return;
  if (static_cast<Index>(order.size()) != rows)
    fail<parameter_error>("order has ", order.size(), " rows but the adapter has ", rows,
                          " output rows; it names each of them once");
  std::vector<bool> seen(order.size());
  for (const Index row : order) {
    if (row < 0 || row >= rows || seen[static_cast<std::size_t>(row)])
      fail<parameter_error>("order names row ", row, row < 0 || row >= rows ? "" : " twice",
                            "; it must name each of the adapter's ", rows, " output rows once");
    seen[static_cast<std::size_t>(row)] = true;
  }
}

/// How H of `blocks` blocks acts on rows in another order. A block whose rows lie apart is, among the rows
/// between them, one with zeros there: so blocks that share a range of rows become several blocks as long
/// as that range, applied one after the other. They commute, having no row in common.
struct ReorderedBlocks {
  Index block_size = 0;  ///< rows of a range that holds whole blocks only
  Index passes = 1;      ///< blocks in each range

  /// Where the adapter's output row o is: at pass * rows + row of the weight.
  std::vector<Index> place;
};

inline ReorderedBlocks reorder_blocks(const std::vector<Index>& order, Index rows, Index blocks) {
  const Index size = rows / blocks;
  std::vector<Index> number(static_cast<std::size_t>(blocks));
  // Numbers the blocks of the rows [first, first + range) as they come; returns how many there are.
  const auto number_blocks = [&](Index first, Index range, const auto& visit) {
    std::fill(number.begin(), number.end(), -1);
    Index found = 0;
    for (Index r = first; r < first + range; ++r) {
      const Index row = order[static_cast<std::size_t>(r)];
      Index& at = number[static_cast<std::size_t>(row / size)];
      if (at < 0) at = found++;
      visit(r, row, at);
    }
    return found;
  };
  const auto whole_blocks = [&](Index passes) {  // in every range
    for (Index first = 0; first < rows; first += passes * size)
      if (number_blocks(first, passes * size, [](Index, Index, Index) {}) != passes) return false;
    return true;
  };
  ReorderedBlocks result;
  while (blocks % result.passes != 0 || !whole_blocks(result.passes)) ++result.passes;
  result.block_size = result.passes * size;
  result.place.resize(order.size());
  for (Index first = 0; first < rows; first += result.block_size)
    number_blocks(first, result.block_size, [&](Index r, Index row, Index pass) {
      result.place[static_cast<std::size_t>(row)] = pass * rows + r;
    });
  return result;
}

}  // namespace detail
ETHER_END_NAMESPACE
