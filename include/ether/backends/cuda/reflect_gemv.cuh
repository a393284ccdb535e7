#pragma once

/// A product with few tokens, with H in its prologue: the weight is read once, at the speed of
/// memory, and every thread block reflects the tokens for itself while its first rows are on their
/// way.

#include <ether/backends/cuda/row_dots.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// How the tokens are held in shared memory: unrounded where there is room.
template <class T, int tokens>
using TokenInShared = std::conditional_t<tokens <= 2, Wide<T>, T>;

template <int vector, class T>
ETHER_DEVICE Packed<T, vector> stream(const T* from) {
  Packed<T, vector> to;
  static_assert(sizeof(to) == sizeof(Bytes16));
  const Bytes16 bytes = stream_load(from);
  __builtin_memcpy(static_cast<void*>(&to), &bytes, sizeof to);
  return to;
}

/// z (tokens, in) = x H in shared memory; `partial` (tokens * segments, terms) as well.
template <int tokens, int terms, int vector, class T, class Z>
ETHER_DEVICE void reflect_tokens(const Reflection<Wide<T>>& h, MatrixView<const T> x, Z* z,
                                 Wide<T>* partial) {
  using W = Wide<T>;
  const Segments segments(h.blocks, h.block_size, vector);
  const int count = segments.count(), in = static_cast<int>(x.cols);
  const int first = static_cast<int>(threadIdx.x) / warp;
  W value[vector];
  for (int s = first; s < count * tokens; s += row_warps) {
    const int token = s / count, i = segments.element(s % count, vector);
    W dot[terms] = {};
    if (token < x.rows && i >= 0) {
      load(x.data + token * x.stride + i, value);
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) multiply_sum(dot[k], value, unit_at<vector>(h, k, i));
    }
    group_sum<warp>(dot, static_cast<W*>(nullptr));
    if (threadIdx.x % warp == 0) {
      ETHER_UNROLL
      for (int k = 0; k < terms; ++k) partial[s * terms + k] = dot[k];
    }
  }
  barrier();
  for (int s = first; s < count * tokens; s += row_warps) {
    const int token = s / count, i = segments.element(s % count, vector);
    if (token >= x.rows || i < 0) continue;
    W dot[terms];
    dots_of_block(h, segments, s % count, partial + token * count * terms, terms, dot);
    load(x.data + token * x.stride + i, value);
    ETHER_UNROLL
    for (int k = 0; k < terms; ++k) multiply_add(value, dot[k], unit_at<vector>(h, k, i));
    store_shared(z + token * in + i, value);
  }
  barrier();
}

/// y (up to `tokens`, out) = (x H) w^T + bias; a warp takes `rows` rows of w at a time.
template <class T, int tokens, int terms, int rows>
__global__ void __launch_bounds__(row_threads, 1)
    reflect_gemv_kernel(Reflection<Wide<T>> h, MatrixView<const T> x, MatrixView<const T> w,
                        const T* bias, MatrixView<T> y) {
  using W = Wide<T>;
  using Z = TokenInShared<T, tokens>;
  constexpr int vector = full_vector<T>, step = warp * vector;
  ETHER_DYNAMIC_SHARED(Z, z);
  const int in = static_cast<int>(w.cols), lane = static_cast<int>(threadIdx.x) % warp;
  W* const partial = reinterpret_cast<W*>(z + tokens * in);
  const Index first = (Index{blockIdx.x} * row_warps + threadIdx.x / warp) * rows;

  Packed<T, vector> next[rows];
  const auto request = [&](int i) {
    ETHER_UNROLL
    for (int r = 0; r < rows; ++r)
      if (first + r < w.rows && i < in)
        next[r] = stream<vector>(w.data + (first + r) * w.stride + i);
  };
  request(lane * vector);
  constexpr int line = 128 / static_cast<int>(sizeof(T));  // elements of a cache line
  if (const int i = lane * line; i < in) {
    ETHER_UNROLL
    for (int r = 0; r < rows; ++r)
      if (first + r < w.rows) prefetch(w.data + (first + r) * w.stride + i);
  }
  wait_for_previous_kernel();
  reflect_tokens<tokens, terms, vector>(h, x, z, partial);

  W sum[rows][tokens] = {};
  for (int i = lane * vector; i < in; i += step) {
    Packed<T, vector> now[rows];
    ETHER_UNROLL
    for (int r = 0; r < rows; ++r) now[r] = next[r];
    request(i + step);
    ETHER_UNROLL
    for (int t = 0; t < tokens; ++t) {
      if (t >= x.rows) break;
      W value[vector];
      load(z + t * in + i, value);
      ETHER_UNROLL
      for (int r = 0; r < rows; ++r)
        if (first + r < w.rows) {
          ETHER_UNROLL
          for (int e = 0; e < vector; ++e)
            sum[r][t] += static_cast<W>(now[r].element[e]) * value[e];
        }
    }
  }
  let_next_kernel_start();
  ETHER_UNROLL
  for (int r = 0; r < rows; ++r) {
    group_sum<warp>(sum[r], static_cast<W*>(nullptr));
    if (lane != 0 || first + r >= w.rows) continue;
    const W b = bias == nullptr ? W(0) : static_cast<W>(bias[first + r]);
    ETHER_UNROLL
    for (int t = 0; t < tokens; ++t)
      if (t < x.rows) y.data[t * y.stride + first + r] = static_cast<T>(sum[r][t] + b);
  }
}

template <class T, int tokens, int terms>
bool launch_reflect_gemv(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> x,
                         MatrixView<const T> w, const T* bias, MatrixView<T> y) {
  constexpr int rows = tokens <= 2 ? 2 : 4, in_block = rows * row_warps;
  const Segments segments(h.blocks, h.block_size, full_vector<T>);
  const std::size_t shared =
      tokens * (static_cast<std::size_t>(w.cols) * sizeof(TokenInShared<T, tokens>) +
                static_cast<std::size_t>(segments.count() * terms) * sizeof(Wide<T>));
  if (shared > where.shared_bytes / 2) return false;  // two thread blocks at a time, at least
  const Index blocks = (w.rows + in_block - 1) / in_block;
  launch<reflect_gemv_kernel<T, tokens, terms, rows>>(where, dim3(static_cast<unsigned>(blocks)),
                                                      row_threads, shared, h, x, w, bias, y);
  return true;
}

template <class T>
bool reflect_gemv(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> x,
                  MatrixView<const T> w, const T* bias, MatrixView<T> y) {
  constexpr int full = full_vector<T>;
  if (x.rows > 8 || h.terms() == 0 || h.step != 0 || h.block_size % full != 0 ||
      !aligned(x, full) || !aligned(w, full) || !aligned(h.unit, full))
    return false;
  const auto of_terms = [&](auto tokens) {
    constexpr int count = decltype(tokens)::value;
    return h.terms() == 1 ? launch_reflect_gemv<T, count, 1>(where, h, x, w, bias, y)
                          : launch_reflect_gemv<T, count, 2>(where, h, x, w, bias, y);
  };
  return x.rows == 1   ? of_terms(std::integral_constant<int, 1>{})
         : x.rows == 2 ? of_terms(std::integral_constant<int, 2>{})
         : x.rows <= 4 ? of_terms(std::integral_constant<int, 4>{})
                       : of_terms(std::integral_constant<int, 8>{});
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
