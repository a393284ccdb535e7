// The baselines of the benchmarks work in memory that they keep, as the layer does.

#include "../bench/baselines/frozen.hpp"
#include "../bench/baselines/hra.hpp"
#include "../bench/baselines/lora.hpp"
#include "../bench/baselines/oft.hpp"
#include "../bench/baselines/weight_space.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

namespace {

using namespace test;
using ether::EigenContext;

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
  const auto check_transform = [&](auto layer, const MatrixOf<float>& raw) {
    MatrixOf<float> grads = raw;
    check([&](EigenContext& ctx) {
      layer.set(ctx, raw);
      layer.forward(ctx, x, y);
      layer.backward(ctx, x, g, grad_x, grads);
      layer.merge(ctx, merged);
    });
  };
  for (Index size : {16, 64}) {
    const auto r = random_matrix<float>(in, size, 6);
    check_transform(bench::Oft<B>(own, w, r), r);
  }
  const auto u = random_matrix<float>(8, in, 7);
  check_transform(bench::Hra<B>(own, w, u), u);
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
