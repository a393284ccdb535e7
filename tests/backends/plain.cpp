#include "plain_backend.hpp"

#include "bank_conformance.hpp"
#include "conformance.hpp"

ETHER_BANK_CONFORMANCE(test::PlainBackend<double>, "plain_double")
ETHER_CONFORMANCE(test::PlainBackend<double>, "plain_double")
ETHER_CONFORMANCE(test::PlainBackend<Eigen::bfloat16>, "plain_bfloat16")
