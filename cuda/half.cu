#include "instantiate.cuh"

#include <cuda_fp16.h>

ETHER_INSTANTIATE(__half)
ETHER_INSTANTIATE_ROWS(__half, float)
ETHER_INSTANTIATE_ROWS(float, __half)
ETHER_INSTANTIATE_EACH(__half, __half)
