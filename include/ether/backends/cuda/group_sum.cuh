#pragma once

/// Sums over the threads of a group, in an order that never changes.

#include <ether/backends/cuda/portability.cuh>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

inline constexpr int warp = 32;

/// Elements of shared memory that group_sum needs for one sum of `count` values.
template <int lanes, int count>
inline constexpr int group_sum_scratch = lanes > warp ? count* lanes / warp : 1;

/// Replaces value[k] by its sum over the `lanes` threads of a group: 2 to 32 neighbours of a warp,
/// or, above, the whole thread block, which meets at one barrier. A block that sums again before it
/// has met elsewhere must give other `scratch`, since some threads may still be reading this one.
template <int lanes, int count, class W>
ETHER_DEVICE void group_sum(W (&value)[count], W* scratch) {
  constexpr int width = lanes < warp ? lanes : warp;
  ETHER_UNROLL
  for (int mask = width / 2; mask > 0; mask /= 2) {
    ETHER_UNROLL
    for (int k = 0; k < count; ++k) value[k] += shuffle_xor(value[k], mask, width);
  }
  if constexpr (lanes > warp) {
    constexpr int warps = lanes / warp;
    const int own = static_cast<int>(threadIdx.x) / warp;
    if (threadIdx.x % warp == 0) {
      ETHER_UNROLL
      for (int k = 0; k < count; ++k) scratch[k * warps + own] = value[k];
    }
    barrier();
    ETHER_UNROLL
    for (int k = 0; k < count; ++k) {
      value[k] = 0;
      for (int w = 0; w < warps; ++w) value[k] += scratch[k * warps + w];
    }
  } else {
    (void)scratch;
  }
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
