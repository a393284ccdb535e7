#pragma once

/// What every backend must do, checked against the dense oracle in double. A backend's test file
/// is `#include "conformance.hpp"` and one line:
///
///     ETHER_CONFORMANCE(ether::EigenBackend<float>, "eigen_float")

#include "support/fixture.hpp"

namespace test {

/// The oracle's gradients of one side, and what they allow; found once, as they take long.
struct ExpectedGrads {
  Side side;
  Matrix values;
  Oracle::GradMagnitude magnitude{};
  Index roundings;

  ExpectedGrads(const Oracle& oracle, Side side_, const Matrix& x, const Matrix& grad_y)
      : side(side_),
        values(oracle.grad(side, x, grad_y)),
        roundings(x.rows() + oracle.in() + oracle.out()) {
    if (values.rows() != 0) magnitude = oracle.grad_magnitude(side, x, grad_y);
  }
};

/// Gradients of one side against `times` the oracle's.
template <class Backend, class P = typename Backend::Parameter>
void check_grads(const Adapter<P>& grads, const ExpectedGrads& once, double times) {
  const Matrix expected = times * once.values;
  if (expected.rows() == 0) {
    CHECK(grads.parameters(once.side).rows == 0);
    return;
  }
  // Where t or r of each token has been rounded to fewer digits, twice: errors that are independent.
  using Operand = typename ProductOperand<Backend>::type;
  const bool rounds = !std::is_same_v<Operand, P>;
  const double of_tokens = times * once.magnitude.tokens;
  const double rounded = rounds ? 2 * unit_roundoff<Operand>() * of_tokens : 0;
  const double allowed = tolerance<P, P>(once.roundings, times * once.magnitude.sums, 0) + rounded;
  CHECK(difference(to_double(grads.parameters(once.side)), expected, allowed) == "");
  // The tolerance is of use: without the gradient, or with a wrong element, the test would fail.
  if (grads.block_size(once.side) > 1) {
    CHECK(difference(Matrix::Zero(expected.rows(), expected.cols()), expected, allowed) != "");
    CHECK(allowed < (rounds ? 0.5 : 0.05) * expected.norm());
  }
}

template <class Backend>
void test_forward() {
  using T = typename Backend::Scalar;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    const Matrix x = to_double(f.host_x), bias = to_double(f.host_bias);
    const Matrix merged = f.oracle.merged();
    for (bool with_bias : {true, false}) {
      const ether::EtherLinear<Backend> layer(ctx, f.weight.const_view(), f.adapter,
                                              with_bias ? f.bias.view().data : nullptr);
      DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, c.pad);
      layer.forward(ctx, f.x.view(), y.view());
      const Matrix expected = linear(x, merged, with_bias ? bias : Matrix());
      const double magnitude =
          x.norm() * f.weight_magnitude() + std::sqrt(double(c.tokens)) * bias.norm();
      CHECK(difference(y.values(), expected,
                       layer_tolerance<Backend>(f.roundings(), magnitude, expected.norm())) == "");
      CHECK(y.surround_untouched());
    }
    CHECK(bit_difference<T>(f.x.host(), f.host_x) == "");
    CHECK(bit_difference<T>(f.weight.host(), f.host_weight) == "");
  });
}

/// forward that keeps s, and backward with it, in the same tolerances; where there is no output side
/// to be adapted, s is kept all the same.
template <class Backend>
void check_kept(typename Backend::Context& ctx, const Case& c, const Fixture<Backend>& f,
                const Matrix& expected_grad_x, const ExpectedGrads (&expected_grads)[2]) {
  using T = typename Backend::Scalar;
  using I = typename Backend::Intermediate;
  const Matrix x = to_double(f.host_x), bias = to_double(f.host_bias);
  DeviceMatrix<Backend, I> s(ctx, c.tokens, c.out, c.pad);
  DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, c.pad), grad_x(ctx, c.tokens, c.in, c.pad);
  f.layer.forward(ctx, f.x.view(), y.view(), s.view());
  const Matrix expected_s = linear(x, f.oracle.weight_in(), Matrix());
  const Matrix expected_y = linear(x, f.oracle.merged(), bias);
  const double magnitude = x.norm() * f.weight_magnitude();
  const double s_magnitude = x.norm() * f.oracle.h_norm() * f.oracle.weight.norm();
  const double allowed = layer_tolerance<Backend, I>(f.roundings(), s_magnitude, expected_s.norm());
  CHECK(difference(s.values(), expected_s, allowed) == "");
  CHECK(difference(Matrix::Zero(c.tokens, c.out), expected_s, allowed) != "");
  CHECK(difference(y.values(), expected_y,
                   layer_tolerance<Backend>(f.roundings(),
                                            magnitude + std::sqrt(double(c.tokens)) * bias.norm(),
                                            expected_y.norm())) == "");
  CHECK(s.surround_untouched());
  CHECK(y.surround_untouched());

  auto grads = Adapter<typename Backend::Parameter>::zeros_like(f.adapter);
  ether::BackwardArguments<Backend> arguments;
  arguments.x = f.x.view();
  arguments.grad_y = f.grad_y.view();
  arguments.grad_x = grad_x.view();
  arguments.s = s.const_view();
  f.layer.backward(ctx, arguments, grads);
  CHECK(difference(grad_x.values(), expected_grad_x,
                   layer_tolerance<Backend>(f.roundings(),
                                            to_double(f.host_grad_y).norm() * f.weight_magnitude(),
                                            expected_grad_x.norm())) == "");
  CHECK(grad_x.surround_untouched());
  for (const auto& once : expected_grads) check_grads<Backend>(grads, once, 1);
}

