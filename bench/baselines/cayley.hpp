#pragma once

/// The Cayley transform of OFT's blocks, and its gradient:
///
///     S = (R - R^T) / 2        H = (I + S)(I - S)^-1        H orthogonal

#include "small_product.hpp"

namespace bench {

/// h (size, size) = (I + S)(I - S)^-1 = 2 (I - S)^-1 - I, S = (r - r^T) / 2. The symmetric part of
/// I - S is I, so every pivot is at least 1 and Gauss-Jordan needs no search for one.
template <class P>
void cayley(MatrixView<const P> r, MatrixView<P> h) {
  const Index size = r.rows;
  for (Index i = 0; i < size; ++i)
    for (Index k = 0; k < size; ++k) h(i, k) = (r(k, i) - r(i, k)) / 2 + P(i == k);
  for (Index p = 0; p < size; ++p) {
    P* const pivot = h.row(p);
    const P inverse = 1 / pivot[p];
    pivot[p] = 1;
    for (Index k = 0; k < size; ++k) pivot[k] *= inverse;
    for (Index i = 0; i < size; ++i) {
      if (i == p) continue;
      P* const row = h.row(i);
      const P factor = row[p];
      row[p] = 0;
      for (Index k = 0; k < size; ++k) row[k] -= factor * pivot[k];
    }
  }
  for (Index i = 0; i < size; ++i)
    for (Index k = 0; k < size; ++k) h(i, k) = 2 * h(i, k) - P(i == k);
}

/// grads += dL/dR of every block, from x (tokens, width), grad_z (tokens, width) and H^T:
///
///     D = x_i^T grad_z_i,   dL/dS = (H_i + I)^T D (H_i + I)^T / 2,   dL/dR = (dL/dS - dL/dS^T) / 2
///
/// A block's sum over tokens is one thread's.
template <class P, class A>
void cayley_grad(ether::EigenContext& ctx, MatrixView<const A> x, MatrixView<const P> grad_z,
                 MatrixView<const P> h_transposed, MatrixView<P> grads) {
  using ether::detail::convert;
  constexpr Index slice = 32;
  const Index size = grads.cols, blocks = grads.rows / size;
  ether::EigenContext::Frame frame(ctx);
  const Index scratch_rows = 3 * size + 2 * slice;
  const auto scratch = frame.matrix<P>(ctx.threads() * scratch_rows, size);
  ctx.parallel_for(blocks, x.rows * x.cols * size, [&](Index block, int thread) {
    const Index column = block * size;
    const auto own = scratch.middle_rows(thread * scratch_rows, scratch_rows);
    const auto d = own.middle_rows(0, size), half = own.middle_rows(size, size);
    const auto h_plus = own.middle_rows(2 * size, size);
    for (Index row = 0; row < x.rows; row += slice) {  // on copies, see multiply_blocks
      const Index rows = std::min(slice, x.rows - row);
      const auto t = own.middle_rows(3 * size, rows);
      const auto g = own.middle_rows(3 * size + slice, rows);
      for (Index i = 0; i < rows; ++i) {
        convert<P>(x.row(row + i) + column, size, t.row(i));
        convert<P>(grad_z.row(row + i) + column, size, g.row(i));
      }
      small_product(Strided<P>{t.data, 1, size}, MatrixView<const P>(g), d, row != 0);
    }
    for (Index i = 0; i < size; ++i)
      for (Index k = 0; k < size; ++k) h_plus(i, k) = h_transposed(column + i, k) + P(i == k);
    small_product(Strided<P>{h_plus.data, size, 1}, MatrixView<const P>(d), half, false);
    small_product(Strided<P>{half.data, size, 1}, MatrixView<const P>(h_plus), d, false);
    for (Index i = 0; i < size; ++i)
      for (Index k = 0; k < size; ++k) grads(column + i, k) += (d(i, k) - d(k, i)) / 4;
  });
}

}  // namespace bench
