#pragma once

/// The last elements of a block, fewer than a vector has: read and written under a mask where the
/// machine has one, otherwise through a copy. Nothing beyond them is read or written.

#include <ether/backends/eigen/simd.hpp>

namespace ether::detail {

#if defined(__AVX2__)
/// All bits set in the first `count` elements.
inline __m256i tail_mask(Index count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/// load of `count` < lanes<P> elements; the others are 0.
template <class P, class T>
Packet<P> load_tail(const T* from, Index count) {
  T values[lanes<P>] = {};
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_maskz_loadu_ps(mask, from);
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm256_maskz_loadu_epi16(mask, from));
    return load<P>(values);
  }
#endif
#if defined(__AVX2__)
  if constexpr (lanes<P> == 8 && std::is_same_v<P, T> && std::is_same_v<T, float>)
    return _mm256_maskload_ps(from, tail_mask(count));
#endif
  std::copy_n(from, count, values);
  return load<P>(values);
}

/// store of the first `count` < lanes<P> elements.
template <class P, class T>
void store_tail(T* to, const Packet<P>& value, Index count) {
  T values[lanes<P>];
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(to, mask, value);
#endif
#if defined(__AVX2__)
  if constexpr (lanes<P> == 8 && std::is_same_v<P, T> && std::is_same_v<T, float>)
    return _mm256_maskstore_ps(to, tail_mask(count), value);
#endif
  store<P>(values, value);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2)
    return _mm256_mask_storeu_epi16(to, mask,
                                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
#endif
  std::copy_n(values, count, to);
}

/// store_tail, past the cache as stream_bytes.
template <class P, class T>
void stream_tail(T* to, const Packet<P>& value, Index count) {
  alignas(64) T values[lanes<P>];
  store<P>(values, value);
  stream_bytes(to, values, static_cast<std::size_t>(count) * sizeof(T));
}

}  // namespace ether::detail