template <class Backend>
void test_backward() {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    const Matrix x = to_double(f.host_x), grad_y = to_double(f.host_grad_y);
    DeviceMatrix<Backend, T> grad_x(ctx, c.tokens, c.in, c.pad);
    auto grads = Adapter<P>::zeros_like(f.adapter);
    f.layer.backward(ctx, f.x.view(), f.grad_y.view(), grad_x.view(), grads);

    const Matrix expected = f.oracle.grad_x(grad_y);
    CHECK(difference(grad_x.values(), expected,
                     layer_tolerance<Backend>(f.roundings(), grad_y.norm() * f.weight_magnitude(),
                                              expected.norm())) == "");
    CHECK(grad_x.surround_untouched());

    const ExpectedGrads once[] = {{f.oracle, Side::input, x, grad_y},
                                  {f.oracle, Side::output, x, grad_y}};
    for (const auto& expected_grads : once) check_grads<Backend>(grads, expected_grads, 1);

    // The same without grad_x; and accumulates.
    auto more = Adapter<P>::zeros_like(f.adapter);
    f.layer.backward(ctx, f.x.view(), f.grad_y.view(), {}, more);
    for (const auto& expected_grads : once) check_grads<Backend>(more, expected_grads, 1);
    f.layer.backward(ctx, f.x.view(), f.grad_y.view(), {}, more);
    for (const auto& expected_grads : once) check_grads<Backend>(more, expected_grads, 2);

    check_kept<Backend>(ctx, c, f, expected, once);
  });
}

template <class Backend>
void test_merge() {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    const Matrix expected = f.oracle.merged();
    DeviceMatrix<Backend, T> merged(ctx, c.out, c.in, c.pad);
    f.layer.merge(ctx, merged.view());
    CHECK(difference(merged.values(), expected,
                     tolerance<P, T>(f.roundings(), f.weight_magnitude(), expected.norm())) == "");
    CHECK(merged.surround_untouched());
    CHECK(bit_difference<T>(f.weight.host(), f.host_weight) == "");

    // In place, into the wrapped memory itself: the same bits.
    f.layer.merge(ctx, f.weight.view());
    CHECK(bit_difference<T>(f.weight.host(), merged.host()) == "");
    CHECK(f.weight.surround_untouched());
  });
}

/// W -> merge -> unmerge -> W, within rounding times the condition numbers of both sides.
template <class Backend>
void test_unmerge() {
  using T = typename Backend::Scalar;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    double condition = 1;
    for (Side side : {Side::input, Side::output}) {
      double worst = 1;
      for (Index b = 0; b < f.adapter.blocks(side) && f.adapter.terms(side) != 0; ++b)
        worst = std::max(worst, ether::condition_number(
                                    ether::eigenvalues(c.config.variant, c.config.strength,
                                                       ether::block_sine(f.adapter, side, b)),
                                    f.adapter.block_size(side)));
      condition *= worst;
    }
    DeviceMatrix<Backend, T> merged(ctx, c.out, c.in, c.pad);
    f.layer.merge(ctx, merged.view());
    if (!(condition <= 900)) return;  // 1,000 is where unmerge may refuse a side
    f.layer.unmerge(ctx, merged.view());
    const Matrix w = to_double(f.host_weight);
    const double roundoff =
        static_cast<double>(f.roundings()) * unit_roundoff<typename Backend::Parameter>() +
        unit_roundoff<T>();
    CHECK(difference(merged.values(), w, 4 * condition * roundoff * f.weight_magnitude()) == "");
    CHECK(merged.surround_untouched());
  });
}

