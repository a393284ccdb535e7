// The baselines of the benchmarks against their dense definitions in double.

#include "../bench/baselines/frozen.hpp"
#include "../bench/baselines/hra.hpp"
#include "../bench/baselines/lora.hpp"
#include "../bench/baselines/oft.hpp"
#include "../bench/baselines/weight_space.hpp"
#include "support/allocations.hpp"
#include "support/baseline_oracle.hpp"
#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace test;
using ether::EigenContext;

struct Shape {
  Index out, in, tokens, pad;
};
/// Ragged, with token counts on either side of the products' thresholds.
constexpr Shape shapes[] = {{7, 6, 1, 0},     {24, 40, 3, 1}, {57, 92, 17, 3}, {129, 66, 70, 5},
                            {33, 130, 66, 7}, {1, 48, 2, 0},  {40, 72, 300, 4}};

/// What a layer of one shape is called with, and the same in double.
template <class T>
struct Data {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;
  using Grads = MatrixOf<P>;

  explicit Data(const Shape& s)
      : shape(s),
        weight(ctx, random_matrix<T>(s.out, s.in, 2), s.pad),
        bias(ctx, random_matrix<T>(1, s.out, 3), 0),
        x(ctx, random_matrix<T>(s.tokens, s.in, 4), s.pad),
        grad_y(ctx, random_matrix<T>(s.tokens, s.out, 5), s.pad),
        w(weight.values()) {}

  Index roundings() const { return 2 * (shape.in + shape.out) + shape.tokens + 20; }

  /// Norm of the sums over tokens behind a gradient. Errors of different tokens are independent:
  /// their squares add up.
  double token_products() const {
    const Matrix x_values = x.values(), g_values = grad_y.values();
    const auto x_norms = x_values.rowwise().squaredNorm();
    const auto g_norms = g_values.rowwise().squaredNorm();
    return std::sqrt(x_norms.cwiseProduct(g_norms).sum());
  }

  /// forward and merge against `expected` = W'. `magnitude`: of W', with products by absolute value.
  template <class Layer>
  void check_forward(const Layer& layer, const Matrix& expected, double magnitude) {
    DeviceMatrix<Backend, T> y(ctx, shape.tokens, shape.out, shape.pad);
    DeviceMatrix<Backend, T> merged(ctx, shape.out, shape.in, shape.pad);
    layer.forward(ctx, x.const_view(), y.view());
    const Matrix b = bias.values().replicate(shape.tokens, 1);
    const Matrix result = x.values() * expected.transpose() + b;
    const double allowed =
        tolerance<P, T>(roundings(), x.values().norm() * magnitude + b.norm(), result.norm());
    CHECK(difference(y.values(), result, allowed) == "");
    CHECK(y.surround_untouched());
    CHECK(allowed < 0.01 * result.norm());

    layer.merge(ctx, merged.view());
    const double merge_allowed = tolerance<P, T>(roundings(), magnitude, expected.norm());
    CHECK(difference(merged.values(), expected, merge_allowed) == "");
    CHECK(merged.surround_untouched());
    if (expected != w) {  // the tolerances are of use: the frozen layer is not taken for this one
      CHECK(difference(x.values() * w.transpose() + b, result, allowed) != "");
      CHECK(difference(w, expected, merge_allowed) != "");
    }
    EigenContext three(at_most(3));
    const MatrixOf<T> first = y.host();
    layer.forward(three, x.const_view(), y.view());
    CHECK(bit_difference<T>(y.const_view(), first) == "");
  }

  /// call(ctx, x, grad_y, grad_x) against grad_y W'.
  template <class Call>
  void check_grad_x(const Matrix& merged, double magnitude, Call&& call) {
    DeviceMatrix<Backend, T> grad_x(ctx, shape.tokens, shape.in, shape.pad);
    call(ctx, x.const_view(), grad_y.const_view(), grad_x.view());
    const Matrix g = grad_y.values(), expected = g * merged;
    const double allowed = tolerance<P, T>(roundings(), g.norm() * magnitude, expected.norm());
    CHECK(difference(grad_x.values(), expected, allowed) == "");
    CHECK(grad_x.surround_untouched());
    if (merged != w) CHECK(difference(g * w, expected, allowed) != "");
  }

