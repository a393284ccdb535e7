#pragma once

/// Gradients of the output side without the activations it acted on.
///
/// With s = z W^T the tokens before the output transform and g = dL/dy after it, the gradient is
/// c_k sum_t (ŵ_k.s_t) g_t + (ŵ_k.g_t) s_t per block. Instead of recomputing s, a product as large
/// as the layer's own, W is moved out of the sum over tokens. With W_b the rows of block b:
///
///     sum_t (ŵ.s_t) g_t = sum_t (p.z_t) g_t,   p = W_b^T ŵ
///     sum_t (ŵ.g_t) s_t = W_b q,               q = sum_t (ŵ.g_t) z_t
///
/// which costs two passes over W and 2 (tokens, in, terms * blocks) products.

#include <ether/backend.hpp>

#include <algorithm>

namespace ether::detail {

/// Whether the regrouped sums cost less than recomputing s. A pass over W is memory-bound and
/// costs about as much as the product of 16 tokens.
inline bool output_grad_regroups(Index tokens, Index vectors, Index out) {
  return 2 * vectors * tokens + 32 * out < tokens * out;
}

/// grads (terms, out) += the gradients of h. z (tokens, in), grad_y (tokens, out),
/// weight (out, in).
template <class Backend, class G>
void output_grad(typename Backend::Context& ctx, const Reflection<typename Backend::Parameter>& h,
                 MatrixView<const typename Backend::Scalar> weight,
                 MatrixView<const typename Backend::Intermediate> z, MatrixView<const G> grad_y,
                 MatrixView<typename Backend::Parameter> grads) {
  using Wide = typename Backend::Parameter;
  using View = MatrixView<const Wide>;
  static_assert(std::is_same_v<Wide, typename Backend::Intermediate>);
  constexpr Index cached_rows = 256;
  const Index terms = h.terms(), vectors = terms * h.blocks, size = h.block_size;

  typename Backend::Context::Frame frame(ctx);
  const auto w_dot_g = frame.template matrix<Wide>(vectors, z.rows);  // ŵ.g_t, block by block
  const auto q = frame.template matrix<Wide>(vectors, z.cols);
  const auto p = frame.template matrix<Wide>(vectors, z.cols);
  const auto w_dot_s = frame.template matrix<Wide>(vectors, z.rows);  // ŵ.s_t = p.z_t
  const auto sums = frame.template matrix<Wide>(terms, h.width());

  const auto unit_of = [&](Index b) { return h.unit.block(0, b * size, terms, size); };
  const auto grad_y_of = [&](Index b) { return grad_y.block(0, b * size, z.rows, size); };
  const auto sums_of = [&](Index b) { return sums.block(0, b * size, terms, size); };
  const auto rows_of = [&](MatrixView<Wide> m, Index b) { return m.middle_rows(b * terms, terms); };

  for (Index b = 0; b < h.blocks; ++b)
    Backend::gemm(ctx, unit_of(b), grad_y_of(b), true, rows_of(w_dot_g, b), false);
  Backend::gemm(ctx, View(w_dot_g), z, false, q, false);
  for (Index b = 0; b < h.blocks; ++b)
    for (Index row = 0; row < size; row += cached_rows) {  // read twice, the second time from cache
      const Index rows = std::min(cached_rows, size - row);
      const auto part = weight.middle_rows(b * size + row, rows);
      Backend::gemm(ctx, unit_of(b).block(0, row, terms, rows), part, false, rows_of(p, b),
                    row != 0);
      Backend::gemm(ctx, View(rows_of(q, b)), part, true, sums_of(b).block(0, row, terms, rows),
                    false);
    }
  Backend::gemm(ctx, View(p), z, true, w_dot_s, false);
  for (Index b = 0; b < h.blocks; ++b)
    Backend::gemm(ctx, View(rows_of(w_dot_s, b)), grad_y_of(b), false, sums_of(b), true);
  Backend::project_grad(ctx, h, View(sums), grads);
}

}  // namespace ether::detail
