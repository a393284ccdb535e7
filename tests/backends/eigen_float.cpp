#include "conformance.hpp"

ETHER_CONFORMANCE(ether::EigenBackend<float>, "eigen_float")
