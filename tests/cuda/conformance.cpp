#include "cuda/cuda_types.hpp"

#include "bank_conformance.hpp"
#include "conformance.hpp"

ETHER_BANK_CONFORMANCE(ether::CudaBackend<float>, "cuda_float")
ETHER_BANK_CONFORMANCE(ether::CudaBackend<__nv_bfloat16>, "cuda_bfloat16")
ETHER_CONFORMANCE(ether::CudaBackend<double>, "cuda_double")
ETHER_CONFORMANCE(ether::CudaBackend<float>, "cuda_float")
ETHER_CONFORMANCE(ether::CudaBackend<__half>, "cuda_half")
ETHER_CONFORMANCE(ether::CudaBackend<__nv_bfloat16>, "cuda_bfloat16")
