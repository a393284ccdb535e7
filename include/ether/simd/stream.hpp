#pragma once

/// Stores past the cache, the last elements of a block, which are no whole packet, and prefetching.

#include <ether/simd/convert.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

inline constexpr std::size_t cache_line = 64;
/// Elements of a cache line.
template <class T>
inline constexpr Index line_of = static_cast<Index>(cache_line / sizeof(T));

/// Results beyond this, with what they are made of, do not fit the last cache (32 MiB and up, shared)
/// and are best written past it.
inline constexpr Index streaming_bytes = Index{16} << 20;

/// Whether to write `out` past the cache: it is large, is not `in`, and its rows and their blocks are
/// aligned to 16 bytes, as malloc's memory is.
template <class A, class B>
bool worth_streaming(MatrixView<const A> in, MatrixView<B> out, Index block_size) {
  constexpr std::size_t alignment = 16;
  return static_cast<const void*>(in.data) != static_cast<const void*>(out.data) &&
         out.rows * out.cols * static_cast<Index>(sizeof(B)) > streaming_bytes &&
         reinterpret_cast<std::uintptr_t>(out.data) % alignment == 0 &&
         static_cast<std::size_t>(out.stride) * sizeof(B) % alignment == 0 &&
         static_cast<std::size_t>(block_size) * sizeof(B) % alignment == 0;
}

/// Whether `to` is a multiple of `bytes`.
inline bool is_aligned(const void* to, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(to) % bytes == 0;
}

#if defined(__SSE2__)
/// The bytes 16 Part to 16 Part + 15 of a vector.
template <int Part, class V>
EIGEN_ALWAYS_INLINE __m128i sixteen_bytes(const V& value) {
#if defined(__AVX512F__)
  if constexpr (sizeof value == 64)
    return _mm512_extracti32x4_epi32(bit_cast<__m512i>(value), Part);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof value == 32) return _mm256_extracti128_si256(bit_cast<__m256i>(value), Part);
#endif
  __m128i part;
  std::memcpy(&part, reinterpret_cast<const char*>(&value) + 16 * Part, 16);
  return part;
}

/// Stores the first `bytes` of a vector past the cache, 16 at a time; `to` is aligned to as many.
template <class V>
EIGEN_ALWAYS_INLINE void stream_pieces(void* to, const V& value, Index bytes) {
  unroll<sizeof value / 16>([&](auto i) ETHER_INLINE_LAMBDA {
    constexpr int at = decltype(i)::value;
    if (16 * at < bytes) _mm_stream_si128(static_cast<__m128i*>(to) + at, sixteen_bytes<at>(value));
  });
}
#endif

/// store, past the cache where the machine can. finish_streaming must follow on the same thread.
template <class P, class T>
EIGEN_ALWAYS_INLINE void stream(T* to, const Packet<P>& value) {
  const auto stored = from_packet<T, P>(value);
#if defined(__AVX512F__)
  if constexpr (sizeof stored == 64)
    if (is_aligned(to, 64))
      return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bit_cast<__m512i>(stored));
#endif
#if defined(__AVX2__)
  if constexpr (sizeof stored == 32)
    if (is_aligned(to, 32))
      return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bit_cast<__m256i>(stored));
#endif
#if defined(__SSE2__)
  // A cache line that is in part stored as usual costs several times as much.
  if constexpr (sizeof stored >= 16)
    if (is_aligned(to, 16)) return stream_pieces(to, stored, sizeof stored);
#endif
#if defined(__SSE2__) && defined(__x86_64__)
  if constexpr (sizeof stored == 8)
    return _mm_stream_si64(reinterpret_cast<long long*>(to), bit_cast<long long>(stored));
#endif
  std::memcpy(static_cast<void*>(to), &stored, sizeof stored);
}

inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// Asks for from[offset], which may lie beyond the array: nothing is read.
template <class T>
EIGEN_ALWAYS_INLINE void prefetch(const T* from, Index offset) {
  const auto address =
      reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(offset) * sizeof(T);
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const void*>(address));
#else
  (void)address;
#endif
}

// Tails are read and written under a mask where there is one (AVX-512: float and 16-bit types, AVX2:
// float), 16-bit types else in pieces that overlap, put together in a register, and others one by one.
// Nothing beyond them is read or written.

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ether: needs a little-endian processor");

