#pragma once

/// Reading and writing packets of float or double (P) as another type (T): P itself, float,
/// Eigen::bfloat16 or Eigen::half. Conversions stay in registers: a vector that is written to memory
/// in halves and read back whole waits for both (Intel does not forward such a store), which made a
/// bfloat16 product slower than a float one.
///
/// Widening is exact. Narrowing rounds once, to nearest, ties to even; a NaN stays a NaN, quiet.
/// The instruction of avx512_bf16 is not used: it takes subnormal numbers for 0.

#include <ether/simd/packet.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

ETHER_BEGIN_NAMESPACE
namespace detail {

template <class T, Index L>
struct VectorOf {
  typedef T type __attribute__((vector_size(L * sizeof(T))));
};
/// L elements in a register, as g++ and clang++ have them on any machine.
template <class T, Index L>
using Vector = typename VectorOf<T, L>::type;

/// What an element of T is in a Vector: 16 bits that are no number for the compiler, or T.
template <class T>
using Stored = std::conditional_t<sizeof(T) == 2, std::uint16_t, T>;

/// The same bits as another vector or packet.
template <class To, class From>
EIGEN_ALWAYS_INLINE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(from);
}

// g++ 12 widens a generic vector half by half, so that the machine's own instructions are named here.

/// The elements of T as floats.
template <class T, Index L>
EIGEN_ALWAYS_INLINE Vector<float, L> to_float(const Vector<Stored<T>, L>& from) {
  using Floats = Vector<float, L>;
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
#if defined(__AVX512F__)
    if constexpr (L == 16)
      return bit_cast<Floats>(
          _mm512_slli_epi32(_mm512_cvtepu16_epi32(bit_cast<__m256i>(from)), 16));
#endif
#if defined(__AVX2__)
    if constexpr (L == 8)
      return bit_cast<Floats>(
          _mm256_slli_epi32(_mm256_cvtepu16_epi32(bit_cast<__m128i>(from)), 16));
#endif
#if defined(__SSE2__) && defined(__x86_64__)
    if constexpr (L == 4)
      return bit_cast<Floats>(
          _mm_unpacklo_epi16(_mm_setzero_si128(), _mm_cvtsi64_si128(bit_cast<std::int64_t>(from))));
#endif
    return bit_cast<Floats>(__builtin_convertvector(from, Vector<std::uint32_t, L>) << 16);
  } else if constexpr (std::is_same_v<T, Eigen::half>) {
#if defined(__AVX512F__)
    if constexpr (L == 16) return bit_cast<Floats>(_mm512_cvtph_ps(bit_cast<__m256i>(from)));
#endif
#if defined(__F16C__)
    if constexpr (L == 8) return bit_cast<Floats>(_mm256_cvtph_ps(bit_cast<__m128i>(from)));
#endif
#if defined(__F16C__) && defined(__x86_64__)
    if constexpr (L == 4)
      return bit_cast<Floats>(_mm_cvtph_ps(_mm_cvtsi64_si128(bit_cast<std::int64_t>(from))));
#endif
    Floats to{};
    for (Index i = 0; i < L; ++i)
      to[i] = static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(std::uint16_t{from[i]}));
    return to;
  } else {
    return from;
  }
}

/// Floats as elements of T.
template <class T, Index L>
EIGEN_ALWAYS_INLINE Vector<Stored<T>, L> from_float(const Vector<float, L>& from) {
  using To = Vector<Stored<T>, L>;
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    const auto bits = bit_cast<Vector<std::uint32_t, L>>(from);
    const auto to_even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const auto quiet_nan = bits >> 16 | 0x40;
    const auto is_nan = bit_cast<Vector<std::int32_t, L>>(bits & 0x7fffffff) > 0x7f800000;
    return __builtin_convertvector(is_nan ? quiet_nan : to_even, To);
  } else if constexpr (std::is_same_v<T, Eigen::half>) {
#if defined(__AVX512F__)
    if constexpr (L == 16)
      return bit_cast<To>(_mm512_cvtps_ph(bit_cast<__m512>(from), _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__)
    if constexpr (L == 8)
      return bit_cast<To>(_mm256_cvtps_ph(bit_cast<__m256>(from), _MM_FROUND_TO_NEAREST_INT));
#endif
#if defined(__F16C__) && defined(__x86_64__)
    if constexpr (L == 4)
      return bit_cast<To>(
          _mm_cvtsi128_si64(_mm_cvtps_ph(bit_cast<__m128>(from), _MM_FROUND_TO_NEAREST_INT)));
#endif
    To to{};
    for (Index i = 0; i < L; ++i)
      to[i] = Eigen::numext::bit_cast<std::uint16_t>(static_cast<Eigen::half>(float{from[i]}));
    return to;
  } else {
    return from;
  }
}

