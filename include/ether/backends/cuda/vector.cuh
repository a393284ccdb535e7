#pragma once

/// Neighbouring elements moved in one instruction of up to 16 bytes, and computed with in a wide type.

#include <ether/backends/cuda/portability.cuh>
#include <ether/matrix_view.hpp>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// As many T as 16 bytes hold.
template <class T>
inline constexpr int full_vector = 16 / static_cast<int>(sizeof(T));

template <class T, int count>
struct alignas(sizeof(T) * count) Packed {
  T element[count];
};

/// Elements in one piece of a vector of `count` elements: a piece has 16 bytes at most.
template <class T, int count>
inline constexpr int piece = count < full_vector<T> ? count : full_vector<T>;

template <int count, class T>
ETHER_DEVICE void load(const T* from, Wide<T> (&to)[count]) {
  using Piece = Packed<T, piece<T, count>>;
  check_aligned<sizeof(Piece)>(from);
  ETHER_UNROLL
  for (int p = 0; p < count; p += piece<T, count>) {
    const Piece part = *reinterpret_cast<const Piece*>(from + p);
    ETHER_UNROLL
    for (int i = 0; i < piece<T, count>; ++i) to[p + i] = static_cast<Wide<T>>(part.element[i]);
  }
}

/// Piece `p` of a vector, rounded to nearest even.
template <class T, int count>
ETHER_DEVICE Packed<T, piece<T, count>> pack(const Wide<T> (&from)[count], int p) {
  Packed<T, piece<T, count>> part;
  ETHER_UNROLL
  for (int i = 0; i < piece<T, count>; ++i) part.element[i] = static_cast<T>(from[p + i]);
  return part;
}

/// To global memory.
template <int count, class T>
ETHER_DEVICE void store(T* to, const Wide<T> (&from)[count]) {
  using Piece = Packed<T, piece<T, count>>;
  check_aligned<sizeof(Piece)>(to);
  ETHER_UNROLL
  for (int p = 0; p < count; p += piece<T, count>) {
    const Piece part = pack<T>(from, p);
    if constexpr (sizeof(Piece) == sizeof(Bytes16)) {
      Bytes16 bytes;
      __builtin_memcpy(&bytes, &part, sizeof bytes);
      store_16(to + p, bytes);
    } else {
      *reinterpret_cast<Piece*>(to + p) = part;
    }
  }
}

/// To shared memory.
template <int count, class T>
ETHER_DEVICE void store_shared(T* to, const Wide<T> (&from)[count]) {
  using Piece = Packed<T, piece<T, count>>;
  check_aligned<sizeof(Piece)>(to);
  ETHER_UNROLL
  for (int p = 0; p < count; p += piece<T, count>)
    *reinterpret_cast<Piece*>(to + p) = pack<T>(from, p);
}

/// Whether vectors of `count` elements can be read at `data` and at every multiple of `stride`.
template <class T>
bool aligned(const T* data, Index stride, int count) {
  const int together = count < full_vector<T> ? count : full_vector<T>;
  return reinterpret_cast<std::uintptr_t>(data) % (sizeof(T) * together) == 0 &&
         stride % together == 0;
}
template <class T>
bool aligned(const MatrixView<T>& view, int count) {
  return view.data == nullptr || aligned(view.data, view.rows > 1 ? view.stride : 0, count);
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
