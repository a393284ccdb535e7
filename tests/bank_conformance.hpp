#pragma once

/// What a backend's banks must do, checked against the dense oracle in double.
///
///     ETHER_BANK_CONFORMANCE(ether::EigenBackend<float>, "eigen_float")

#include "support/check_message.hpp"
#include "support/fixture.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

namespace test {

/// A bank whose slots hold all that its limits allow, beside empty ones, and a layer.
template <class Backend, class Unit = typename Backend::Parameter>
struct BankFixture {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Bank = ether::AdapterBank<Backend, Unit>;

  BankFixture(Context& ctx, Index out_, Index in_, Index tokens_, Sides sides, Variant variant)
      : out(out_),
        in(in_),
        tokens(tokens_),
        host_w(random_matrix<T>(out, in, 1)),
        host_bias(random_matrix<T>(1, out, 2)),
        host_x(random_matrix<T>(tokens, in, 3)),
        host_grad_y(random_matrix<T>(tokens, out, 4)),
        w(ctx, host_w, 3),
        bias(ctx, host_bias, 0),
        x(ctx, host_x, 5),
        grad_y(ctx, host_grad_y, 1),
        layer(ctx, w.const_view(), bias.view().data),
        bank(ctx, limits(sides, variant), out, in, capacity) {
    Index slot = 1;  // the first and the last stay empty
    for (const Variant v : {Variant::ether, Variant::ether_plus})
      for (const Sides s : {Sides::input, Sides::output, Sides::both})
        for (const Index blocks : {1, 4, 2}) {
          if (v == Variant::ether_plus && variant == Variant::ether) continue;
          if (s != sides && sides != Sides::both) continue;
          AdapterConfig config;
          config.variant = v;
          config.sides = s;
          config.input_blocks = std::gcd(in, 3 * blocks);
          config.output_blocks = std::gcd(out, blocks);
          config.strength = slot % 3 == 0 ? -0.75 : 1;
          adapters[static_cast<std::size_t>(slot)] = random_adapter<P>(config, out, in, 10 + slot);
          bank.set(ctx, slot, *adapters[static_cast<std::size_t>(slot)]);
          ++slot;
        }
    used = slot;
    std::mt19937 random(5);
    for (Index r = 0; r < tokens; ++r) {
      // Runs of one adapter and of none, and each row another one.
      const bool anew = r < 2 || r % 3 == 0 || r > tokens / 2;
      ids.push_back(anew ? static_cast<std::int32_t>(random() % std::uint32_t(used + 1)) - 1
                         : ids.back());
    }
    if (tokens > 2) ids[2] = capacity - 1;
  }

  static AdapterConfig limits(Sides sides, Variant variant) {
    AdapterConfig config;
    config.sides = sides;
    config.variant = variant;
    return config;
  }

  /// What the rows with an id multiply by: W', in double.
  Matrix merged(std::int32_t id) const {
    return is_adapted(id) ? oracle(id).merged() : to_double(host_w);
  }
  Oracle oracle(std::int32_t id) const {
    return Oracle(*adapters[static_cast<std::size_t>(id)], to_double(host_w));
  }
  bool is_adapted(std::int32_t id) const {
    return id >= 0 && adapters[static_cast<std::size_t>(id)].has_value();
  }
  std::vector<Index> rows_of(std::int32_t id) const {
    std::vector<Index> rows;
    for (Index r = 0; r < tokens; ++r)
      if (ids[static_cast<std::size_t>(r)] == id) rows.push_back(r);
    return rows;
  }

  /// W' of each slot differs; a row is computed by itself.
  Matrix each(const Matrix& from, const Matrix& bias_, bool transposed) const {
    Matrix result(tokens, transposed ? out : in);
    for (std::int32_t id = -1; id < capacity; ++id) {
      const auto rows = rows_of(id);
      if (rows.empty()) continue;
      const Matrix w_of = merged(id);
      for (const Index r : rows)
        result.row(r) = transposed ? linear(from.row(r), w_of, bias_) : product(from.row(r), w_of);
    }
    return result;
  }

