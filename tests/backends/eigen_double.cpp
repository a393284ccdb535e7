#include "conformance.hpp"

ETHER_CONFORMANCE(ether::EigenBackend<double>, "eigen_double")