  /// Gradients that were accumulated onto `before`.
  void check_grads(const Grads& grads, const Grads& before, const Matrix& expected,
                   double magnitude) const {
    const double allowed = tolerance<P, P>(roundings(), magnitude + before.norm(), 0);
    CHECK(difference(to_double(grads), expected + to_double(before), allowed) == "");
    // Of use: without the gradient, or without what was there before, the test would fail.
    if (expected.norm() > 0) CHECK(allowed < 0.05 * expected.norm());
    CHECK(difference(to_double(grads), expected, allowed) != "");
  }

  Shape shape;
  EigenContext ctx{1};
  DeviceMatrix<Backend, T> weight, bias, x, grad_y;
  Matrix w;
};

template <class T, class F>
void for_each_shape(F&& f) {
  for (const Shape& s : shapes) {
    INFO("weight (" << s.out << ", " << s.in << "), tokens " << s.tokens << ", pad " << s.pad);
    Data<T> data(s);
    f(data);
  }
}

template <class T>
using Backend = ether::EigenBackend<T>;

template <class T>
void check_frozen() {
  for_each_shape<T>([](Data<T>& d) {
    const bench::Frozen<Backend<T>> layer(d.weight.const_view(), d.bias.view().data);
    d.check_forward(layer, d.w, d.w.norm());
    d.check_grad_x(d.w, d.w.norm(), [&](auto&&... arguments) { layer.backward(arguments...); });
  });
}

template <class T>
void check_lora(Index rank) {
  using P = float;
  INFO("rank " << rank);
  for_each_shape<T>([&](Data<T>& d) {
    const MatrixOf<P> a = random_matrix<P>(rank, d.shape.in, 6);
    const MatrixOf<P> b = random_matrix<P>(rank, d.shape.out, 7);  // transposed
    const double scale = 0.75;
    const bench::Lora<Backend<T>> layer(d.weight.const_view(), a, b, scale, d.bias.view().data);
    CHECK(layer.parameters() == rank * (d.shape.in + d.shape.out));
    const Matrix wide_a = to_double(a), wide_b = to_double(b).transpose();
    const Matrix merged = d.w + scale * wide_b * wide_a;
    const double magnitude = (absolute(d.w) + scale * absolute(wide_b) * absolute(wide_a)).norm();
    d.check_forward(layer, merged, magnitude);

    const auto before_a = random_matrix<P>(rank, d.shape.in, 8),
               before_b = random_matrix<P>(rank, d.shape.out, 9);
    MatrixOf<P> grad_a = before_a, grad_b = before_b;
    d.check_grad_x(merged, magnitude,
                   [&](auto&&... arguments) { layer.backward(arguments..., grad_a, grad_b); });
    const Matrix x = d.x.values(), g = d.grad_y.values(), grad_w = g.transpose() * x;
    const double size = scale * d.token_products();
    d.check_grads(grad_a, before_a, scale * wide_b.transpose() * grad_w, size * wide_b.norm());
    d.check_grads(grad_b, before_b, scale * wide_a * grad_w.transpose(), size * wide_a.norm());
    MatrixOf<P> again_a = before_a, again_b = before_b;
    layer.backward(d.ctx, d.x.const_view(), d.grad_y.const_view(), {}, again_a, again_b);
    CHECK(again_a == grad_a);
    CHECK(again_b == grad_b);
  });
}

template <class T>
void check_oft(Index block_size) {
  using P = float;
  for_each_shape<T>([&](Data<T>& d) {
    const Index in = d.shape.in;
    Index size = std::min(block_size, in);
    while (in % size != 0) ++size;
    INFO("block size " << size);
    const MatrixOf<P> r = random_matrix<P>(in, size, 6) * (1 / std::sqrt(float(size)));
    const bench::Oft<Backend<T>> layer(d.ctx, d.weight.const_view(), r, d.bias.view().data);
    CHECK(layer.parameters() * 2 == in * (size - 1));
    const OftOracle oracle{to_double(r)};
    const Matrix h = oracle.h(), merged = d.w * h.transpose();
    CHECK((h * h.transpose() - Matrix::Identity(in, in)).norm() < 1e-10);
    // H is orthogonal, so that errors of a product with it are not enlarged: each is at most the
    // rounding of `size` products, |H| <= sqrt(size), and the error of H itself, of its inverse.
    const double enlarged = std::sqrt(double(size)) + 4 * oracle.condition();
    d.check_forward(layer, merged, d.w.norm() * enlarged);

    const auto before = random_matrix<P>(in, size, 8);
    MatrixOf<P> grads = before;
    d.check_grad_x(merged, d.w.norm() * enlarged,
                   [&](auto&&... arguments) { layer.backward(arguments..., grads); });
    const Matrix x = d.x.values(), g = d.grad_y.values();
    const Matrix grad_h = x.transpose() * g * d.w;  // L = <g^T x, W H^T> = <x^T g W, H>
    const Matrix expected = oracle.gradient(grad_h);
    d.check_grads(grads, before, expected, d.token_products() * d.w.norm() * enlarged);
    const Matrix direction = to_double(random_matrix<P>(in, size, 10));
    const double by_differences =
        slope([&](double t) { return inner(grad_h, OftOracle{to_double(r) + t * direction}.h()); });
    CHECK(std::abs(by_differences - inner(expected, direction)) <=
          1e-7 * (1 + expected.norm() * direction.norm()));
    MatrixOf<P> again = before;
    layer.backward(d.ctx, d.x.const_view(), d.grad_y.const_view(), {}, again);
    CHECK(again == grads);
  });
}