  /// |H| is at most 3 on each side.
  double magnitude() const { return 9 * to_double(host_w).norm(); }
  Index roundings() const { return 2 * (in + out) + 20; }

  /// ids in backend memory.
  typename Backend::template Buffer<std::int32_t> device_ids(
      Context& ctx, const std::vector<std::int32_t>& of) const {
    typename Backend::template Buffer<std::int32_t> buffer(ctx, 1, Index(of.size()));
    Backend::copy_in(ctx, MatrixView<const std::int32_t>{of.data(), Index{1}, Index(of.size())},
                     buffer.view());
    Backend::synchronize(ctx);
    return buffer;
  }

  MatrixOf<T> forward(Context& ctx, const std::vector<std::int32_t>& of) const {
    const auto buffer = device_ids(ctx, of);
    DeviceMatrix<Backend, T> y(ctx, tokens, out, 3);
    layer.forward(ctx, x.const_view(), y.view(), bank, buffer.view().data);
    CHECK(y.surround_untouched());
    return y.host();
  }

  template <class U>
  using MatrixView = ether::MatrixView<U>;
  static constexpr Index capacity = 24;
  Index out, in, tokens, used = 0;
  MatrixOf<T> host_w, host_bias, host_x, host_grad_y;
  DeviceMatrix<Backend, T> w, bias, x, grad_y;
  ether::EtherLinear<Backend> layer;
  Bank bank;
  std::array<std::optional<Adapter<P>>, capacity> adapters;
  std::vector<std::int32_t> ids;
};

/// Sizes on every side of a backend's thresholds, blocks that are whole vectors and not.
template <class Body>
void for_each_bank_shape(Body&& body) {
  struct Shape {
    Index out, in, tokens;
  };
  for (const Shape& s :
       {Shape{7, 5, 1}, {24, 40, 3}, {57, 93, 9}, {40, 24, 27}, {132, 66, 70}, {96, 270, 300}})
    for (const Sides sides : {Sides::input, Sides::output, Sides::both})
      for (const Variant variant : {Variant::ether, Variant::ether_plus}) {
        INFO("weight (" << s.out << ", " << s.in << "), tokens " << s.tokens << ", sides "
                        << to_string(sides) << ", " << to_string(variant));
        body(s.out, s.in, s.tokens, sides, variant);
      }
}

template <class Backend, class Unit>
void test_bank_forward() {
  typename Backend::Context ctx;
  for_each_bank_shape([&](Index out, Index in, Index tokens, Sides sides, Variant variant) {
    const BankFixture<Backend, Unit> f(ctx, out, in, tokens, sides, variant);
    const Matrix x = to_double(f.host_x), bias = to_double(f.host_bias);
    const Matrix expected = f.each(x, bias, true);
    const double magnitude = x.norm() * f.magnitude() + std::sqrt(double(tokens)) * bias.norm();
    // A rounded ŵ moves H by at most 2 |c| u, c as large as 2.
    const double of_units = f.bank.trainable ? 0 : 8 * unit_roundoff<Unit>() * magnitude / 3;
    const double allowed =
        layer_tolerance<Backend>(f.roundings(), magnitude, expected.norm()) + of_units;
    CHECK(difference(to_double(f.forward(ctx, f.ids)), expected, allowed) == "");
    // The tolerance is of use: with the ids of other rows it would fail, unless it is 16-bit wide.
    using Operand = typename ProductOperand<Backend>::type;
    if (tokens > 3 && sizeof(Operand) > 2 && f.bank.trainable) {
      auto wrong = f.ids;
      std::rotate(wrong.begin(), wrong.begin() + 1, wrong.end());
      CHECK(difference(to_double(f.forward(ctx, wrong)), expected, allowed) != "");
    }
  });
}

/// A row's bits depend on its own id alone, and those of a row without adapter are the frozen layer's.
template <class Backend>
void test_bank_rows_are_independent() {
  using T = typename Backend::Scalar;
  typename Backend::Context ctx;
  for_each_bank_shape([&](Index out, Index in, Index tokens, Sides sides, Variant variant) {
    const BankFixture<Backend> f(ctx, out, in, tokens, sides, variant);
    DeviceMatrix<Backend, T> frozen(ctx, tokens, out, 0);
    f.layer.forward(ctx, f.x.const_view(), frozen.view());
    const std::vector<std::int32_t> none(static_cast<std::size_t>(tokens), -1);
    const MatrixOf<T> mixed = f.forward(ctx, f.ids), unadapted = frozen.host();
    CHECK(bit_difference<T>(f.forward(ctx, none), unadapted) == "");
    for (const std::int32_t id : {-1, 1, 3}) {
      const std::vector<std::int32_t> alike(static_cast<std::size_t>(tokens), id);
      const MatrixOf<T> same = f.forward(ctx, alike);
      for (const Index r : f.rows_of(id)) {
        const auto row = [r](const MatrixOf<T>& m) { return MatrixOf<T>(m.row(r)); };
        CHECK(bit_difference<T>(row(mixed), row(same)) == "");
        if (id == -1) CHECK(bit_difference<T>(row(mixed), row(unadapted)) == "");
        if (id == 1) CHECK(bit_difference<T>(row(mixed), row(unadapted)) != "");
      }
    }
    for (const Index r : f.rows_of(f.capacity - 1))  // an empty slot
      CHECK(bit_difference<T>(MatrixOf<T>(mixed.row(r)), MatrixOf<T>(unadapted.row(r))) == "");
  });
}

template <class Backend>
void test_bank_backward() {
  using T = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using I = typename Backend::Intermediate;
  using Operand = typename ProductOperand<Backend>::type;
  typename Backend::Context ctx;
  for_each_bank_shape([&](Index out, Index in, Index tokens, Sides sides, Variant variant) {
    const BankFixture<Backend> f(ctx, out, in, tokens, sides, variant);
    const Matrix x = to_double(f.host_x), grad_y = to_double(f.host_grad_y);
    const auto ids = f.device_ids(ctx, f.ids);
    const Matrix expected_grad_x = f.each(grad_y, Matrix(), false);
    ether::BankGradients<Backend> grads(ctx, f.bank);
    DeviceMatrix<Backend, T> grad_x(ctx, tokens, in, 3), y(ctx, tokens, out, 1);
    DeviceMatrix<Backend, I> s(ctx, tokens, out, 2);
    f.layer.forward(ctx, f.x.const_view(), y.view(), f.bank, ids.view().data, s.view());
    CHECK(s.surround_untouched());
    for (int times = 1; times <= 3; ++times) {
      ether::BackwardArguments<Backend> arguments{f.x.const_view(), f.grad_y.const_view(), {}};
      if (times != 3) arguments.grad_x = grad_x.view();
      if (times == 2) arguments.s = s.const_view();
      f.layer.backward(ctx, arguments, f.bank, ids.view().data, grads);
      CHECK(difference(grad_x.values(), expected_grad_x,
                       layer_tolerance<Backend>(f.roundings(), grad_y.norm() * f.magnitude(),
                                                expected_grad_x.norm())) == "");
      CHECK(grad_x.surround_untouched());
    }
    for (std::int32_t id = 0; id < f.capacity; ++id) {
      if (!f.is_adapted(id)) continue;
      const auto rows = f.rows_of(id);
      const Adapter<P> found = grads.slot(ctx, id);
      const Oracle oracle = f.oracle(id);
      Matrix x_of(Index(rows.size()), in), grad_y_of(Index(rows.size()), out);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        x_of.row(Index(i)) = x.row(rows[i]);
        grad_y_of.row(Index(i)) = grad_y.row(rows[i]);
      }
      for (const Side side : {Side::input, Side::output}) {
        const Matrix once = to_double(found.parameters(side));
        if (rows.empty() || once.rows() == 0) {
          CHECK(once.norm() == 0);
          continue;
        }
        const Matrix expected = 3 * oracle.grad(side, x_of, grad_y_of);
        const auto bound = oracle.grad_magnitude(side, x_of, grad_y_of);
        const double rounded =
            std::is_same_v<Operand, P> ? 0 : 6 * unit_roundoff<Operand>() * bound.tokens;
        const double allowed = tolerance<P, P>(tokens + in + out, 3 * bound.sums, 0) + rounded;
        CHECK(difference(once, expected, allowed) == "");
        // The tolerance is of use: a gradient of the other sign would fail.
        if (found.block_size(side) > 1) CHECK(difference(-once, expected, allowed) != "");
      }
    }
    grads.set_zero(ctx);
    CHECK(to_double(grads.slot(ctx, 1).parameters(Side::input)).norm() == 0);
  });
}

