#pragma once

/// The product with a transform before and after it, each on data that is in the cache anyway: H_in
/// as the tokens are packed, H_out on finished tiles. See multiply_reflected in backend.hpp.

#include <ether/backends/eigen/gemm.hpp>
#include <ether/backends/eigen/reflect_each.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// y = s H + add, tile by tile, for blocks that are not longer; as gemm_blocked's `finish`.
template <class P, class T, class C>
struct ReflectTiles {
  Reflection<P> h;  // diagonal
  MatrixView<const P> s;
  MatrixView<T> y;  // s itself where it can hold a P
  MatrixView<const C> add;
  Index block_size = h.terms() == 0 ? 1 : h.block_size;

  /// Whether s is y already.
  bool done() const { return std::is_same_v<T, P> && h.terms() == 0 && add.rows == 0; }

  void operator()(Index token, Index tokens, Index column, Index columns, int /*thread*/) const {
    if (done()) return;
    const auto some = h.terms() == 0 ? identity<P>(columns)
                                     : h.middle_blocks(column / block_size, columns / block_size);
    reflect_tile(some, s.block(token, column, tokens, columns),
                 y.block(token, column, tokens, columns),
                 add.rows == 0 ? add : add.block(token, column, tokens, columns));
  }
};

/// s = (x H_in) w^T; `finish` is called on finished tiles, which there are for many tokens only: false where
/// it was not.
template <class H, class P, class S, class W, class Finish>
bool multiply_rows_reflected(EigenContext& ctx, const H& h_in, MatrixView<const S> x,
                             MatrixView<const W> w, MatrixView<P> s, const Finish& finish) {
  if (x.rows > few_rows<W, true>) {
    const bool finishes = gemm_columns<P>(s.cols, finish.block_size) != 0;
    if (finishes)
      gemm_blocked<true>(ctx, h_in, x, w, s, false, NoVisit(), finish);
    else
      gemm_blocked<true>(ctx, h_in, x, w, s, false, NoVisit(), Keep());
    return finishes;
  }
  EigenContext::Frame frame(ctx);
  MatrixView<const P> z;
  if constexpr (std::is_same_v<S, P>) z = x;
  // A copy costs less than tokens that come from memory piece by piece.
  if (!std::is_same_v<S, P> || h_in.terms() != 0 || x.rows > whole_rows) {
    const auto to = frame.matrix<P>(x.rows, x.cols);
    reflect_rows(ctx, h_in, x, to, MatrixView<const P>{});
    z = to;
  }
  gemm_few_transposed(ctx, z, w, s, false);
  return false;
}

/// y = (x H_in) w^T H_out + bias, see backend.hpp; w of any type that the backend has. H_in, H_out:
/// Reflection or RowReflections.
template <class HIn, class S, class W, class HOut, class T>
void multiply_reflected(EigenContext& ctx, const HIn& h_in, MatrixView<const S> x,
                        MatrixView<const W> w, const HOut& h_out, MatrixView<const S> bias,
                        MatrixView<T> y) {
  using P = traits::parameter_of<HOut>;
  if (y.empty()) return;
  EigenContext::Frame frame(ctx);
  MatrixView<P> s;
  if constexpr (std::is_same_v<T, P>)
    s = y;
  else
    s = frame.matrix<P>(y.rows, y.cols);
  const MatrixView<const S> add{bias.data, bias.rows == 0 ? 0 : y.rows, y.cols, 0};
  if constexpr (std::is_same_v<HOut, Reflection<P>>) {
    const ReflectTiles<P, T, S> finish{h_out, s, y, add};
    if (multiply_rows_reflected(ctx, h_in, x, w, s, finish) || finish.done()) return;
  } else {
    // The blocks of the slots differ: no tiles suit them all.
    if (h_out.terms() == 0)
      return multiply_reflected(ctx, h_in, x, w, identity<P>(y.cols), bias, y);
    multiply_rows_reflected(ctx, h_in, x, w, s, Keep());
  }
  reflect_rows(ctx, h_out, MatrixView<const P>(s), y, add);
}

}  // namespace detail
ETHER_END_NAMESPACE
