#pragma once

/// Gradients of u and v on the CPU.

#include <ether/backends/eigen/reflect.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

/// grads += (g - (ŵ.g) ŵ) / |w|, g = c * sums: one vector of one block, through its normalisation.
template <class P>
void project_block(const P* sums, const P* unit, P coefficient, P inverse_length, Index size,
                   P* grads) {
  P dot = 0;
  for (Index i = 0; i < size; ++i) dot += unit[i] * sums[i];
  const P factor = coefficient * inverse_length;
  for (Index i = 0; i < size; ++i) grads[i] += factor * (sums[i] - dot * unit[i]);
}

template <class P>
void project_grad(EigenContext& ctx, const Reflection<P>& h, MatrixView<const P> sums,
                  MatrixView<P> grads) {
  ctx.parallel_for(h.terms() * h.blocks, h.terms() * h.width(), [&](Index task, int) {
    const Index k = task / h.blocks, b = task % h.blocks, column = b * h.block_size;
    project_block(sums.row(k) + column, h.unit.row(k) + column, h.coefficient(k, b),
                  h.inverse_length(k, b), h.block_size, grads.row(k) + column);
  });
}

/// sums_k += (ŵ_k.t) r + (ŵ_k.r) t for one block of one token.
template <int Terms, class P, class A, class B>
void grad_block(const A* t, const B* r, Index size, const P* unit, Index unit_stride, P* sums,
                Index sums_stride) {
  constexpr Index L = lanes<P>;
  using V = Packet<P>;
  V t_sum[Terms], r_sum[Terms];
  for (int k = 0; k < Terms; ++k) t_sum[k] = r_sum[k] = broadcast(P(0));
  const auto dot = [&](Index i, const auto& load_at) ETHER_INLINE_LAMBDA {
    const V a = load_at(t + i), b = load_at(r + i);
    for (int k = 0; k < Terms; ++k) {
      const V w = load_at(unit + k * unit_stride + i);
      t_sum[k] = multiply_add(a, w, t_sum[k]);
      r_sum[k] = multiply_add(b, w, r_sum[k]);
    }
  };
  const auto whole = [](const auto* from) { return load<P>(from); };
  const Index end = size / L * L, rest = size - end;
  const auto tail = [=](const auto* from) { return load_tail<P>(from, rest); };
  for (Index i = 0; i < end; i += L) dot(i, whole);
  if (rest != 0) dot(end, tail);

  V w_dot_t[Terms], w_dot_r[Terms];
  for (int k = 0; k < Terms; ++k) {
    w_dot_t[k] = broadcast(sum(t_sum[k]));
    w_dot_r[k] = broadcast(sum(r_sum[k]));
  }
  const auto accumulate = [&](Index i, const auto& load_at,
                              const auto& store_at) ETHER_INLINE_LAMBDA {
    const V a = load_at(t + i), b = load_at(r + i);
    for (int k = 0; k < Terms; ++k) {
      P* const to = sums + k * sums_stride + i;
      store_at(to, multiply_add(w_dot_t[k], b, multiply_add(w_dot_r[k], a, load_at(to))));
    }
  };
  for (Index i = 0; i < end; i += L)
    accumulate(i, whole, [](P* to, const V& value) { store<P>(to, value); });
  if (rest != 0)
    accumulate(end, tail, [=](P* to, const V& value) { store_tail<P>(to, value, rest); });
}

/// grads += the gradients of h, see backend.hpp. Tokens are cut into tiles by the shape alone; each
/// tile has its own sums, added up in order.
template <int Terms, class P, class A, class B>
void reflect_grad(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> t,
                  MatrixView<const B> r, MatrixView<P> grads) {
  const Index size = h.block_size, width = h.width();
  const Index wanted_tiles = std::max<Index>(1, 64 / h.blocks);
  const Index tile_tokens = std::max<Index>(16, (t.rows + wanted_tiles - 1) / wanted_tiles);
  const Index tiles = (t.rows + tile_tokens - 1) / tile_tokens;

  EigenContext::Frame frame(ctx);
  P* const sums = frame.array<P>(tiles * Terms * width);
  ctx.parallel_for(tiles * h.blocks, t.rows * width * Terms, [&](Index task, int) {
    const Index tile = task / h.blocks, chunk = task % h.blocks, column = chunk * size;
    P* const to = sums + tile * Terms * width + column;
    for (int k = 0; k < Terms; ++k) std::fill_n(to + k * width, size, P(0));
    const P* const unit = h.unit.data + h.block(0, chunk) * size;
    for (Index row = tile * tile_tokens; row < (std::min)(t.rows, (tile + 1) * tile_tokens); ++row)
      grad_block<Terms>(t.row(row) + column, r.row(row) + column, size, unit, h.unit.stride, to,
                        width);
  });

  // Chunks of the same block (layout row_chunk) are neighbours: one task adds them all.
  ctx.parallel_for(h.blocks, tiles * width * Terms, [&](Index b, int) {
    const Index begin = std::max<Index>(0, b * h.period - h.first);
    const Index end = (std::min)(h.blocks, (b + 1) * h.period - h.first);
    for (Index chunk = begin; chunk < end; ++chunk)
      for (int k = 0; k < Terms; ++k) {
        P* const total = sums + k * width + chunk * size;
        for (Index tile = 1; tile < tiles; ++tile)
          for (Index i = 0; i < size; ++i) total[i] += total[tile * Terms * width + i];
        const Index column = b * size;
        project_block(total, h.unit.row(k) + column, h.coefficient(k, b), h.inverse_length(k, b),
                      size, grads.row(k) + column);
      }
  });
}

template <class P, class A, class B>
void reflect_grad(EigenContext& ctx, const Reflection<P>& h, MatrixView<const A> t,
                  MatrixView<const B> r, MatrixView<P> grads) {
  if (t.rows == 0) return;
  if (h.terms() == 1)
    reflect_grad<1>(ctx, h, t, r, grads);
  else
    reflect_grad<2>(ctx, h, t, r, grads);
}

}  // namespace detail
ETHER_END_NAMESPACE
