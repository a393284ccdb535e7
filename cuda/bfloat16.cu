#include "instantiate.cuh"

#include <cuda_bf16.h>

ETHER_INSTANTIATE(__nv_bfloat16)
ETHER_INSTANTIATE_ROWS(__nv_bfloat16, float)
ETHER_INSTANTIATE_ROWS(float, __nv_bfloat16)
ETHER_INSTANTIATE_EACH(__nv_bfloat16, __nv_bfloat16)
