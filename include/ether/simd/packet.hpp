#pragma once

/// Vector arithmetic through Eigen's packets, which know the machine's instruction set. P is float or
/// double.

#include <ether/matrix_view.hpp>

#include <Eigen/Core>

#include <type_traits>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>  // all of them would cost a third of a second
#endif

/// After the parameters of a lambda: it is inlined wherever it is called. One call that is not, even
/// if it is that of the last elements, would keep all captures in memory.
#define ETHER_INLINE_LAMBDA __attribute__((always_inline))

ETHER_BEGIN_NAMESPACE
namespace detail {

template <class P>
using Packet = typename Eigen::internal::packet_traits<P>::type;
template <class P>
inline constexpr Index lanes = Eigen::internal::unpacket_traits<Packet<P>>::size;

/// Vector registers, of which a product's sums should use most and never more.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int vector_registers = 32;
#else
inline constexpr int vector_registers = 16;
#endif

template <class P>
EIGEN_ALWAYS_INLINE Packet<P> broadcast(P value) {
  return Eigen::internal::pset1<Packet<P>>(value);
}
/// a * b + c
template <class V>
EIGEN_ALWAYS_INLINE V multiply_add(const V& a, const V& b, const V& c) {
  return Eigen::internal::pmadd(a, b, c);
}
template <class V>
EIGEN_ALWAYS_INLINE V add(const V& a, const V& b) {
  return Eigen::internal::padd(a, b);
}
/// The sum of a packet's elements.
template <class V>
EIGEN_ALWAYS_INLINE auto sum(const V& a) {
  return Eigen::internal::predux(a);
}

template <int... I, class F>
EIGEN_ALWAYS_INLINE void unroll(std::integer_sequence<int, I...>, const F& f) {
  (f(std::integral_constant<int, I>()), ...);
}
/// f(0), ..., f(N - 1), with constants. A loop would do, but g++ 12 leaves an array of packets in
/// memory, and stores to it, when some loop over it is unrolled too late.
template <int N, class F>
EIGEN_ALWAYS_INLINE void unroll(const F& f) {
  unroll(std::make_integer_sequence<int, N>(), f);
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

/// L rows of L lanes, transposed: lane c of row r comes to lane r of row c.
template <class V, int L>
EIGEN_ALWAYS_INLINE void transpose(V (&rows)[L]) {
  if constexpr (L > 1) {
    Eigen::internal::PacketBlock<V, L> block;
    for (int r = 0; r < L; ++r) block.packet[r] = rows[r];
    Eigen::internal::ptranspose(block);
    for (int r = 0; r < L; ++r) rows[r] = block.packet[r];
  }
}

/// Stores four neighbouring elements of a packet, `Part` counts them by four.
template <int Part, class P>
EIGEN_ALWAYS_INLINE void store_quad(P* to, const Packet<P>& value) {
  static_assert(lanes<P> % 4 == 0);
#if defined(__AVX512F__)
  if constexpr (lanes<P> == 16) return _mm_storeu_ps(to, _mm512_extractf32x4_ps(value, Part));
  if constexpr (lanes<P> == 8 && std::is_same_v<P, double>)
    return _mm256_storeu_pd(to, _mm512_extractf64x4_pd(value, Part));
#endif
#if defined(__AVX__)
  if constexpr (lanes<P> == 8 && std::is_same_v<P, float>)
    return _mm_storeu_ps(to, _mm256_extractf128_ps(value, Part));
#endif
  if constexpr (lanes<P> == 4) Eigen::internal::pstoreu(to, value);
}

/// to[i * stride + r] = lane i of row r, i < count.
template <int Rows, class P, class V = Packet<P>>
EIGEN_ALWAYS_INLINE void store_transposed(P* to, Index stride, const V (&rows)[Rows], Index count) {
  constexpr Index L = lanes<P>;
  if constexpr (Rows == 4 && L % 4 == 0) {
    Eigen::internal::PacketBlock<V, Rows> block;
    for (int r = 0; r < Rows; ++r) block.packet[r] = rows[r];
    Eigen::internal::ptranspose(block);  // lanes 4 i to 4 i + 3 of all packets together: column i
    constexpr int parts = static_cast<int>(L) / 4;
    for (int r = 0; r < Rows; ++r) {
      P* const at = to + r * parts * stride;
      const Index left = count - r * parts;
      if (left > 0) store_quad<0>(at, block.packet[r]);
      if constexpr (parts > 1)
        if (left > 1) store_quad<1>(at + stride, block.packet[r]);
      if constexpr (parts > 2) {
        if (left > 2) store_quad<2>(at + 2 * stride, block.packet[r]);
        if (left > 3) store_quad<3>(at + 3 * stride, block.packet[r]);
      }
    }
  } else {
    P elements[Rows][L];
    for (int r = 0; r < Rows; ++r) Eigen::internal::pstoreu(elements[r], rows[r]);
    for (Index i = 0; i < count; ++i)
      for (int r = 0; r < Rows; ++r) to[i * stride + r] = elements[r][i];
  }
}

}  // namespace detail
ETHER_END_NAMESPACE
