#include "conformance.hpp"

ETHER_CONFORMANCE(ether::EigenBackend<Eigen::half>, "eigen_half")
