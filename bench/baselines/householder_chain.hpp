#pragma once

/// A chain of Householder reflections on a few rows while they are in the nearest cache: each pass
/// over them finishes one reflection and takes the dot products of the next.

#include <ether/ether.hpp>

namespace bench {

using ether::Index;
using ether::MatrixView;

/// Which of the unit vectors û_1 to û_r acts first on a row.
enum class Order { first_to_last, last_to_first };

inline Index position(Order order, Index step, Index rank) {
  return order == Order::first_to_last ? step : rank - 1 - step;
}

/// out_i = in_i + factor_i previous (if Update), dot_i = out_i . next (if Dot), for i < Rows.
template <int Rows, bool Update, bool Dot, class P, class A>
void chain_pass(const A* in, Index in_stride, const P* factor, const P* previous, const P* next,
                P* out, Index out_stride, Index width, P* dot) {
  using namespace ether::detail;
  constexpr Index L = lanes<P>;
  constexpr int ways = Rows == 1 ? 4 : 1;  // enough sums to keep the multipliers busy
  Packet<P> factors[Rows], sums[ways][Rows];
  for (int i = 0; i < Rows; ++i) factors[i] = broadcast(Update ? factor[i] : P(0));
  for (auto& way : sums)
    for (auto& value : way) value = broadcast(P(0));
  const auto step = [&](int way, Index at) {
    Packet<P> u{}, v{};
    if constexpr (Update) u = load<P>(previous + at);
    if constexpr (Dot) v = load<P>(next + at);
    for (int i = 0; i < Rows; ++i) {
      Packet<P> value = load<P>(in + i * in_stride + at);
      if constexpr (Update) value = multiply_add(factors[i], u, value);
      if constexpr (Dot) sums[way][i] = multiply_add(value, v, sums[way][i]);
      store<P>(out + i * out_stride + at, value);
    }
  };
  Index at = 0;
  for (; at + ways * L <= width; at += ways * L)
    for (int way = 0; way < ways; ++way) step(way, at + way * L);
  for (; at + L <= width; at += L) step(0, at);
  for (int i = 0; i < Rows; ++i) {
    Packet<P> total = sums[0][i];
    for (int way = 1; way < ways; ++way) total = add(total, sums[way][i]);
    P rest = sum(total);
    for (Index k = at; k < width; ++k) {
      P value = static_cast<P>(in[i * in_stride + k]);
      if constexpr (Update) value += factor[i] * previous[k];
      if constexpr (Dot) rest += value * next[k];
      out[i * out_stride + k] = value;
    }
    if constexpr (Dot) dot[i] = rest;
  }
}

/// out_i = in_i times the whole chain, for i < Rows; out must not be in. unit (rank, width).
template <int Rows, class P, class A>
void chain_rows(const A* in, Index in_stride, MatrixView<const P> unit, Order order, P* out,
                Index out_stride) {
  const auto vector = [&](Index step) { return unit.row(position(order, step, unit.rows)); };
  P dot[Rows], factor[Rows];
  const P* const none = nullptr;
  chain_pass<Rows, false, true>(in, in_stride, none, none, vector(0), out, out_stride, unit.cols,
                                dot);
  for (Index k = 0; k < unit.rows; ++k) {
    for (int i = 0; i < Rows; ++i) factor[i] = -2 * dot[i];
    const P* const from = out;
    if (k + 1 < unit.rows)
      chain_pass<Rows, true, true>(from, out_stride, factor, vector(k), vector(k + 1), out,
                                   out_stride, unit.cols, dot);
    else
      chain_pass<Rows, true, false>(from, out_stride, factor, vector(k), none, out, out_stride,
                                    unit.cols, dot);
  }
}

/// One reflection undone on z_i, which came out of it, and on g_i, the gradient behind it:
///
///     z_i += a_i previous,   g_i += b_i previous,   sums += b_i z_i - a_i g_i       (if Update)
///     dot_z_i = z_i . next,   dot_g_i = g_i . next                                  (if Dot)
template <int Rows, bool Update, bool Dot, class P>
void chain_grad_pass(P* z, P* g, Index stride, const P* a, const P* b, const P* previous, P* sums,
                     const P* next, Index width, P* dot_z, P* dot_g) {
  using namespace ether::detail;
  constexpr Index L = lanes<P>;
  using V = Packet<P>;
  V as[Rows], bs[Rows], minus_a[Rows], z_sum[Rows], g_sum[Rows];
  for (int i = 0; i < Rows; ++i) {
    as[i] = broadcast(Update ? a[i] : P(0)), bs[i] = broadcast(Update ? b[i] : P(0));
    minus_a[i] = broadcast(Update ? -a[i] : P(0));
    z_sum[i] = g_sum[i] = broadcast(P(0));
  }
  Index at = 0;
  for (; at + L <= width; at += L) {
    V u{}, v{}, total{};
    if constexpr (Update) u = load<P>(previous + at), total = load<P>(sums + at);
    if constexpr (Dot) v = load<P>(next + at);
    for (int i = 0; i < Rows; ++i) {
      V zi = load<P>(z + i * stride + at), gi = load<P>(g + i * stride + at);
      if constexpr (Update) {
        zi = multiply_add(as[i], u, zi), gi = multiply_add(bs[i], u, gi);
        total = multiply_add(minus_a[i], gi, multiply_add(bs[i], zi, total));
        store<P>(z + i * stride + at, zi), store<P>(g + i * stride + at, gi);
      }
      if constexpr (Dot)
        z_sum[i] = multiply_add(zi, v, z_sum[i]), g_sum[i] = multiply_add(gi, v, g_sum[i]);
    }
    if constexpr (Update) store<P>(sums + at, total);
  }
  for (int i = 0; i < Rows; ++i) {
    P z_dot = sum(z_sum[i]), g_dot = sum(g_sum[i]);
    for (Index k = at; k < width; ++k) {
      P& zk = z[i * stride + k];
      P& gk = g[i * stride + k];
      if constexpr (Update) {
        zk += a[i] * previous[k], gk += b[i] * previous[k];
        sums[k] += b[i] * zk - a[i] * gk;
      }
      if constexpr (Dot) z_dot += zk * next[k], g_dot += gk * next[k];
    }
    if constexpr (Dot) dot_z[i] = z_dot, dot_g[i] = g_dot;
  }
}

/// From z_i = x_i times the chain and g_i = dL/dz_i: z_i = x_i, g_i = dL/dx_i, and sums (rank, width)
/// += dL/dû, up to multiples of û. Each reflection is its own inverse, so that nothing is stored.
template <int Rows, class P>
void chain_grad_rows(P* z, P* g, Index stride, MatrixView<const P> unit, Order order,
                     MatrixView<P> sums) {
  const Index rank = unit.rows, width = unit.cols;
  const auto at = [&](Index step) { return position(order, rank - 1 - step, rank); };
  P dot_z[Rows], dot_g[Rows], a[Rows], b[Rows];
  P* const no_sums = nullptr;
  const P* const none = nullptr;
  chain_grad_pass<Rows, false, true>(z, g, stride, a, b, none, no_sums, unit.row(at(0)), width,
                                     dot_z, dot_g);
  for (Index k = 0; k < rank; ++k) {
    for (int i = 0; i < Rows; ++i) a[i] = -2 * dot_z[i], b[i] = -2 * dot_g[i];
    const P* const u = unit.row(at(k));
    if (k + 1 < rank)
      chain_grad_pass<Rows, true, true>(z, g, stride, a, b, u, sums.row(at(k)), unit.row(at(k + 1)),
                                        width, dot_z, dot_g);
    else
      chain_grad_pass<Rows, true, false>(z, g, stride, a, b, u, sums.row(at(k)), none, width, dot_z,
                                         dot_g);
  }
}

}  // namespace bench
