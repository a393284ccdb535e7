#pragma once

/// What a launcher knows of the device and of the caller's wishes. Needs no CUDA header.

#include <ether/version.hpp>

#include <cstddef>

struct CUstream_st;  // *cudaStream_t

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// Filled in once, when a Context is made: a launch asks the device nothing.
struct Launch {
  CUstream_st* stream = nullptr;
  int device = 0;
  int processors = 1;                   ///< streaming multiprocessors
  std::size_t shared_bytes = 48 << 10;  ///< the most dynamic shared memory a block may ask for
  bool dependent = false;  ///< start while the kernel before still runs (sm_90 and later)
};

/// A launch with more dynamic shared memory than this asks the device for more than the 48 KiB that
/// dynamic and static shared memory have together otherwise; kernels have up to 16 KiB static.
inline constexpr std::size_t shared_bytes_unasked = 32 << 10;

/// The type that T is computed with.
template <class T>
struct wide {
  using type = float;
};
template <>
struct wide<double> {
  using type = double;
};
template <class T>
using Wide = typename wide<T>::type;

}  // namespace cuda_kernels
ETHER_END_INTERFACE

ETHER_BEGIN_NAMESPACE
namespace detail::cuda {
using namespace cuda_kernels;
}  // namespace detail::cuda
ETHER_END_NAMESPACE