/// The free row operations around a product of the caller's own give forward.
template <class Backend>
void test_reflect() {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    const ether::PreparedAdapter<Backend> prepared(ctx, f.adapter);
    const Matrix x = to_double(f.host_x), s = to_double(f.host_grad_y);
    const double h = f.oracle.h_norm();

    DeviceMatrix<Backend, T> z(ctx, c.tokens, c.in, c.pad);
    for (Index row = 0, count = 0; row < c.out; row += count) {
      count = rows_alike(prepared, row);
      REQUIRE(count >= 1);
      ether::reflect_input(ctx, prepared, row, f.x.view(), z.view());
      for (Index o : {row, row + count - 1}) {
        const Matrix expected = product(x, f.oracle.h_in(o));
        CHECK(difference(z.values(), expected,
                         tolerance<P, T>(f.roundings(), h * x.norm(), expected.norm())) == "");
      }
    }
    CHECK(z.surround_untouched());

    DeviceMatrix<Backend, T> y(ctx, f.host_grad_y, c.pad);
    ether::reflect_output(ctx, prepared, y.view(), y.view());  // in place
    const Matrix expected = product(s, f.oracle.h_out());
    CHECK(difference(y.values(), expected,
                     tolerance<P, T>(f.roundings(), h * s.norm(), expected.norm())) == "");
    CHECK(y.surround_untouched());
  });
}

template <class Backend>
void test_set_adapter() {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  typename Backend::Context ctx;
  for_each_case([&](const Case& c) {
    Fixture<Backend> f(ctx, c);
    DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, 0), again(ctx, c.tokens, c.out, 0);
    auto other = random_adapter<P>(c.config, c.out, c.in, 99);
    f.layer.set_adapter(ctx, other);
    f.layer.forward(ctx, f.x.view(), y.view());
    ether::EtherLinear<Backend> fresh(ctx, f.weight.const_view(), other, f.bias.view().data);
    fresh.forward(ctx, f.x.view(), again.view());
    CHECK(bit_difference<T>(y.host(), again.host()) == "");

    // Strength 0 is the frozen layer.
    AdapterConfig off = c.config;
    off.strength = 0;
    f.layer.set_adapter(ctx, random_adapter<P>(off, c.out, c.in, 98));
    f.layer.forward(ctx, f.x.view(), y.view());
    const Matrix x = to_double(f.host_x), bias = to_double(f.host_bias);
    const Matrix expected = linear(x, f.oracle.weight, bias);
    CHECK(difference(y.values(), expected,
                     layer_tolerance<Backend>(f.roundings(),
                                              x.norm() * f.oracle.weight.norm() + bias.norm(),
                                              expected.norm())) == "");
    DeviceMatrix<Backend, T> merged(ctx, c.out, c.in, c.pad);
    f.layer.merge(ctx, merged.view());
    CHECK(bit_difference<T>(merged.host(), f.host_weight) == "");
  });
}

/// No tokens: nothing is read, written or thrown.
template <class Backend>
void test_no_tokens() {
  using T = typename Backend::Scalar;
  typename Backend::Context ctx;
  for_each_case([&](const Case& with_tokens) {
    Case c = with_tokens;
    c.tokens = 0;
    Fixture<Backend> f(ctx, c);
    f.layer.forward(ctx, {nullptr, 0, c.in}, {nullptr, 0, c.out});
    auto grads = Adapter<typename Backend::Parameter>::zeros_like(f.adapter);
    std::fill_n(grads.data(), grads.size(), 3);
    const ether::MatrixView<T> none{nullptr, 0, c.in};
    f.layer.backward(ctx, none, {nullptr, 0, c.out}, none, grads);
    CHECK(std::all_of(grads.data(), grads.data() + grads.size(), [](auto g) { return g == 3; }));
  });
}

}  // namespace test

#define ETHER_CONFORMANCE(Backend, name)                                                  \
  TEST_CASE("forward equals the dense layer: " name) { test::test_forward<Backend>(); }   \
  TEST_CASE("backward equals the dense layer: " name) { test::test_backward<Backend>(); } \
  TEST_CASE("merge equals the dense product: " name) { test::test_merge<Backend>(); }     \
  TEST_CASE("unmerge undoes merge: " name) { test::test_unmerge<Backend>(); }             \
  TEST_CASE("the free row operations: " name) { test::test_reflect<Backend>(); }          \
  TEST_CASE("set_adapter and strength 0: " name) { test::test_set_adapter<Backend>(); }   \
  TEST_CASE("no tokens: " name) { test::test_no_tokens<Backend>(); }
