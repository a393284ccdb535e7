/// The seam's contract on the CUDA backend's own kernels. Every launch runs with its threads in three
/// orders, whose results must be equal bit by bit.

#include "cuda/emulated_backend.hpp"

#include "conformance.hpp"

ETHER_CONFORMANCE(test::EmulatedBackend<double>, "emulated_cuda_double")
ETHER_CONFORMANCE(test::EmulatedBackend<Eigen::bfloat16>, "emulated_cuda_bfloat16")