/// Slots are overwritten, cleared and read back, each without a change of others.
template <class Backend, class Unit>
void test_bank_slots() {
  using P = typename Backend::Parameter;
  using T = typename Backend::Scalar;
  typename Backend::Context ctx;
  BankFixture<Backend, Unit> f(ctx, 40, 24, 4, Sides::both, Variant::ether_plus);
  f.ids = {3, 5, 5, 0};
  const MatrixOf<T> before = f.forward(ctx, f.ids);
  const Adapter<P> five = f.bank.get(ctx, 5);
  for (const Side side : {Side::input, Side::output}) {
    const Matrix raw = to_double(f.adapters[5]->parameters(side)),
                 got = to_double(five.parameters(side));
    for (Index k = 0; k < raw.rows(); ++k)
      for (Index b = 0; b < five.blocks(side); ++b) {
        const Index size = five.block_size(side);
        Matrix expected = raw.block(k, b * size, 1, size);
        if (!f.bank.trainable) expected /= expected.norm();
        CHECK(difference(got.block(k, b * size, 1, size), expected,
                         2 * unit_roundoff<Unit>() * expected.norm()) == "");
      }
  }
  CHECK(five.config().input_blocks == f.adapters[5]->config().input_blocks);

  f.bank.set(ctx, 5, *f.adapters[9]);  // other blocks, another variant, other sides
  CHECK(f.bank.config(5).sides == f.adapters[9]->config().sides);
  const auto row = [](const MatrixOf<T>& m, Index r) { return MatrixOf<T>(m.row(r)); };
  MatrixOf<T> after = f.forward(ctx, f.ids);
  CHECK(bit_difference<T>(row(after, 0), row(before, 0)) == "");
  CHECK(bit_difference<T>(row(after, 3), row(before, 3)) == "");
  CHECK(bit_difference<T>(after, f.forward(ctx, {3, 9, 9, 0})) == "");
  CHECK(bit_difference<T>(row(after, 1), row(before, 1)) != "");
  f.bank.clear(ctx, 5);
  CHECK(!f.bank.occupied(5));
  CHECK(bit_difference<T>(f.forward(ctx, f.ids), f.forward(ctx, {3, -1, -1, 0})) == "");
  f.bank.set(ctx, 5, *f.adapters[5]);
  CHECK(bit_difference<T>(f.forward(ctx, f.ids), before) == "");
}

}  // namespace test

#define ETHER_BANK_CONFORMANCE(Backend, name)                                  \
  TEST_CASE(name ": rows with adapters of their own, forward", "[bank]") {     \
    test::test_bank_forward<Backend, typename Backend::Parameter>();           \
  }                                                                            \
  TEST_CASE(name ": a row's bits depend on its own adapter alone", "[bank]") { \
    test::test_bank_rows_are_independent<Backend>();                           \
  }                                                                            \
  TEST_CASE(name ": gradients land in the slots of their rows", "[bank]") {    \
    test::test_bank_backward<Backend>();                                       \
  }                                                                            \
  TEST_CASE(name ": slots are set, cleared and read back", "[bank]") {         \
    test::test_bank_slots<Backend, typename Backend::Parameter>();             \
  }
