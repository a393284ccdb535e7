#include "instantiate.cuh"

ETHER_INSTANTIATE(double)
ETHER_INSTANTIATE_WIDE(double)
