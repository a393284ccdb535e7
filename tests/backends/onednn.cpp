#include <ether/backends/onednn.hpp>

#include "support/compare.hpp"

namespace test {
template <>
struct ProductOperand<ether::OneDnnBackend<Eigen::bfloat16>> {  // z is rounded, s is not
  using type = Eigen::bfloat16;
};
}  // namespace test

#include "bank_conformance.hpp"
#include "conformance.hpp"

ETHER_BANK_CONFORMANCE(ether::OneDnnBackend<float>, "onednn_float")
ETHER_BANK_CONFORMANCE(ether::OneDnnBackend<Eigen::bfloat16>, "onednn_bfloat16")
ETHER_CONFORMANCE(ether::OneDnnBackend<float>, "onednn_float")
ETHER_CONFORMANCE(ether::OneDnnBackend<Eigen::bfloat16>, "onednn_bfloat16")
