// Results do not depend on the number of threads, and const calls may run at the same time.

#include "support/catch.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <array>
#include <thread>

namespace {

using ether::Index;

template <class T>
struct Problem {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;

  Problem(ether::Variant variant, ether::BlockLayout layout, Index out, Index in, Index tokens)
      : config(make_config(variant, layout)),
        adapter(test::random_adapter<P>(config, out, in, 1)),
        w(test::random_matrix<T>(out, in, 2)),
        x(test::random_matrix<T>(tokens, in, 3)),
        g(test::random_matrix<T>(tokens, out, 4)) {}

  static ether::AdapterConfig make_config(ether::Variant variant, ether::BlockLayout layout) {
    ether::AdapterConfig c;
    c.variant = variant;
    c.layout = layout;
    c.sides = ether::Sides::both;
    c.input_blocks = 5;
    c.output_blocks = 3;
    return c;
  }

  struct Results {
    test::MatrixOf<T> y, grad_x, merged;
    std::vector<P> grads;
  };

  static Results run(const ether::EtherLinear<Backend>& layer, const Problem& p,
                     ether::EigenContext& ctx) {
    Results r;
    r.y.resize(p.x.rows(), p.w.rows());
    r.grad_x.resize(p.x.rows(), p.w.cols());
    r.merged.resize(p.w.rows(), p.w.cols());
    auto grads = ether::Adapter<P>::zeros_like(p.adapter);
    layer.forward(ctx, p.x, r.y);
    layer.backward(ctx, p.x, p.g, r.grad_x, grads);
    layer.merge(ctx, r.merged);
    r.grads.assign(grads.data(), grads.data() + grads.size());
    return r;
  }

  static bool same(const Results& a, const Results& b) {
    return test::bit_difference<T>(a.y, b.y).empty() &&
           test::bit_difference<T>(a.grad_x, b.grad_x).empty() &&
           test::bit_difference<T>(a.merged, b.merged).empty() && a.grads == b.grads;
  }

  ether::AdapterConfig config;
  ether::Adapter<P> adapter;
  test::MatrixOf<T> w, x, g;
};

template <class T>
void check_thread_counts() {
  for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
    for (auto layout : {ether::BlockLayout::diagonal, ether::BlockLayout::row_chunk})
      for (Index tokens : {1, 3, 20, 33, 300}) {
        INFO(to_string(variant) << " " << to_string(layout) << " " << tokens << " tokens");
        const Problem<T> p(variant, layout, 705, 1030, tokens);
        ether::EigenContext one(1);
        const ether::EtherLinear<ether::EigenBackend<T>> layer(one, p.w, p.adapter);
        const auto expected = Problem<T>::run(layer, p, one);
        for (int threads : {2, 3, 7}) {
          ether::EigenContext ctx(threads);
          CHECK(Problem<T>::same(Problem<T>::run(layer, p, ctx), expected));
        }
      }
}

}  // namespace

TEST_CASE("results are bit-identical for any number of threads", "[threads]") {
  check_thread_counts<float>();
  check_thread_counts<Eigen::bfloat16>();
}

TEST_CASE("one layer used by several threads, each with its Context", "[threads]") {
  const Problem<float> p(ether::Variant::ether_plus, ether::BlockLayout::diagonal, 96, 160, 40);
  ether::EigenContext setup(1);
  const ether::EtherLinear<ether::EigenBackend<float>> layer(setup, p.w, p.adapter);
  const auto expected = Problem<float>::run(layer, p, setup);

  for (int threads_each : {1, 2}) {
    std::vector<std::thread> users;
    std::array<bool, 4> right{};
    for (std::size_t i = 0; i < right.size(); ++i)
      users.emplace_back([&, i] {
        ether::EigenContext ctx(threads_each);
        bool all = true;
        for (int repeat = 0; repeat < 5; ++repeat)
          all = all && Problem<float>::same(Problem<float>::run(layer, p, ctx), expected);
        right[i] = all;
      });
    for (std::thread& user : users) user.join();
    for (bool r : right) CHECK(r);
  }
}
