#include "instantiate.cuh"

ETHER_INSTANTIATE(float)
ETHER_INSTANTIATE_WIDE(float)
