#pragma once

/// Vector arithmetic and 16-bit conversion: all that knows of instruction sets, through Eigen's
/// packets. P is float or double and computes; T is P or a 16-bit type and is stored.

#include <ether/matrix_view.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__SSE2__)
#include <immintrin.h>
#endif

/// After the parameters of a lambda: it is inlined wherever it is called. One call that is not, be it
/// the last elements', would keep all captures in memory.
#define ETHER_INLINE_LAMBDA __attribute__((always_inline))

namespace ether::detail {

template <class P>
using Packet = typename Eigen::internal::packet_traits<P>::type;
template <class P>
inline constexpr Index lanes = Eigen::internal::unpacket_traits<Packet<P>>::size;

template <class P>
Packet<P> broadcast(P value) {
  return Eigen::internal::pset1<Packet<P>>(value);
}
/// a * b + c
template <class V>
V multiply_add(const V& a, const V& b, const V& c) {
  return Eigen::internal::pmadd(a, b, c);
}
template <class V>
V add(const V& a, const V& b) {
  return Eigen::internal::padd(a, b);
}
/// The sum of a packet's elements.
template <class V>
auto sum(const V& a) {
  return Eigen::internal::predux(a);
}

/// A packet that is used `Uses` times, read once: where there are registers enough (AVX-512), g++ would
/// otherwise read it from memory for each use, as instructions can.
template <int Uses, class V>
EIGEN_ALWAYS_INLINE V in_register(V value) {
#if defined(__AVX512F__)
  if constexpr (Uses > 1) asm("" : "+v"(value));
#endif
  return value;
}

/// Takes the elements of rows in turns: that of row r at i comes to Rows * i + r.
template <class V, int Rows>
EIGEN_ALWAYS_INLINE void interleave(V (&rows)[Rows]) {
  using P = typename Eigen::internal::unpacket_traits<V>::type;
  constexpr Index L = Eigen::internal::unpacket_traits<V>::size;
  if constexpr (Rows == 4 && L % 4 == 0) {
    Eigen::internal::PacketBlock<V, Rows> block;
    for (int r = 0; r < Rows; ++r) block.packet[r] = rows[r];
    Eigen::internal::ptranspose(block);
    for (int r = 0; r < Rows; ++r) rows[r] = block.packet[r];
  } else if constexpr (Rows > 1) {
    P before[Rows][L], after[Rows * L];
    for (int r = 0; r < Rows; ++r) Eigen::internal::pstoreu(before[r], rows[r]);
    for (int r = 0; r < Rows; ++r)
      for (Index i = 0; i < L; ++i) after[Rows * i + r] = before[r][i];
    for (int r = 0; r < Rows; ++r) rows[r] = Eigen::internal::ploadu<V>(after + r * L);
  }
}

// Conversion, L elements at a time: loops of fixed length over local arrays, or vectors of g++ and
// clang++, whichever becomes the machine's conversion instructions.

template <class T, Index L>
struct VectorOf {
  typedef T type __attribute__((vector_size(L * sizeof(T))));
};
template <class T, Index L>
using Vector = typename VectorOf<T, L>::type;

template <Index L>
void widen_lanes(const Eigen::bfloat16* from, float* to) {
  std::uint16_t half[L];
  std::uint32_t bits[L];
  std::memcpy(half, from, sizeof half);
  for (Index i = 0; i < L; ++i) bits[i] = static_cast<std::uint32_t>(half[i]) << 16;
  std::memcpy(to, bits, sizeof bits);
}
template <Index L>
void narrow_lanes(const float* from, Eigen::bfloat16* to) {
  Vector<std::uint32_t, L> bits;
  std::memcpy(&bits, from, sizeof bits);
  const auto to_even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const auto quiet_nan = bits >> 16 | 0x40;
  const auto half = (bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : to_even;
  const auto stored = __builtin_convertvector(half, Vector<std::uint16_t, L>);
  std::memcpy(static_cast<void*>(to), &stored, sizeof stored);
}
template <Index L>
void widen_lanes(const Eigen::half* from, float* to) {
  Index i = 0;
#if defined(__F16C__)
  for (; i + 8 <= L; i += 8)
    _mm256_storeu_ps(to + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < L; ++i) to[i] = static_cast<float>(from[i]);
}
template <Index L>
void narrow_lanes(const float* from, Eigen::half* to) {
  Index i = 0;
#if defined(__F16C__)
  for (; i + 8 <= L; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < L; ++i) to[i] = static_cast<Eigen::half>(from[i]);
}
template <Index L>
void widen_lanes(const float* from, float* to) {
  std::memcpy(to, from, L * sizeof(float));
}
template <Index L>
void narrow_lanes(const float* from, float* to) {
  std::memcpy(to, from, L * sizeof(float));
}

/// Doubles whose conversion to float is exact and to 16 bits then rounds as if from the double:
/// the bits a float has no room for are replaced by whether any was set ("round to odd"). Below
/// 2^-126, where a float holds fewer bits, the conversion still rounds. Bits: of one or of a vector.
template <class Bits>
Bits round_to_odd(Bits bits) {
  constexpr std::uint64_t low = (std::uint64_t{1} << 29) - 1;
  return (bits | ((bits & low) + low)) & ~low;
}
inline double round_to_odd(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = round_to_odd(bits);
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

/// One element as T, rounded once, to nearest, ties to even.
template <class T, class P>
T rounded(P value) {
  if constexpr (sizeof(T) == 2 && std::is_same_v<P, double>)
    return static_cast<T>(static_cast<float>(round_to_odd(value)));
  else
    return static_cast<T>(value);
}

/// lanes<P> elements, widened to P.
template <class P, class T>
Packet<P> load(const T* from) {
  constexpr Index L = lanes<P>;
  if constexpr (std::is_same_v<P, T>) {
    return Eigen::internal::ploadu<Packet<P>>(from);
  } else {
    float wide[L];
    P values[L];
    widen_lanes<L>(from, wide);
    for (Index i = 0; i < L; ++i) values[i] = static_cast<P>(wide[i]);
    return Eigen::internal::ploadu<Packet<P>>(values);
  }
}
/// lanes<P> elements, rounded to the nearest T, ties to even.
template <class P, class T>
void store(T* to, const Packet<P>& value) {
  constexpr Index L = lanes<P>;
  if constexpr (std::is_same_v<P, T>) {
    Eigen::internal::pstoreu<P, Packet<P>>(to, value);
  } else {
    Vector<P, L> values;
    Eigen::internal::pstoreu<P, Packet<P>>(reinterpret_cast<P*>(&values), value);
    if constexpr (std::is_same_v<P, double> && sizeof(T) == 2) {
      Vector<std::uint64_t, L> bits;
      std::memcpy(&bits, &values, sizeof bits);
      bits = round_to_odd(bits);
      std::memcpy(&values, &bits, sizeof bits);
    }
    const auto wide = __builtin_convertvector(values, Vector<float, L>);
    narrow_lanes<L>(reinterpret_cast<const float*>(&wide), to);
  }
}

/// to[i] = from[i], widened or rounded.
template <class P, class A, class B>
void convert(const A* from, Index count, B* to) {
  if constexpr (std::is_same_v<A, B>) {
    std::copy_n(from, count, to);
  } else {
    Index i = 0;
    for (; i + lanes<P> <= count; i += lanes<P>) store<P>(to + i, load<P>(from + i));
    for (; i < count; ++i) to[i] = rounded<B>(static_cast<P>(from[i]));
  }
}

/// Results beyond this do not fit a cache anyway and are best written past it.
inline constexpr Index streaming_bytes = Index{32} << 20;

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

/// Copies `bytes`, past the cache where the machine can, they are whole pieces of 16 bytes, and `to` is
/// aligned to as many; a cache line that is in part stored as usual costs several times as much. `from`
/// is aligned to 16 bytes.
/// finish_streaming must follow on the same thread.
inline void stream_bytes(void* to, const void* from, std::size_t bytes) {
#if defined(__SSE2__)
  if (bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    for (std::size_t i = 0; i < bytes / 16; ++i)
      _mm_stream_si128(static_cast<__m128i*>(to) + i,
                       _mm_load_si128(static_cast<const __m128i*>(from) + i));
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}
/// store, past the cache as stream_bytes.
template <class P, class T>
void stream(T* to, const Packet<P>& value) {
  alignas(64) T values[lanes<P>];
  store<P>(values, value);
#if defined(__AVX512F__)
  if constexpr (sizeof values == 64)
    if (reinterpret_cast<std::uintptr_t>(to) % 64 == 0)
      return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_load_si512(values));
#endif
  stream_bytes(to, values, sizeof values);
}
inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// Asks for from[offset], which may lie beyond the array: nothing is read.
template <class T>
void prefetch(const T* from, Index offset) {
  const auto address =
      reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(offset) * sizeof(T);
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const void*>(address));
#else
  (void)address;
#endif
}

}  // namespace ether::detail
