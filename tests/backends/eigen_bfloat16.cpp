#include "conformance.hpp"

ETHER_CONFORMANCE(ether::EigenBackend<Eigen::bfloat16>, "eigen_bfloat16")
