#include "block_product.cuh"
#include "householder_chain.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// clang-format off
#define ETHER_BENCH_BASELINE_KERNELS(T)                                                     \
  template bool bench::householder_chain<T>(const Launch&, MatrixView<const T>,             \
                                            MatrixView<const T>, MatrixView<T>);            \
  template bool bench::block_product<T>(const Launch&, MatrixView<const T>,                 \
                                        MatrixView<const T>, MatrixView<T>);
// clang-format on
ETHER_BENCH_BASELINE_KERNELS(float)
ETHER_BENCH_BASELINE_KERNELS(__half)
ETHER_BENCH_BASELINE_KERNELS(__nv_bfloat16)
