#pragma once

/// The kernels and their launchers, for nvcc: include this after <ether/backends/cuda.hpp> to do
/// without the library ether::cuda.

// clang-format off
#include <ether/backends/cuda/portability.cuh>      // what kernels may use of their compiler
#include <ether/backends/cuda/vector.cuh>           // 16 bytes at a time
#include <ether/backends/cuda/group_sum.cuh>        // sums over threads
#include <ether/backends/cuda/reflect_rows.cuh>     // rows through H
#include <ether/backends/cuda/reflect_each.cuh>     // rows with H of their own
#include <ether/backends/cuda/reflect_grad.cuh>     // gradients of u and v
#include <ether/backends/cuda/column_sums.cuh>      // sums down columns
#include <ether/backends/cuda/reflect_columns.cuh>  // columns through H
#include <ether/backends/cuda/row_dots.cuh>         // the dots of whole rows
#include <ether/backends/cuda/reflect_gemv.cuh>     // few tokens times a weight
#include <ether/backends/cuda/rms_norm.cuh>         // RMSNorm and H
// clang-format on
