#pragma once

/// What the tests need to know of CUDA's 16-bit types, for which there is no std::numeric_limits.

#include "support/compare.hpp"

#include <ether/backends/cuda.hpp>

namespace test {

template <>
inline double unit_roundoff<__half>() {
  return 0x1p-11;
}
template <>
inline double unit_roundoff<__nv_bfloat16>() {
  return 0x1p-8;
}

}  // namespace test
