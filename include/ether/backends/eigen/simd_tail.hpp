#pragma once

/// The last elements of a block, which are no whole vector: read and written under a mask where there
/// is one (AVX-512: float and 16-bit types), otherwise one by one. Nothing beyond them is read or
/// written.

#include <ether/backends/eigen/simd.hpp>

namespace ether::detail {

/// load of `count` < lanes<P> elements; the others are 0.
template <class P, class T>
Packet<P> load_tail(const T* from, Index count) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_maskz_loadu_ps(mask, from);
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2) {
    T values[lanes<P>];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm256_maskz_loadu_epi16(mask, from));
    return load<P>(values);
  }
#endif
  // Into a register: a vector that is read from memory where its elements were just written waits.
  Vector<P, lanes<P>> values = {};
  for (Index i = 0; i + 1 < lanes<P>; ++i) {
    if (i == count) break;
    values[i] = static_cast<P>(from[i]);
  }
  return load<P>(reinterpret_cast<const P*>(&values));
}

/// store of the first `count` <= lanes<P> elements.
template <class P, class T>
void store_tail(T* to, const Packet<P>& value, Index count) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(to, mask, value);
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2) {
    T stored[lanes<P>];
    store<P>(stored, value);
    return _mm256_mask_storeu_epi16(to, mask,
                                    _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stored)));
  }
#endif
  P values[lanes<P>];
  store<P>(values, value);
  for (Index i = 0; i < count; ++i) to[i] = rounded<T>(values[i]);
}

/// store_tail, past the cache as stream_bytes.
template <class P, class T>
void stream_tail(T* to, const Packet<P>& value, Index count) {
  alignas(64) T values[lanes<P>];
  store<P>(values, value);
  stream_bytes(to, values, static_cast<std::size_t>(count) * sizeof(T));
}

}  // namespace ether::detail
