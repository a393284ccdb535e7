/// The seam's contract on the CUDA backend's own kernels. Every launch runs with its threads in three
/// orders, whose results must be equal bit by bit.

#include "cuda/emulated_backend.hpp"

#include "bank_conformance.hpp"
#include "conformance.hpp"

ETHER_BANK_CONFORMANCE(test::EmulatedBackend<float>, "emulated_cuda_float")
ETHER_BANK_CONFORMANCE(test::EmulatedBackend<Eigen::bfloat16>, "emulated_cuda_bfloat16")

TEST_CASE("emulated_cuda: banks of 16-bit vectors", "[bank]") {
  test::test_bank_forward<test::EmulatedBackend<Eigen::bfloat16>, Eigen::bfloat16>();
}

TEST_CASE("emulated_cuda: an id that is no slot is the identity, and reported later", "[bank]") {
  test::EmulatedContext ctx;
  test::BankFixture<test::EmulatedBackend<float>> f(ctx, 24, 40, 4, test::Sides::both,
                                                    test::Variant::ether_plus);
  f.bank.check(ctx);
  for (const std::int32_t wrong : {24, 1024, -2}) {
    const auto y = f.forward(ctx, {1, wrong, -1, 2});
    CHECK(test::bit_difference<float>(y, f.forward(ctx, {1, -1, -1, 2})) == "");
    CHECK_REFUSED(f.bank.check(ctx), ether::shape_error, "neither a slot", "0 to 23", "-1");
    f.bank.check(ctx);
  }
}

ETHER_CONFORMANCE(test::EmulatedBackend<double>, "emulated_cuda_double")
ETHER_CONFORMANCE(test::EmulatedBackend<Eigen::bfloat16>, "emulated_cuda_bfloat16")
