// After the first call at a size, forward, backward, merge and set_adapter allocate nothing.

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <cstdlib>

// The Weight of the example itself.
#include <cmath>
#include <cstdint>
#include <cstdio>
#define main example_main
namespace quantized {
#include "../examples/quantized_weight.cpp"
}
#undef main

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

namespace {

using ether::Index;
using test::allocations_of;
using test::at_most;

template <class T>
void check_no_allocation() {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;
  for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
    for (auto sides : {ether::Sides::input, ether::Sides::output, ether::Sides::both})
      for (auto layout : {ether::BlockLayout::diagonal, ether::BlockLayout::row_chunk})
        for (ether::Index tokens : {1, 7, 200}) {
          ether::AdapterConfig config;
          config.variant = variant;
          config.sides = sides;
          config.layout = layout;
          config.input_blocks = 4;
          config.output_blocks = 2;
          INFO(to_string(variant) << " " << to_string(sides) << " " << to_string(layout) << " "
                                  << tokens);
          ether::EigenContext ctx(at_most(tokens == 7 ? 5 : 2));
          const auto adapter = test::random_adapter<P>(config, 320, 256, 1);
          const auto w = test::random_matrix<T>(320, 256, 2),
                     x = test::random_matrix<T>(tokens, 256, 3);
          const auto g = test::random_matrix<T>(tokens, 320, 4);
          test::MatrixOf<T> y(tokens, 320), grad_x(tokens, 256), merged(320, 256);
          test::MatrixOf<P> s(tokens, 320);
          auto grads = ether::Adapter<P>::zeros_like(adapter);
          ether::EtherLinear<Backend> layer(ctx, w, adapter, w.data());
          const auto calls = [&] {
            layer.forward(ctx, x, y);
            layer.backward(ctx, x, g, grad_x, grads);
            layer.forward(ctx, x, y, s);
            layer.backward(ctx, {x, g, grad_x, s}, grads);
            layer.merge(ctx, merged);
            layer.set_adapter(ctx, adapter);
          };
          CHECK(allocations_of(calls) > 0);  // the counter counts: the first call makes workspace
          CHECK(allocations_of(calls) == 0);
          CHECK(allocations_of(calls) == 0);
        }
}

}  // namespace

TEST_CASE("no allocation after the first call") {
  check_no_allocation<float>();  // double and half: the code of float and bfloat16
  check_no_allocation<Eigen::bfloat16>();
}

TEST_CASE(
    "no allocation with weights of other types, in the row operations, in one's own product") {
  using Backend = ether::EigenBackend<float>;
  using Mixed = ether::MixedWeight<Backend, Eigen::bfloat16>;
  const Index out = 320, in = 256;
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  config.input_blocks = config.output_blocks = 4;
  const auto adapter = test::random_adapter<float>(config, out, in, 1);
  const auto w = test::random_matrix<Eigen::bfloat16>(out, in, 2);
  const auto bias = test::random_matrix<float>(1, out, 3);
  std::vector<quantized::Block> blocks(static_cast<std::size_t>(out * in / quantized::Block::size));
  for (Index tokens : {1, 7, 70}) {
    ether::EigenContext ctx(at_most(2));
    const ether::EtherLinear<Backend, Mixed> mixed(ctx, Mixed(w), adapter, bias.data());
    const ether::EtherLinear<Backend, quantized::QuantizedWeight> own(ctx, {blocks.data(), out, in},
                                                                      adapter, bias.data());
    const ether::PreparedAdapter<Backend> scattered(
        ctx, out, in, {{adapter, 0, ether::interleaved_row_order(2, 160)}});
    const auto x = test::random_matrix<float>(tokens, in, 4);
    test::MatrixOf<float> y(tokens, out), z(tokens, in);
    const auto calls = [&] {
      mixed.forward(ctx, x, y);
      own.forward(ctx, x, y);
      ether::reflect_input(ctx, scattered, x, z);
      ether::reflect_output(ctx, scattered, y, y, {bias.data(), {}});
    };
    CHECK(allocations_of(calls) > 0);
    CHECK(allocations_of(calls) == 0);
    CHECK(allocations_of([&] {  // without a Context
            ether::reflect_input(mixed.prepared(), x, z);
            ether::reflect_output(mixed.prepared(), y, y, {bias.data(), {}});
          }) == 0);
  }
}

