#pragma once

/// Gradients of the output side without the activations it acted on.
///
/// With s = z W^T the tokens before the output transform, z = x H_in, and g = dL/dy after it, the
/// gradient is c_k sum_t (ŵ_k.s_t) g_t + (ŵ_k.g_t) s_t per block. Instead of recomputing s, a product
/// as large as the layer's own, W is moved out of the sum over tokens. With W_b the rows of block b:
///
///     sum_t (ŵ.s_t) g_t = sum_t (p.z_t) g_t,   p = W_b^T ŵ
///     sum_t (ŵ.g_t) s_t = W_b q,               q = sum_t (ŵ.g_t) z_t
///
/// which costs one more use of W, whatever the number of tokens, and two products
/// (terms * blocks, tokens, in). p and W q are computed while each tile of W is at hand for
/// grad_z = grad_s W, so that W is read from memory once for all three.

#include <ether/backends/eigen/gemm.hpp>
#include <ether/backends/eigen/reflect_grad.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// For Rows neighbouring rows of W: adds their share to p, and dots them with q.
///     p_k += sum_r unit_k[r] row_r          p_k = p + k * p_stride, unit_k = unit + k * unit_stride
///     sums_k[r] = q_k . row_r               likewise
template <int Terms, int Rows, class P, class B>
void project_and_dot(MatrixView<const B> rows, const P* unit, Index unit_stride, P* p,
                     Index p_stride, const P* q, Index q_stride, P* sums, Index sums_stride) {
  constexpr Index L = lanes<P>;
  using V = Packet<P>;
  const Index cols = rows.cols;
  V factor[Terms][Rows], dots[Terms][Rows];
  for (int k = 0; k < Terms; ++k)
    for (int r = 0; r < Rows; ++r) {
      factor[k][r] = broadcast(unit[k * unit_stride + r]);
      dots[k][r] = broadcast(P(0));
    }
  Index c = 0;
  for (; c + L <= cols; c += L) {
    V value[Rows];
    for (int r = 0; r < Rows; ++r) value[r] = load<P>(rows.row(r) + c);
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
        p[k * p_stride + c] += unit[k * unit_stride + r] * static_cast<P>(rows(r, c));
        sums[k * sums_stride + r] += q[k * q_stride + c] * static_cast<P>(rows(r, c));
      }
}

/// c = a W, and for each block b of h, on the rows of W, p_b = Û_b W_b and sums_b = q_b W_b^T, all
/// from one reading of W. a (m, k), w (k, n), c (m, n); p, q (blocks * terms, n) block by block;
/// sums (terms, k). Where c is empty, p and sums alone.
template <int Terms, class P, class B>
void gemm_project(EigenContext& ctx, MatrixView<const P> a, MatrixView<const B> w, MatrixView<P> c,
                  const Reflection<P>& h, MatrixView<const P> q, MatrixView<P> p,
                  MatrixView<P> sums) {
  const Index width = gemm_columns<P>(w.cols, Keep::block_size);
  const Index tasks = (w.cols + width - 1) / width;
  EigenContext::Frame frame(ctx);
  const MatrixView<P> partial = frame.matrix<P>(tasks * Terms, w.rows);  // sums of a run of columns
  for (Index i = 0; i < p.rows; ++i) std::fill_n(p.row(i), p.cols, P(0));

  const auto visit = [&](Index task, Index k, Index column, MatrixView<const B> tile) {
    const auto rows_from = [&](auto rows, Index r) {  // never across the end of a block
      const Index row = k + r, b = row / h.block_size;
      project_and_dot<Terms, decltype(rows)::value>(
          tile.middle_rows(r, decltype(rows)::value), h.unit.row(0) + row, h.unit.stride,
          p.row(b * Terms) + column, p.stride, q.row(b * Terms) + column, q.stride,
          partial.row(task * Terms) + row, partial.stride);
    };
    for (Index r = 0; r < tile.rows;) {
      const Index left = (std::min)(tile.rows - r, h.block_size - (k + r) % h.block_size);
      if (left >= 4) {
        rows_from(std::integral_constant<int, 4>{}, r);
        r += 4;
      } else {
        rows_from(std::integral_constant<int, 1>{}, r);
        r += 1;
      }
    }
  };
  if (c.empty())
    ctx.parallel_for(tasks, 2 * Terms * w.rows * w.cols, [&](Index task, int) {
      const Index column = task * width, columns = (std::min)(width, w.cols - column);
      for (Index k = 0; k < w.rows; k += depth_tile)
        visit(task, k, column, w.block(k, column, (std::min)(depth_tile, w.rows - k), columns));
    });
  else
    gemm_blocked<false>(ctx, identity<P>(a.cols), a, w, c, false, visit, Keep());

  for (Index k = 0; k < Terms; ++k) {
    std::copy_n(partial.row(k), w.rows, sums.row(k));
    for (Index task = 1; task < tasks; ++task)
      for (Index i = 0; i < w.rows; ++i) sums(k, i) += partial(task * Terms + k, i);
  }
}