/// Doubles whose conversion to float is exact and to 16 bits then rounds as if from the double:
/// the bits a float has no room for are replaced by whether any was set ("round to odd"). Below
/// 2^-126, where a float holds fewer bits, the conversion still rounds. Bits: of one or of a vector.
template <class Bits>
EIGEN_ALWAYS_INLINE Bits round_to_odd(Bits bits) {
  constexpr std::uint64_t low = (std::uint64_t{1} << 29) - 1;
  return (bits | ((bits & low) + low)) & ~low;
}
inline double round_to_odd(double value) {
  return Eigen::numext::bit_cast<double>(
      round_to_odd(Eigen::numext::bit_cast<std::uint64_t>(value)));
}

/// One element as T, rounded once, to nearest, ties to even.
template <class T, class P>
T rounded(P value) {
  if constexpr (sizeof(T) == 2 && std::is_same_v<P, double>)
    return static_cast<T>(static_cast<float>(round_to_odd(value)));
  else
    return static_cast<T>(value);
}

/// The elements of T as a packet.
template <class P, class T>
EIGEN_ALWAYS_INLINE Packet<P> to_packet(const Vector<Stored<T>, lanes<P>>& from) {
  constexpr Index L = lanes<P>;
  if constexpr (L == 1) {
    return static_cast<P>(to_float<T, L>(from)[0]);
  } else if constexpr (std::is_same_v<P, float>) {
    return bit_cast<Packet<P>>(to_float<T, L>(from));
  } else {
    const auto wide = to_float<T, L>(from);
#if defined(__AVX512F__)
    if constexpr (L == 8) return _mm512_cvtps_pd(bit_cast<__m256>(wide));
#endif
#if defined(__AVX__)
    if constexpr (L == 4) return _mm256_cvtps_pd(bit_cast<__m128>(wide));
#endif
    return bit_cast<Packet<P>>(__builtin_convertvector(wide, Vector<double, L>));
  }
}

/// A packet as elements of T.
template <class T, class P>
EIGEN_ALWAYS_INLINE Vector<Stored<T>, lanes<P>> from_packet(const Packet<P>& value) {
  constexpr Index L = lanes<P>;
  if constexpr (std::is_same_v<P, T>) {
    if constexpr (L == 1)
      return Vector<P, L>{value};
    else
      return bit_cast<Vector<P, L>>(value);
  } else if constexpr (L == 1) {
    P exact = value;
    if constexpr (std::is_same_v<P, double> && sizeof(T) == 2) exact = round_to_odd(exact);
    return from_float<T, L>(Vector<float, L>{static_cast<float>(exact)});
  } else if constexpr (std::is_same_v<P, float>) {
    return from_float<T, L>(bit_cast<Vector<float, L>>(value));
  } else {
    auto bits = bit_cast<Vector<std::uint64_t, L>>(value);
    if constexpr (sizeof(T) == 2) bits = round_to_odd(bits);
    return from_float<T, L>(
        __builtin_convertvector(bit_cast<Vector<double, L>>(bits), Vector<float, L>));
  }
}

/// lanes<P> elements as P.
template <class P, class T>
EIGEN_ALWAYS_INLINE Packet<P> load(const T* from) {
  if constexpr (std::is_same_v<P, T>) {
    return Eigen::internal::ploadu<Packet<P>>(from);
  } else {
    Vector<Stored<T>, lanes<P>> stored;
    std::memcpy(&stored, from, sizeof stored);
    return to_packet<P, T>(stored);
  }
}

/// lanes<P> elements, rounded to T.
template <class P, class T>
EIGEN_ALWAYS_INLINE void store(T* to, const Packet<P>& value) {
  if constexpr (std::is_same_v<P, T>) {
    Eigen::internal::pstoreu<P, Packet<P>>(to, value);
  } else {
    const auto stored = from_packet<T, P>(value);
    std::memcpy(static_cast<void*>(to), &stored, sizeof stored);
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

}  // namespace detail
ETHER_END_NAMESPACE