/// 1 to 3 elements of 16 bits as one number, the first lowest; the rest is 0.
inline std::uint64_t load_few(const std::uint16_t* from, Index count) {
  const auto at = [&](Index i) { return std::uint64_t{from[i]} << 16 * i; };
  return at(0) | at(count / 2) | at(count - 1);
}
inline void store_few(std::uint16_t* to, std::uint64_t value, Index count) {
  for (const Index i : {Index{0}, count / 2, count - 1})
    to[i] = static_cast<std::uint16_t>(value >> 16 * i);
}
/// `count` < L elements of 16 bits, the others 0. L is 4 or 8.
template <Index L>
Vector<std::uint16_t, L> load_short_tail(const void* from, Index count) {
  const auto* const at = static_cast<const std::uint16_t*>(from);
  std::uint64_t low = 0, high = 0;
  if (count >= 4) {
    std::memcpy(&low, at, 8);
    std::memcpy(&high, at + count - 4, 8);
    high = count == 4 ? 0 : high >> 16 * (8 - count);
  } else if (count > 0) {
    low = load_few(at, count);
  }
  if constexpr (L == 8)
    return bit_cast<Vector<std::uint16_t, L>>(Vector<std::uint64_t, 2>{low, high});
  else
    return bit_cast<Vector<std::uint16_t, L>>(low);
}
/// Stores `count` <= L of them.
template <Index L>
void store_short_tail(void* to, const Vector<std::uint16_t, L>& value, Index count) {
  auto* const at = static_cast<std::uint16_t*>(to);
  std::uint64_t low, high = 0;
  if constexpr (L == 8) {
    const auto both = bit_cast<Vector<std::uint64_t, 2>>(value);
    low = both[0];
    high = both[1];
  } else {
    low = bit_cast<std::uint64_t>(value);
  }
  if (count >= 4) {
    const Index shift = 16 * (count - 4);  // the last four elements
    const std::uint64_t last = count == 4   ? low
                               : count == 8 ? high
                                            : low >> shift | high << (64 - shift);
    std::memcpy(at, &low, 8);
    std::memcpy(at + count - 4, &last, 8);
  } else if (count > 0) {
    store_few(at, low, count);
  }
}

#if defined(__AVX2__)
/// All bits set in the first `count` of 8 elements.
EIGEN_ALWAYS_INLINE __m256i tail_mask(Index count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/// load of `count` < lanes<P> elements; the others are 0.
template <class P, class T>
EIGEN_ALWAYS_INLINE Packet<P> load_tail(const T* from, Index count) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_maskz_loadu_ps(mask, from);
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2)
    return to_packet<P, T>(
        bit_cast<Vector<std::uint16_t, 16>>(_mm256_maskz_loadu_epi16(mask, from)));
#endif
#if defined(__AVX2__)
  if constexpr (lanes<P> == 8 && std::is_same_v<P, float> && std::is_same_v<T, float>)
    return _mm256_maskload_ps(from, tail_mask(count));
#endif
  if constexpr ((lanes<P> == 4 || lanes<P> == 8) && sizeof(T) == 2)
    return to_packet<P, T>(load_short_tail<lanes<P>>(from, count));
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
EIGEN_ALWAYS_INLINE void store_tail(T* to, const Packet<P>& value, Index count) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (lanes<P> == 16 && std::is_same_v<T, float>)
    return _mm512_mask_storeu_ps(to, mask, value);
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  if constexpr (lanes<P> == 16 && sizeof(T) == 2)
    return _mm256_mask_storeu_epi16(to, mask, bit_cast<__m256i>(from_packet<T, P>(value)));
#endif
#if defined(__AVX2__)
  if constexpr (lanes<P> == 8 && std::is_same_v<P, float> && std::is_same_v<T, float>)
    return _mm256_maskstore_ps(to, tail_mask(count), value);
#endif
  if constexpr ((lanes<P> == 4 || lanes<P> == 8) && sizeof(T) == 2)
    return store_short_tail<lanes<P>>(to, from_packet<T, P>(value), count);
  P values[lanes<P>];
  store<P>(values, value);
  for (Index i = 0; i < count; ++i) to[i] = rounded<T>(values[i]);
}

/// store_tail, past the cache as `stream`, in whole pieces of 16 bytes that are aligned so.
template <class P, class T>
EIGEN_ALWAYS_INLINE void stream_tail(T* to, const Packet<P>& value, Index count) {
#if defined(__SSE2__)
  const Index bytes = count * static_cast<Index>(sizeof(T));
  if (bytes % 16 == 0 && is_aligned(to, 16))
    return stream_pieces(to, from_packet<T, P>(value), bytes);
#endif
  store_tail<P>(to, value, count);
}

}  // namespace detail
ETHER_END_NAMESPACE
