#pragma once

/// Sums of rows, the inner loop of the column operation and of products with few rows.

#include <ether/simd/stream.hpp>
#include <ether/transform.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// sums_m[c] (+)= sum_j factor(m, j) rows_j[c] for m < Sums, j < Rows, c < cols;
/// factor(m, j) = factors[m * Rows + j], sums_m = sums + m * sums_stride.
template <int Sums, int Rows, class P, class T>
void combine_rows(const T* const* rows, const P* factors, Index cols, P* sums, Index sums_stride,
                  bool accumulate = true) {
  constexpr Index L = lanes<P>;
  Packet<P> factor[Sums * Rows];
  for (int i = 0; i < Sums * Rows; ++i) factor[i] = broadcast(factors[i]);
  Index c = 0;
  for (; c + L <= cols; c += L) {
    Packet<P> value[Rows];
    for (int j = 0; j < Rows; ++j) value[j] = load<P>(rows[j] + c);
    for (int m = 0; m < Sums; ++m) {
      P* const to = sums + m * sums_stride + c;
      Packet<P> total = accumulate ? load<P>(to) : broadcast(P(0));
      for (int j = 0; j < Rows; ++j) total = multiply_add(factor[m * Rows + j], value[j], total);
      store<P>(to, total);
    }
  }
  for (; c < cols; ++c)
    for (int m = 0; m < Sums; ++m) {
      P total = accumulate ? sums[m * sums_stride + c] : P(0);
      for (int j = 0; j < Rows; ++j) total += factors[m * Rows + j] * static_cast<P>(rows[j][c]);
      sums[m * sums_stride + c] = total;
    }
}

/// sums (Terms, cols) (+)= unit (Terms, height) rows (height, cols).
template <int Terms, class P, class A>
void project_rows(MatrixView<const A> rows, MatrixView<const P> unit, MatrixView<P> sums,
                  bool accumulate) {
  P factors[Terms * 4];
  Index r = 0;
  for (; r + 4 <= rows.rows; r += 4) {
    const A* const four[4] = {rows.row(r), rows.row(r + 1), rows.row(r + 2), rows.row(r + 3)};
    for (Index k = 0; k < Terms; ++k) std::copy_n(unit.row(k) + r, 4, factors + k * 4);
    combine_rows<Terms, 4>(four, factors, sums.cols, sums.data, sums.stride, accumulate || r != 0);
  }
  for (; r < rows.rows; ++r) {
    const A* const row = rows.row(r);
    for (Index k = 0; k < Terms; ++k) factors[k] = unit(k, r);
    combine_rows<Terms, 1>(&row, factors, sums.cols, sums.data, sums.stride, accumulate || r != 0);
  }
}

}  // namespace detail
ETHER_END_NAMESPACE
