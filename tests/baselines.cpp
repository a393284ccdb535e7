// The baselines of the benchmarks against their dense definitions in double.

#include "../bench/baselines/frozen.hpp"
#include "../bench/baselines/hra.hpp"
#include "../bench/baselines/lora.hpp"
#include "../bench/baselines/oft.hpp"
#include "../bench/baselines/weight_space.hpp"
#include "support/baseline_case.hpp"
#include "support/baseline_oracle.hpp"
#include "support/oracle.hpp"

namespace {

using namespace test;
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
    const MatrixOf<T> zero = MatrixOf<T>::Zero(1, d.shape.out);
    MatrixOf<T> with_zero(d.shape.tokens, d.shape.out), without = with_zero;
    bench::Lora<Backend<T>>(d.weight.const_view(), a, b, scale, zero.data())
        .forward(d.ctx, d.x.const_view(), with_zero);
    bench::Lora<Backend<T>>(d.weight.const_view(), a, b, scale)
        .forward(d.ctx, d.x.const_view(), without);
    CHECK(without == with_zero);

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

TEST_CASE("baselines: large merges, written past the cache, give the bits of others") {
  using B = Backend<float>;
  const Index out = 2100, in = 4100;
  ether::EigenContext ctx(2);
  const MatrixOf<float> w = random_matrix<float>(out, in, 1), a = random_matrix<float>(5, in, 2);
  const MatrixOf<float> b = random_matrix<float>(5, out, 3);
  MatrixOf<float> merged(out, in), memory(out, in + 1);
  const ether::MatrixView<float> apart{memory.data(), out, in, in + 1};  // not aligned to 16 bytes
  const bench::Frozen<B> frozen(w);
  REQUIRE(frozen.streams(merged));
  REQUIRE_FALSE(frozen.streams(apart));
  const auto check = [&](const auto& layer) {
    layer.merge(ctx, merged);
    layer.merge(ctx, apart);
    CHECK(bit_difference<float>(merged, MatrixOf<float>(memory.leftCols(in))) == "");
    CHECK(bit_difference<float>(merged, w) != "");
  };
  check(bench::Lora<B>(w, a, b, 1));
  check(bench::Hra<B>(ctx, w, a));
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
