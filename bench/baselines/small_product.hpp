#pragma once

/// Products with matrices of a few dozen rows and columns, for one thread: what is too small to pack.

#include <ether/ether.hpp>

namespace bench {

using ether::Index;
using ether::MatrixView;

/// A matrix whose element (i, k) is data[i * row + k * col]: a matrix or its transpose.
template <class P>
struct Strided {
  const P* data;
  Index row, col;
};

/// c (Rows, Packets * lanes) (+)= a (Rows, depth) b.
template <int Rows, int Packets, class P>
void product_tile(Strided<P> a, Index depth, const P* b, Index b_stride, P* c, Index c_stride,
                  bool accumulate) {
  using namespace ether::detail;
  constexpr Index L = lanes<P>;
  Packet<P> sums[Rows][Packets];
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Packets; ++j)
      sums[i][j] = accumulate ? load<P>(c + i * c_stride + j * L) : broadcast(P(0));
  for (Index k = 0; k < depth; ++k) {
    Packet<P> right[Packets];
    for (int j = 0; j < Packets; ++j) right[j] = load<P>(b + k * b_stride + j * L);
    for (int i = 0; i < Rows; ++i) {
      const Packet<P> left = broadcast(a.data[i * a.row + k * a.col]);
      for (int j = 0; j < Packets; ++j) sums[i][j] = multiply_add(left, right[j], sums[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Packets; ++j) store<P>(c + i * c_stride + j * L, sums[i][j]);
}

/// The same for all rows of c; eight sums at a time keep the multipliers busy.
template <int Packets, class P>
void product_strip(Strided<P> a, Index depth, const P* b, Index b_stride, MatrixView<P> c,
                   bool accumulate) {
  constexpr int group = 8 / Packets;
  Index i = 0;
  for (; i + group <= c.rows; i += group, a.data += group * a.row)
    product_tile<group, Packets>(a, depth, b, b_stride, c.row(i), c.stride, accumulate);
  for (; i < c.rows; ++i, a.data += a.row)
    product_tile<1, Packets>(a, depth, b, b_stride, c.row(i), c.stride, accumulate);
}

/// c (m, n) (+)= a (m, depth) b (depth, n).
template <class P>
void small_product(Strided<P> a, MatrixView<const P> b, MatrixView<P> c, bool accumulate) {
  constexpr Index L = ether::detail::lanes<P>;
  Index column = 0;
  for (Index cols; column + L <= c.cols; column += cols) {
    const Index left = (c.cols - column) / L;
    const int packets = c.rows < 4 && left >= 4 ? 4 : left >= 2 ? 2 : 1;
    cols = packets * L;
    const P* const right = b.data + column;
    const MatrixView<P> to = c.block(0, column, c.rows, cols);
    if (packets == 4) product_strip<4>(a, b.rows, right, b.stride, to, accumulate);
    if (packets == 2) product_strip<2>(a, b.rows, right, b.stride, to, accumulate);
    if (packets == 1) product_strip<1>(a, b.rows, right, b.stride, to, accumulate);
  }
  for (; column < c.cols; ++column)
    for (Index i = 0; i < c.rows; ++i) {
      P sum = accumulate ? c(i, column) : P(0);
      for (Index k = 0; k < b.rows; ++k) sum += a.data[i * a.row + k * a.col] * b(k, column);
      c(i, column) = sum;
    }
}

}  // namespace bench
