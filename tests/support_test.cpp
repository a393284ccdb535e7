// Negative controls: the comparison helpers fail when they should, and the oracle is what it says.

#include "support/check_message.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <limits>

using test::difference;
using test::Matrix;

TEST_CASE("difference fails where it must") {
  const Matrix a = test::random_matrix<double>(5, 7, 1);
  CHECK(difference(a, a, 0) == "");
  Matrix b = a;
  b(4, 6) += 1e-3;
  CHECK(difference(b, a, 2e-3) == "");
  CHECK(difference(b, a, 0.5e-3) != "");
  CHECK(difference(a.topRows(4), a, 1e9) != "");
  b(4, 6) = std::numeric_limits<double>::quiet_NaN();
  CHECK(difference(b, a, 1e9) != "");
  CHECK(difference(a, b, 1e9) != "");
  CHECK(difference(a, a, std::numeric_limits<double>::quiet_NaN()) != "");
  b(4, 6) = std::numeric_limits<double>::infinity();
  CHECK(difference(b, a, 1e9) != "");
}

TEST_CASE("bit_difference fails where it must") {
  const test::MatrixOf<float> a = test::random_matrix<float>(3, 4, 1);
  test::MatrixOf<float> b = a;
  CHECK(test::bit_difference<float>(a, b) == "");
  b(2, 3) = std::nextafter(b(2, 3), 9.f);
  CHECK(test::bit_difference<float>(a, b) != "");
  CHECK(test::bit_difference<float>(a, a.topRows(2).eval()) != "");
  const test::MatrixOf<float> zero = test::MatrixOf<float>::Zero(1, 1);
  CHECK(test::bit_difference<float>(zero, (-zero).eval()) != "");
}

TEST_CASE("refusal sees each thing that is wrong with a refusal") {
  const auto shape = [] { throw ether::shape_error("x is (4, 5)"); };
  CHECK(test::refusal<ether::shape_error>(shape, {"x is", "5)"}) == "");
  CHECK(test::refusal<ether::error>(shape, {}) == "");
  CHECK(test::refusal<ether::parameter_error>(shape, {"x is"}) != "");  // another type
  CHECK(test::refusal<ether::shape_error>(shape, {"x is", "6)"}) != "");
  CHECK(test::refusal<ether::error>([] {}, {}) != "");
  CHECK(test::refusal<ether::error>([] { throw std::runtime_error("x"); }, {}) != "");
}

TEST_CASE("tolerance grows with roundings and counts the final rounding once") {
  const double f = test::unit_roundoff<float>(), h = test::unit_roundoff<Eigen::bfloat16>();
  CHECK(f == std::ldexp(1.0, -24));
  CHECK(h == std::ldexp(1.0, -8));
  CHECK(test::unit_roundoff<Eigen::half>() == std::ldexp(1.0, -11));
  CHECK(test::tolerance<float, float>(9, 3, 5) == Approx(4 * 3 * 3 * f));
  CHECK(test::tolerance<float, Eigen::bfloat16>(9, 3, 5) == Approx(4 * 3 * 3 * f + 5 * h));
}

TEST_CASE("surround_untouched sees a write outside the matrix") {
  using Backend = ether::EigenBackend<float>;
  ether::EigenContext ctx;
  test::DeviceMatrix<Backend, float> m(ctx, 3, 4, 3);
  CHECK(m.surround_untouched());
  m.view()(2, 3) = 1;
  CHECK(m.surround_untouched());
  SECTION("behind a row") { m.view().row(1)[4] = 1; }
  SECTION("before a row") { m.view().row(1)[-1] = 1; }
  SECTION("below") { m.view().row(3)[0] = 1; }
  SECTION("above") { m.view().row(-1)[0] = 1; }
  CHECK_FALSE(m.surround_untouched());
}

TEST_CASE("the oracle's gradients are those of finite differences") {
  for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
    for (auto layout : {ether::BlockLayout::diagonal, ether::BlockLayout::row_chunk}) {
      ether::AdapterConfig config;
      config.variant = variant;
      config.sides = ether::Sides::both;
      config.layout = layout;
      config.input_blocks = 4;
      config.output_blocks = 2;
      config.strength = 0.8;
      auto adapter = test::random_adapter<double>(config, 10, 12, 3);
      const Matrix w = test::random_matrix<double>(10, 12, 4);
      const Matrix x = test::random_matrix<double>(6, 12, 5);
      const Matrix g = test::random_matrix<double>(6, 10, 6);
      const auto loss = [&] {
        return test::Oracle(adapter, w).forward(x, Matrix()).cwiseProduct(g).sum();
      };
      const test::Oracle oracle(adapter, w);
      const double h = 1e-6;
      for (auto side : {ether::Side::input, ether::Side::output}) {
        const auto raw = adapter.parameters(side);
        Matrix numeric(raw.rows, raw.cols);
        for (ether::Index i = 0; i < numeric.size(); ++i) {
          const double start = raw.data[i];
          raw.data[i] = start + h;
          const double up = loss();
          raw.data[i] = start - h;
          numeric.data()[i] = (up - loss()) / (2 * h);
          raw.data[i] = start;
        }
        const Matrix exact =
            side == ether::Side::input ? oracle.grad_input(x, g) : oracle.grad_output(x, g);
        // Truncation h^2 and cancellation u / h, times the loss's scale.
        CHECK(exact.norm() > 1);
        CHECK(difference(numeric, exact, 1e-7 * x.norm() * w.norm() * g.norm()) == "");
      }
    }
}