template <class T>
void check_hra(Index rank) {
  using P = float;
  INFO("rank " << rank);
  for_each_shape<T>([&](Data<T>& d) {
    const Index in = d.shape.in;
    const MatrixOf<P> u = random_matrix<P>(rank, in, 6) * 1.5f;
    const bench::Hra<Backend<T>> layer(d.ctx, d.weight.const_view(), u, d.bias.view().data);
    CHECK(layer.parameters() == rank * in);
    const HraOracle oracle{to_double(u)};
    const Matrix h = oracle.h(), merged = d.w * h;
    // Every factor is orthogonal: errors add up, each of I + 2 |û||û|^T, of norm 3.
    const double enlarged = 1 + 3 * double(rank);
    d.check_forward(layer, merged, d.w.norm() * enlarged);
    if (rank > 1) {  // the tolerance is of use: the chain in the other order is another one
      const double allowed = tolerance<P, T>(d.roundings(), d.w.norm() * enlarged, merged.norm());
      CHECK(difference(d.w * h.transpose(), merged, allowed) != "");
    }

    const auto before = random_matrix<P>(rank, in, 8);
    MatrixOf<P> grads = before;
    d.check_grad_x(merged, d.w.norm() * enlarged,
                   [&](auto&&... arguments) { layer.backward(arguments..., grads); });
    const Matrix x = d.x.values(), g = d.grad_y.values();
    const Matrix grad_h = d.w.transpose() * g.transpose() * x;  // L = <g^T x, W H>
    const Matrix expected = oracle.gradient(grad_h);
    double shortest = u.row(0).norm();
    for (Index k = 1; k < rank; ++k) shortest = std::min<double>(shortest, u.row(k).norm());
    d.check_grads(grads, before, expected,
                  4 * d.token_products() * d.w.norm() * enlarged / shortest);
    const Matrix direction = to_double(random_matrix<P>(rank, in, 10));
    const double by_differences =
        slope([&](double t) { return inner(grad_h, HraOracle{to_double(u) + t * direction}.h()); });
    CHECK(std::abs(by_differences - inner(expected, direction)) <=
          1e-7 * (1 + expected.norm() * direction.norm()));
    EigenContext three(at_most(3));
    MatrixOf<P> again = before;
    layer.backward(three, d.x.const_view(), d.grad_y.const_view(), {}, again);
    CHECK(again == grads);
  });
}

template <class T>
void check_weight_space() {
  for_each_shape<T>([](Data<T>& d) {
    for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
      for (auto sides : {ether::Sides::input, ether::Sides::output, ether::Sides::both})
        for (Index blocks : {1, 2, 3}) {
          ether::AdapterConfig config;
          config.variant = variant;
          config.sides = sides;
          config.input_blocks = d.shape.in % blocks == 0 ? blocks : 1;
          config.output_blocks = d.shape.out % blocks == 0 ? blocks : 1;
          config.strength = blocks == 2 ? 0.5 : 1;
          INFO(to_string(variant) << ", sides " << to_string(sides) << ", blocks " << blocks);
          const auto adapter = random_adapter<float>(config, d.shape.out, d.shape.in, 6);
          const bench::WeightSpace<Backend<T>> layer(d.weight.const_view(), adapter,
                                                     d.bias.view().data);
          const Oracle oracle(adapter, d.w);
          const Matrix merged = oracle.merged();
          const double norm = oracle.h_norm() * oracle.h_norm();
          d.check_forward(layer, merged, norm * d.w.norm());
        }
  });
}

}  // namespace

TEST_CASE("baseline frozen") {
  check_frozen<float>();
  check_frozen<Eigen::bfloat16>();
}

