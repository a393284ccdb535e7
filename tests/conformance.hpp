#pragma once

/// What every backend must do, checked against the dense oracle in double. A backend's test file
/// is `#include "conformance.hpp"` and one line:
///
///     ETHER_CONFORMANCE(ether::EigenBackend<float>, "eigen_float")

#include "support/fixture.hpp"

namespace test {

/// Gradients of one side against the oracle's. The sums behind them are over tokens of
/// (ŵ.t) r + (ŵ.r) t, at most 2 |t_b| |r_b| for each block, then divided by the vector's length.
template <class Backend, class P = typename Backend::Parameter>
void check_grads(const Adapter<P>& grads, const Oracle& oracle, Side side, const Matrix& x,
                 const Matrix& grad_y, double times) {
  const Matrix& raw = side == Side::input ? oracle.input : oracle.output;
  if (raw.rows() == 0) {
    CHECK(grads.parameters(side).rows == 0);
    return;
  }
  const Matrix expected =
      times * (side == Side::input ? oracle.grad_input(x, grad_y) : oracle.grad_output(x, grad_y));
  const Matrix t = side == Side::input ? x : Matrix(x * oracle.weight_in().transpose());
  const Matrix r = side == Side::input ? Matrix(grad_y * oracle.h_out() * oracle.weight) : grad_y;
  const Index blocks = grads.blocks(side), size = raw.cols() / blocks;
  double squares = 0, of_tokens = 0, shortest = raw.norm();
  for (Index b = 0; b < blocks; ++b) {
    const double product =
        t.middleCols(b * size, size).norm() * r.middleCols(b * size, size).norm();
    squares += product * product;
    for (Index token = 0; token < t.rows(); ++token)
      of_tokens += t.block(token, b * size, 1, size).squaredNorm() *
                   r.block(token, b * size, 1, size).squaredNorm();
    for (Index k = 0; k < raw.rows(); ++k)
      shortest = std::min(shortest, raw.block(k, b * size, 1, size).norm());
  }
  const double c = 2 * std::abs(oracle.config.strength);
  const double scale = times * oracle.h_norm() * 2 * c / shortest;
  // Where t or r of each token has been rounded to fewer digits, twice: errors that are independent.
  const bool rounds = !std::is_same_v<typename Backend::Intermediate, P>;
  const double rounded =
      rounds ? 2 * unit_roundoff<typename Backend::Intermediate>() * std::sqrt(of_tokens) : 0;
  const double allowed =
      tolerance<P, P>(x.rows() + oracle.in() + oracle.out(), scale * std::sqrt(squares), 0) +
      scale * rounded;
  CHECK(difference(to_double(grads.parameters(side)), expected, allowed) == "");
  // The tolerance is of use: without the gradient, or with a wrong element, the test would fail.
  if (size > 1) {
    CHECK(difference(Matrix::Zero(raw.rows(), raw.cols()), expected, allowed) != "");
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
    for (bool with_bias : {true, false}) {
      const ether::EtherLinear<Backend> layer(ctx, f.weight.const_view(), f.adapter,
                                              with_bias ? f.bias.view().data : nullptr);
      DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, c.pad);
      layer.forward(ctx, f.x.view(), y.view());
      const Matrix expected = f.oracle.forward(x, with_bias ? bias : Matrix());
      const double magnitude =
          x.norm() * f.weight_magnitude() + std::sqrt(double(c.tokens)) * bias.norm();
      CHECK(difference(y.values(), expected,
                       tolerance<typename Backend::Intermediate, T>(f.roundings(), magnitude,
                                                                    expected.norm())) == "");
      CHECK(y.surround_untouched());
    }
    CHECK(bit_difference<T>(f.x.host(), f.host_x) == "");
    CHECK(bit_difference<T>(f.weight.host(), f.host_weight) == "");
  });
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

    for (Side side : {Side::input, Side::output})
      check_grads<Backend>(grads, f.oracle, side, x, grad_y, 1);

    // The same without grad_x; and accumulates.
    auto more = Adapter<P>::zeros_like(f.adapter);
    f.layer.backward(ctx, f.x.view(), f.grad_y.view(), {}, more);
    for (Side side : {Side::input, Side::output})
      check_grads<Backend>(more, f.oracle, side, x, grad_y, 1);
    f.layer.backward(ctx, f.x.view(), f.grad_y.view(), {}, more);
    for (Side side : {Side::input, Side::output})
      check_grads<Backend>(more, f.oracle, side, x, grad_y, 2);
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
    Oracle one_row = f.oracle;  // with W = a row of ones its merged weight shows H_in's action
    for (Index row = 0, count = 0; row < c.out; row += count) {
      count = rows_alike(prepared, row);
      REQUIRE(count >= 1);
      ether::reflect_input(ctx, prepared, row, f.x.view(), z.view());
      for (Index o : {row, row + count - 1}) {
        Matrix h_row = Matrix::Identity(c.in, c.in);
        if (f.oracle.input.rows() != 0) {
          const Index n = c.config.input_blocks, size = c.in / n;
          for (Index k = 0; k < n; ++k)
            h_row.block(k * size, k * size, size, size) =
                f.oracle.block(f.oracle.input, n, f.oracle.block_of(o, k));
        }
        const Matrix expected = x * h_row;
        CHECK(difference(z.values(), expected,
                         tolerance<P, T>(f.roundings(), h * x.norm(), expected.norm())) == "");
      }
    }
    CHECK(z.surround_untouched());

    DeviceMatrix<Backend, T> y(ctx, f.host_grad_y, c.pad);
    ether::reflect_output(ctx, prepared, y.view(), y.view());  // in place
    const Matrix expected = s * f.oracle.h_out();
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
    Matrix expected = x * f.oracle.weight.transpose();
    expected.rowwise() += bias.row(0);
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
