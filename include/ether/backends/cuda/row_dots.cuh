#pragma once

/// All dot products of a whole row, or of several, by one thread block: for kernels that go on with
/// the reflected row themselves.
///
/// A row is cut into segments, as long as a warp reads at once and never longer than a block of h.
/// Warps take segments in turn.

#include <ether/backends/cuda/reflect_rows.cuh>

#include <cmath>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

inline constexpr int row_threads = 256, row_warps = row_threads / warp;

struct Segments {
  int of_block, blocks, size,
      length;  // segments of a block; blocks; elements of a block, a segment

  ETHER_HOST_DEVICE Segments(Index blocks_, Index block_size, int vector)
      : of_block(static_cast<int>((block_size + warp * vector - 1) / (warp * vector))),
        blocks(static_cast<int>(blocks_)),
        size(static_cast<int>(block_size)),
        length(warp * vector) {}
  ETHER_HOST_DEVICE int count() const { return of_block * blocks; }

  /// The first element of this thread in a segment, or -1 where it has none.
  ETHER_DEVICE int element(int segment, int vector) const {
    const int in_block =
        segment % of_block * length + static_cast<int>(threadIdx.x) % warp * vector;
    return in_block < size ? segment / of_block * size + in_block : -1;
  }
};

/// The vectors of h for the blocks of a row.
template <int vector, class W>
ETHER_DEVICE const W* unit_at(const Reflection<W>& h, int k, int element) {
  const int size = static_cast<int>(h.block_size);
  const Index block = block_of(h, 0, element / size);
  return h.unit.data + k * h.unit.stride + block * size + element % size;
}

/// dot[k] = c_k ŵ_k . x over the block that `element` lies in; `partial` has one row of `stride`
/// values for each segment, of which the first are the terms'.
template <int terms, class W>
ETHER_DEVICE void dots_of_block(const Reflection<W>& h, const Segments& segments, int segment,
                                const W* partial, int stride, W (&dot)[terms]) {
  const int block = segment / segments.of_block;
  const Index own = block_of(h, 0, block);
  ETHER_UNROLL
  for (int k = 0; k < terms; ++k) {
    dot[k] = 0;
    for (int s = 0; s < segments.of_block; ++s)
      dot[k] += partial[(block * segments.of_block + s) * stride + k];
    dot[k] *= h.coefficient.data[k * h.coefficient.stride + own];
  }
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
