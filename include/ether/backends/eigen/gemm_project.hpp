#pragma once

/// The product of backward, with the two projections that the output side's gradients need computed
/// while each tile of W is at hand. See gemm_project in backend.hpp, and output_grad.hpp.

#include <ether/backends/eigen/gemm.hpp>

namespace ether::detail {

/// For Rows neighbouring rows of W, `cols` apart: adds their share to p, and dots them with q.
///     p_k += sum_r unit_k[r] row_r          p_k = p + k * p_stride, unit_k = unit + k * unit_stride
///     sums_k[r] = q_k . row_r               likewise
template <int Terms, int Rows, class P>
void project_and_dot(const P* rows, Index cols, const P* unit, Index unit_stride, P* p,
                     Index p_stride, const P* q, Index q_stride, P* sums, Index sums_stride) {
  constexpr Index L = lanes<P>;
  using V = Packet<P>;
  V factor[Terms][Rows], dots[Terms][Rows];
  for (int k = 0; k < Terms; ++k)
    for (int r = 0; r < Rows; ++r) {
      factor[k][r] = broadcast(unit[k * unit_stride + r]);
      dots[k][r] = broadcast(P(0));
    }
  Index c = 0;
  for (; c + L <= cols; c += L) {
    V value[Rows];
    for (int r = 0; r < Rows; ++r) value[r] = load<P>(rows + r * cols + c);
    for (int k = 0; k < Terms; ++k) {
      const V right = load<P>(q + k * q_stride + c);
      V total = load<P>(p + k * p_stride + c);
      for (int r = 0; r < Rows; ++r) {
        total = multiply_add(factor[k][r], value[r], total);
        dots[k][r] = multiply_add(right, value[r], dots[k][r]);
      }
      store<P>(p + k * p_stride + c, total);
    }
  }
  for (int k = 0; k < Terms; ++k)
    for (int r = 0; r < Rows; ++r) sums[k * sums_stride + r] = sum(dots[k][r]);
  for (; c < cols; ++c)
    for (int k = 0; k < Terms; ++k)
      for (int r = 0; r < Rows; ++r) {
        p[k * p_stride + c] += unit[k * unit_stride + r] * rows[r * cols + c];
        sums[k * sums_stride + r] += q[k * q_stride + c] * rows[r * cols + c];
      }
}

/// c = a W, and for each block b of h, on the rows of W, p_b = Û_b W_b and sums_b = q_b W_b^T, all
/// from one reading of W.
template <int Terms, class P, class B>
void gemm_project(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> w, MatrixView<P> c,
                  const Reflection<P>& h, MatrixView<const P> q, MatrixView<P> p,
                  MatrixView<P> sums) {
  const Index width = gemm_columns<P>(w.cols, Keep::block_size);
  const Index tasks = (w.cols + width - 1) / width;
  EigenContext::Frame frame(ctx);
  const MatrixView<P> partial = frame.matrix<P>(tasks * Terms, w.rows);  // sums of a run of columns
  for (Index i = 0; i < p.rows; ++i) std::fill_n(p.row(i), p.cols, P(0));

  const auto stage = [&](Index task, Index k, Index column, MatrixView<const B> tile, P* wide) {
    const auto rows_from = [&](auto rows, Index r) {  // never across the end of a block
      const Index row = k + r, b = row / h.block_size;
      project_and_dot<Terms, decltype(rows)::value>(
          wide + r * tile.cols, tile.cols, h.unit.row(0) + row, h.unit.stride,
          p.row(b * Terms) + column, p.stride, q.row(b * Terms) + column, q.stride,
          partial.row(task * Terms) + row, partial.stride);
    };
    for (Index r = 0; r < tile.rows; ++r) convert<P>(tile.row(r), tile.cols, wide + r * tile.cols);
    for (Index r = 0; r < tile.rows;) {
      const Index left = std::min(tile.rows - r, h.block_size - (k + r) % h.block_size);
      if (left >= 4)
        rows_from(std::integral_constant<int, 4>{}, r), r += 4;
      else
        rows_from(std::integral_constant<int, 1>{}, r), r += 1;
    }
    return MatrixView<const P>{wide, tile.rows, tile.cols};
  };
  gemm_blocked<Eigen::ColMajor>(ctx, identity<P>(a.cols), a, w, c, false, stage, Keep());

  for (Index k = 0; k < Terms; ++k) {
    std::copy_n(partial.row(k), w.rows, sums.row(k));
    for (Index task = 1; task < tasks; ++task)
      for (Index i = 0; i < w.rows; ++i) sums(k, i) += partial(task * Terms + k, i);
  }
}

}  // namespace ether::detail