TEST_CASE("baseline LoRA") {
  for (Index rank : {1, 4, 8, 16, 30, 64}) {
    check_lora<float>(rank);
    check_lora<Eigen::bfloat16>(rank);
  }
}

TEST_CASE("baseline OFT") {
  for (Index block_size : {2, 8, 16, 32, 65}) {
    check_oft<float>(block_size);
    check_oft<Eigen::bfloat16>(block_size);
  }
}

TEST_CASE("baseline HRA") {
  for (Index rank : {1, 3, 8}) {
    check_hra<float>(rank);
    check_hra<Eigen::bfloat16>(rank);
  }
}

TEST_CASE("baseline ETHER in weight space") {
  check_weight_space<float>();
  check_weight_space<Eigen::bfloat16>();
}

TEST_CASE("baselines refuse what does not fit") {
  EigenContext ctx;
  using B = ether::EigenBackend<float>;
  const auto w = random_matrix<float>(6, 8, 1), a = random_matrix<float>(2, 8, 2);
  const auto wrong = random_matrix<float>(2, 7, 3), r = random_matrix<float>(8, 3, 4);
  MatrixOf<float> merged(6, 7);
  CHECK_THROWS_AS(bench::Lora<B>(w, a, wrong, 1), ether::shape_error);
  CHECK_THROWS_AS(bench::Oft<B>(ctx, w, r), ether::parameter_error);
  CHECK_THROWS_AS(bench::Hra<B>(ctx, w, wrong), ether::shape_error);
  CHECK_THROWS_AS(bench::Frozen<B>(w).merge(ctx, merged), ether::shape_error);
}

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

namespace {

template <class T>
void check_no_allocation(Index tokens, int threads) {
  using B = ether::EigenBackend<T>;
  INFO("tokens " << tokens << ", threads " << threads);
  const Index out = 320, in = 256;
  const auto w = random_matrix<T>(out, in, 1), x = random_matrix<T>(tokens, in, 2);
  const auto g = random_matrix<T>(tokens, out, 3);
  MatrixOf<T> y(tokens, out), grad_x(tokens, in), merged(out, in);
  const auto check = [&](auto&& calls) {
    EigenContext ctx(at_most(threads));
    CHECK(allocations_of([&] { calls(ctx); }) > 0);  // the first call makes workspace
    CHECK(allocations_of([&] { calls(ctx); }) == 0);
    CHECK(allocations_of([&] { calls(ctx); }) == 0);
  };
  EigenContext own;

  for (Index rank : {4, 64}) {
    const auto a = random_matrix<float>(rank, in, 4), b = random_matrix<float>(rank, out, 5);
    MatrixOf<float> grad_a = a, grad_b = b;
    const bench::Lora<B> layer(w, a, b, 2);
    check([&](EigenContext& ctx) {
      layer.forward(ctx, x, y);
      layer.backward(ctx, x, g, grad_x, grad_a, grad_b);
      layer.merge(ctx, merged);
    });
  }
  for (Index size : {16, 64}) {
    const auto r = random_matrix<float>(in, size, 6);
    MatrixOf<float> grads = r;
    bench::Oft<B> layer(own, w, r);
    check([&](EigenContext& ctx) {
      layer.set(ctx, r);
      layer.forward(ctx, x, y);
      layer.backward(ctx, x, g, grad_x, grads);
      layer.merge(ctx, merged);
    });
  }
  const auto u = random_matrix<float>(8, in, 7);
  MatrixOf<float> grads = u;
  bench::Hra<B> hra(own, w, u);
  check([&](EigenContext& ctx) {
    hra.set(ctx, u);
    hra.forward(ctx, x, y);
    hra.backward(ctx, x, g, grad_x, grads);
    hra.merge(ctx, merged);
  });
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  config.input_blocks = config.output_blocks = 4;
  const bench::WeightSpace<B> weight_space(w, random_adapter<float>(config, out, in, 8));
  const bench::Frozen<B> frozen(w);
  check([&](EigenContext& ctx) {
    weight_space.forward(ctx, x, y);
    weight_space.merge(ctx, merged);
    frozen.forward(ctx, x, y);
    frozen.backward(ctx, x, g, grad_x);
    frozen.merge(ctx, merged);
  });
}

}  // namespace

TEST_CASE("baselines allocate nothing after the first call") {
  for (Index tokens : {1, 7, 200}) {
    check_no_allocation<float>(tokens, 2);
    check_no_allocation<Eigen::bfloat16>(tokens, 5);
  }
}

#endif
