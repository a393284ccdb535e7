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
/// which costs one more use of W, whatever the number of tokens, and two products
/// (terms * blocks, tokens, in).

#include <ether/backend.hpp>

namespace ether::detail {

/// Whether that costs less than recomputing s. The use of W, for few vectors at a time, costs about
/// as much as the product of 32 tokens.
inline bool output_grad_regroups(Index tokens, Index vectors, Index out) {
  return 2 * vectors * tokens + 32 * out < tokens * out;
}

/// grads (terms, out) += the gradients of h, and grad_z (tokens, in) = grad_s W where grad_z is not
/// empty: both need all of W, which a backend may read once for both.
/// z (tokens, in), grad_s and grad_y (tokens, out), weight (out, in).
template <class Backend>
void output_grad(typename Backend::Context& ctx, const Reflection<typename Backend::Parameter>& h,
                 MatrixView<const typename Backend::Scalar> weight,
                 MatrixView<const typename Backend::Intermediate> z,
                 MatrixView<const typename Backend::Scalar> grad_y,
                 MatrixView<const typename Backend::Intermediate> grad_s,
                 MatrixView<typename Backend::Intermediate> grad_z,
                 MatrixView<typename Backend::Parameter> grads) {
  using Wide = typename Backend::Parameter;
  using View = MatrixView<const Wide>;
  static_assert(std::is_same_v<Wide, typename Backend::Intermediate>);
  const Index terms = h.terms(), vectors = terms * h.blocks, size = h.block_size;

  typename Backend::Context::Frame frame(ctx);
  const auto w_dot = frame.template matrix<Wide>(vectors, z.rows);  // ŵ.g_t, later ŵ.s_t
  const auto q = frame.template matrix<Wide>(vectors, z.cols);
  const auto p = frame.template matrix<Wide>(vectors, z.cols);
  const auto sums = frame.template matrix<Wide>(terms, h.width());
  const auto unit_of = [&](Index b) { return h.unit.block(0, b * size, terms, size); };
  const auto grad_y_of = [&](Index b) { return grad_y.block(0, b * size, z.rows, size); };
  const auto sums_of = [&](Index b) { return sums.block(0, b * size, terms, size); };
  const auto rows_of = [&](MatrixView<Wide> m, Index b) { return m.middle_rows(b * terms, terms); };

  for (Index b = 0; b < h.blocks; ++b)
    Backend::gemm(ctx, unit_of(b), grad_y_of(b), true, rows_of(w_dot, b), false);
  Backend::gemm(ctx, View(w_dot), z, false, q, false);

  bool one_reading = false;
  if constexpr (has<gemm_project_t, Backend>)
    if (!grad_z.empty()) {
      Backend::gemm_project(ctx, grad_s, weight, grad_z, h, View(q), p, sums);
      one_reading = true;
    }
  if (!one_reading) {
    if (!grad_z.empty()) Backend::gemm(ctx, grad_s, weight, false, grad_z, false);
    for (Index b = 0; b < h.blocks; ++b) {
      const auto rows = weight.middle_rows(b * size, size);
      Backend::gemm(ctx, unit_of(b), rows, false, rows_of(p, b), false);
      Backend::gemm(ctx, View(rows_of(q, b)), rows, true, sums_of(b), false);
    }
  }

  Backend::gemm(ctx, View(p), z, true, w_dot, false);
  for (Index b = 0; b < h.blocks; ++b)
    Backend::gemm(ctx, View(rows_of(w_dot, b)), grad_y_of(b), false, sums_of(b), true);
  Backend::project_grad(ctx, h, View(sums), grads);
}

}  // namespace ether::detail
