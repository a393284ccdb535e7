#pragma once

/// The kernels of the methods that the layer is compared with, as their callers see them: any
/// compiler reads this. Defined in the .cuh files beside it, compiled in baseline_kernels.cu for
/// float, __half and __nv_bfloat16.
///
/// Both are enqueued on where.stream, overwrite z, which is not x, compute in Wide<T>, and round
/// once. False, and nothing done, for sizes or addresses that they do not suit.

#include <ether/backends/cuda/launch.hpp>
#include <ether/matrix_view.hpp>

namespace bench {

using ether::Index;
using ether::MatrixView;
using ether::detail::cuda::Launch;
using ether::detail::cuda::Wide;

/// HRA: z (tokens, width) = x H_r ... H_1, H_k = I - 2 û_k û_k^T; unit (r, width) holds û.
/// For r >= 1 and a width of up to 4096.
template <class T>
bool householder_chain(const Launch& where, MatrixView<const T> unit, MatrixView<const T> x,
                       MatrixView<T> z);

/// The size b of OFT's blocks that block_product is for.
inline constexpr int oft_block = 32;

/// OFT: z (tokens, width) = x diag(H_1, ..., H_n), each H_i (32, 32); h (width, 32) holds them one
/// above the other. For rows that begin at multiples of 16 bytes.
template <class T>
bool block_product(const Launch& where, MatrixView<const T> h, MatrixView<const T> x,
                   MatrixView<T> z);

}  // namespace bench