TEST_CASE("no allocation with a bank, nor where its slots are set anew") {
  using Backend = ether::EigenBackend<float>;
  const Index out = 320, in = 256;
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  config.input_blocks = config.output_blocks = 4;
  const auto adapter = test::random_adapter<float>(config, out, in, 1);
  const auto w = test::random_matrix<float>(out, in, 2);
  for (Index tokens : {1, 7, 70}) {
    ether::EigenContext ctx(at_most(2));
    const ether::EtherLinear<Backend> layer(ctx, w);
    ether::AdapterBank<Backend> bank(ctx, config, out, in, 3);
    ether::BankGradients<Backend> grads(ctx, bank);
    const auto x = test::random_matrix<float>(tokens, in, 4);
    const auto g = test::random_matrix<float>(tokens, out, 5);
    test::MatrixOf<float> y(tokens, out), s(tokens, out), grad_x(tokens, in);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens), 1);
    ids.back() = -1;
    const auto calls = [&] {
      bank.set(ctx, 1, adapter);
      layer.forward(ctx, x, y, bank, ids.data(), s);
      layer.forward(ctx, x, y, bank, ids.data());
      layer.backward(ctx, x, g, grad_x, bank, ids.data(), grads);
      bank.clear(ctx, 2);
    };
    CHECK(allocations_of(calls) > 0);
    CHECK(allocations_of(calls) == 0);
  }
}

TEST_CASE("no allocation with more threads than tasks") {
  using Backend = ether::EigenBackend<float>;
  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.sides = ether::Sides::both;
  const auto adapter = test::random_adapter<float>(config, 640, 512, 1);
  const auto w = test::random_matrix<float>(640, 512, 2),
             x = test::random_matrix<float>(70, 512, 3);
  const auto g = test::random_matrix<float>(70, 640, 4);
  test::MatrixOf<float> y(70, 640), grad_x(70, 512), merged(640, 512);
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  for (int threads : {3, 8, 16}) {
    ether::EigenContext ctx(at_most(threads));
    const ether::EtherLinear<Backend> layer(ctx, w, adapter);
    const auto calls = [&] {
      layer.forward(ctx, x, y);
      layer.backward(ctx, x, g, grad_x, grads);
      layer.merge(ctx, merged);
    };
    calls();
    CHECK(allocations_of(calls) == 0);
  }
}

TEST_CASE("workspace is reused by smaller calls and by other layers") {
  using Backend = ether::EigenBackend<float>;
  ether::EigenContext ctx(at_most(2));
  ether::AdapterConfig config;
  config.sides = ether::Sides::both;
  const auto adapter = test::random_adapter<float>(config, 64, 96, 1);
  const auto w = test::random_matrix<float>(64, 96, 2), x = test::random_matrix<float>(300, 96, 3);
  test::MatrixOf<float> y(300, 64);
  const ether::EtherLinear<Backend> one(ctx, w, adapter), two(ctx, w, adapter);
  one.forward(ctx, x, y);
  CHECK(allocations_of([&] {
          two.forward(ctx, x, y);
          one.forward(ctx, x.topRows(200), y.topRows(200));
        }) == 0);
}

TEST_CASE("allocations and their bytes are counted") {
  const auto calls = [] {
    void* volatile kept = ::operator new(1000);
    ::operator delete(kept);
    kept = std::calloc(3, 7);
    std::free(kept);
  };
  CHECK(allocations_of(calls) == 2);
  CHECK(test::bytes_allocated_by(calls) == 1021);
  CHECK(test::bytes_allocated_by([] {}) == 0);
}

#endif