/// Whether that costs less than recomputing s. The use of W, for few vectors at a time, costs about
/// as much as the product of 32 tokens.
inline bool output_grad_regroups(Index tokens, Index vectors, Index out) {
  return 2 * vectors * tokens + 32 * out < tokens * out;
}

/// See backend.hpp.
template <class P, class S>
bool output_grad(EigenContext& ctx, const Reflection<P>& h_in, MatrixView<const S> x,
                 MatrixView<const S> w, const Reflection<P>& h_out, MatrixView<const S> grad_y,
                 MatrixView<P> grad_z, MatrixView<P> grads) {
  const Index terms = h_out.terms(), vectors = terms * h_out.blocks, size = h_out.block_size;
  const Index tokens = x.rows;
  if (!output_grad_regroups(tokens, vectors, h_out.width())) return false;

  EigenContext::Frame frame(ctx);
  const auto wide = [&](const Reflection<P>& h, MatrixView<const S> from) -> MatrixView<const P> {
    if constexpr (std::is_same_v<S, P>)
      if (h.terms() == 0) return from;
    const auto to = frame.matrix<P>(from.rows, from.cols);
    reflect_rows(ctx, h, from, to, MatrixView<const P>{});
    return to;
  };
  const MatrixView<const P> z = wide(h_in, x);
  const auto w_dot = frame.matrix<P>(vectors, tokens);  // ŵ.g_t, later ŵ.s_t
  const auto q = frame.matrix<P>(vectors, z.cols), p = frame.matrix<P>(vectors, z.cols);
  const auto sums = frame.matrix<P>(terms, h_out.width());
  const auto unit_of = [&](Index b) { return h_out.unit.block(0, b * size, terms, size); };
  const auto grad_y_of = [&](Index b) { return grad_y.block(0, b * size, tokens, size); };
  const auto sums_of = [&](Index b) { return sums.block(0, b * size, terms, size); };
  const auto rows_of = [&](MatrixView<P> m, Index b) { return m.middle_rows(b * terms, terms); };

  for (Index b = 0; b < h_out.blocks; ++b)
    gemm(ctx, unit_of(b), grad_y_of(b), true, rows_of(w_dot, b), false);
  gemm(ctx, MatrixView<const P>(w_dot), z, false, q, false);
  const MatrixView<const P> grad_s = grad_z.empty() ? MatrixView<const P>{} : wide(h_out, grad_y);
  with_terms(terms, [&](auto count) {
    constexpr int k = decltype(count)::value;
    if constexpr (k != 0)
      gemm_project<k>(ctx, grad_s, w, grad_z, h_out, MatrixView<const P>(q), p, sums);
  });
  gemm(ctx, MatrixView<const P>(p), z, true, w_dot, false);
  for (Index b = 0; b < h_out.blocks; ++b)
    gemm(ctx, MatrixView<const P>(rows_of(w_dot, b)), grad_y_of(b), false, sums_of(b), true);
  project_grad(ctx, h_out, MatrixView<const P>(sums), grads);
  return true;
}

}  // namespace detail
ETHER_END_NAMESPACE
