#pragma once

/// Tokens as the blocked product takes them, transformed on the way: a H is never stored in rows.

#include <ether/backends/eigen/reflect.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// Tokens of a panel, which are neighbours in a vector: panel(k, t), t < panel_tokens, row-major. At
/// least the four that the row operation takes together.
template <class P>
inline constexpr Index panel_tokens = lanes<P> < 4 ? 4 : lanes<P>;

/// Columns of a that are packed, and multiplied, together: depth_tile x 256 tokens of float are 256 KiB,
/// a quarter to a half of a second-level cache.
inline constexpr Index depth_tile = 256;

constexpr Index round_up(Index value, Index multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Rows rows of a H, which are `first` and the next ones of all tokens, into panels. Within the depth tile that begins at
/// column k and has `depth` columns, panel p begins at packed[k * tokens + p * panel_tokens * depth];
/// `tokens` are those of all panels.
template <int Terms, int Rows, class P, class A>
void pack_rows(const Reflection<P>& h, MatrixView<const A> a, Index first, Index tokens,
               P* packed) {
  constexpr Index panel = panel_tokens<P>;
  const Index panel_first = first / panel * panel, lane = first % panel;
  const A* const in = a.data;
  P factors[Rows * (Terms == 0 ? 1 : Terms)] = {};  // of the block at hand
  for (Index column = 0, end; column < a.cols; column = end) {
    const Index chunk = column / h.block_size, offset = column % h.block_size;
    const Index k = column / depth_tile * depth_tile, depth = (std::min)(depth_tile, a.cols - k);
    end = (std::min)((chunk + 1) * h.block_size, k + depth);
    const Index b = Terms == 0 ? 0 : h.block(first, chunk);
    if (offset == 0) dot_block<Terms, Rows>(h, b, in + column, a.stride, factors, Terms);
    Vectors<Terms, P> w;
    for (int t = 0; t < Terms; ++t) w.vector[t] = h.unit.row(t) + b * h.block_size + offset;
    P* const to = packed + k * tokens + panel_first * depth + (column - k) * panel + lane;
    add_vectors<Terms, Rows, Place::packed>(in + column, a.stride, to, panel, nullptr, 0,
                                            end - column, w, factors);
  }
}

/// Elements that pack_tokens writes.
template <class P>
Index packed_size(Index tokens, Index depth) {
  return round_up(tokens, panel_tokens<P>) * depth;
}

/// Tokens that are packed together.
inline constexpr Index pack_group_rows = 4;

/// Packs a H for the tokens from `first` on, up to pack_group_rows of them, and zeros for those that a
/// lacks. H has step 0.
template <class P, class A>
void pack_group(const Reflection<P>& h, MatrixView<const A> a, Index first, Index tokens,
                P* packed) {
  with_terms(h.terms(), [&](auto terms) {
    constexpr int count = decltype(terms)::value;
    if (a.rows == pack_group_rows)
      return pack_rows<count, pack_group_rows>(h, a, first, tokens, packed);
    for (Index r = 0; r < a.rows; ++r)
      pack_rows<count, 1>(h, a.middle_rows(r, 1), first + r, tokens, packed);
  });
  for (Index row = first + a.rows; row < first + pack_group_rows; ++row)
    for (Index k = 0; k < a.cols; k += depth_tile) {
      const Index depth = (std::min)(depth_tile, a.cols - k);
      P* const to = packed + k * tokens + row / panel_tokens<P> * panel_tokens<P> * depth;
      for (Index i = 0; i < depth; ++i) to[i * panel_tokens<P> + row % panel_tokens<P>] = P(0);
    }
}

/// Packs a H; the last panel is filled with zeros.
template <class P, class A>
void pack_tokens(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> a, P* packed) {
  const Index tokens = round_up(a.rows, panel_tokens<P>);
  ctx.parallel_for(tokens / pack_group_rows, tokens * a.cols, [&](Index task, int) {
    const Index first = task * pack_group_rows;
    const Index rows = std::clamp<Index>(a.rows - first, 0, pack_group_rows);
    pack_group(h, a.middle_rows(first, rows), first, tokens, packed);
  });
}

}  // namespace detail
ETHER_END_NAMESPACE
