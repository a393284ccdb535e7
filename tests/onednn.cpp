// What the conformance suite does not show of the oneDNN backend: packed weights, threads, allocations,
// objects made again.

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/check_message.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <ether/backends/onednn.hpp>

#include <array>
#include <thread>
#include <vector>

namespace {

using ether::Index;
using ether::MatrixView;
using test::MatrixOf;
template <class T>
using Backend = ether::OneDnnBackend<T>;
template <class T>
using Packed = ether::EtherLinear<Backend<T>, ether::PackedWeight<Backend<T>>>;

ether::AdapterConfig both_sides(ether::Variant variant = ether::Variant::ether_plus) {
  ether::AdapterConfig config;
  config.variant = variant;
  config.sides = ether::Sides::both;
  config.input_blocks = 3;
  config.output_blocks = 5;
  return config;
}

template <class T>
struct Problem {
  explicit Problem(Index tokens, Index out = 95, Index in = 66)
      : adapter(test::random_adapter<float>(both_sides(), out, in, 1)),
        w(test::random_matrix<T>(out, in, 2)),
        x(test::random_matrix<T>(tokens, in, 3)),
        g(test::random_matrix<T>(tokens, out, 4)),
        bias(test::random_matrix<T>(1, out, 5)) {}

  ether::Adapter<float> adapter;
  MatrixOf<T> w, x, g, bias;
};

template <class T>
struct Results {
  MatrixOf<T> y, grad_x;
  std::vector<float> grads;

  template <class Layer>
  Results(const Layer& layer, const Problem<T>& p, ether::OneDnnContext& ctx)
      : y(p.x.rows(), p.w.rows()), grad_x(p.x.rows(), p.w.cols()) {
    auto sums = ether::Adapter<float>::zeros_like(p.adapter);
    layer.forward(ctx, p.x, y);
    layer.backward(ctx, p.x, p.g, grad_x, sums);
    grads.assign(sums.data(), sums.data() + sums.size());
  }
  bool same(const Results& other) const {
    return test::bit_difference<T>(y, other.y).empty() &&
           test::bit_difference<T>(grad_x, other.grad_x).empty() && grads == other.grads;
  }
};

/// A packed layer gives what a layer over the same W in double gives, within the rounding of z, s and y;
/// and the weight comes back bit for bit.
template <class T>
void check_packed(Index tokens) {
  INFO(Backend<T>::name << ", " << tokens << " tokens");
  const Problem<T> p(tokens);
  ether::OneDnnContext ctx;
  MatrixOf<T> original = p.w;
  const ether::PackedWeight<Backend<T>> weight(ctx, original);
  original.setConstant(T(7));  // it may be dropped
  CHECK(test::bit_difference<T>(weight.dense(), p.w) == "");

  const Packed<T> layer(ctx, weight, p.adapter, p.bias.data());
  const test::Oracle oracle(p.adapter, test::to_double(p.w));
  const test::Matrix x = test::to_double(p.x), g = test::to_double(p.g);
  const double h = oracle.h_norm() * oracle.h_norm() * oracle.weight.norm();
  const double roundoff = std::is_same_v<T, float> ? 0 : 2 * test::unit_roundoff<T>();
  const auto allowed = [&](double magnitude, double result) {
    return test::tolerance<float, T>(500, magnitude, result) + roundoff * magnitude;
  };
  const Results<T> r(layer, p, ctx);
  const test::Matrix y = test::linear(x, oracle.merged(), test::to_double(p.bias));
  const double y_allowed = allowed(x.norm() * h + y.norm(), y.norm());
  CHECK(test::difference(test::to_double(r.y), y, y_allowed) == "");
  CHECK(test::difference(test::to_double(r.y), -y, y_allowed) != "");
  const test::Matrix grad_x = oracle.grad_x(g);
  CHECK(test::difference(test::to_double(r.grad_x), grad_x, allowed(g.norm() * h, grad_x.norm())) ==
        "");
  CHECK(test::difference(test::Matrix::Zero(tokens, p.w.cols()), grad_x,
                         allowed(g.norm() * h, grad_x.norm())) != "");

  MatrixOf<T> merged(p.w.rows(), p.w.cols()), dense_merged = merged;
  layer.merge(ctx, merged);
  ether::EigenContext host;
  ether::EtherLinear<ether::EigenBackend<T>>(host, p.w, p.adapter).merge(host, dense_merged);
  CHECK(test::bit_difference<T>(merged, dense_merged) == "");
}

/// The layer, used with several numbers of threads, and by several threads at once, each with its
/// Context. Of a packed one, whichever comes first makes the copy for backward.
template <class T, class Layer, class MakeLayer>
void check_layer_threads(const Problem<T>& p, const Layer& layer, const MakeLayer& make_layer) {
  ether::OneDnnContext one(1);
  const Results<T> expected(layer, p, one);
  for (int threads : {2, 3}) {
    ether::OneDnnContext ctx(threads);
    CHECK(Results<T>(layer, p, ctx).same(expected));
  }
  const Layer fresh = make_layer();
  std::array<bool, 3> right{};
  std::vector<std::thread> users;
  for (std::size_t i = 0; i < right.size(); ++i)
    users.emplace_back([&, i] {
      ether::OneDnnContext ctx(1 + static_cast<int>(i % 2));
      right[i] = Results<T>(fresh, p, ctx).same(expected);
    });
  for (std::thread& user : users) user.join();
  for (bool r : right) CHECK(r);
}

template <class T>
void check_threads() {
  for (Index tokens : {1, 5, 17, 40}) {
    INFO(Backend<T>::name << ", " << tokens << " tokens");
    const Problem<T> p(tokens, 640, 516);
    ether::OneDnnContext ctx(1);
    const auto dense = [&] { return ether::EtherLinear<Backend<T>>(ctx, p.w, p.adapter); };
    check_layer_threads(p, dense(), dense);
    if (!Backend<T>::is_accelerated()) continue;
    const auto packed = [&] {
      return Packed<T>(ctx, ether::PackedWeight<Backend<T>>(ctx, p.w), p.adapter);
    };
    check_layer_threads(p, packed(), packed);
  }
}

}  // namespace

TEST_CASE("packed weights give the layer and W back", "[onednn]") {
  for (Index tokens : {1, 3, 33, 129}) {
    if (Backend<float>::is_accelerated()) check_packed<float>(tokens);
    if (Backend<Eigen::bfloat16>::is_accelerated()) check_packed<Eigen::bfloat16>(tokens);
  }
}

TEST_CASE("oneDNN's layers are the same for any number of threads", "[onednn]") {
  check_threads<float>();
  check_threads<Eigen::bfloat16>();
}

TEST_CASE("what cannot be packed is refused with its cure", "[onednn]") {
  const Problem<float> p(3);
  ether::OneDnnContext ctx;
  if (!Backend<float>::is_accelerated()) {
    CHECK_REFUSED(ether::PackedWeight<Backend<float>>(ctx, p.w), ether::onednn_error,
                  "the weight (95, 66) cannot be packed", "use a DenseWeight");
    return;
  }
  auto config = both_sides();
  config.layout = ether::BlockLayout::row_chunk;
  const auto adapter = test::random_adapter<float>(config, 95, 66, 1);
  const ether::PackedWeight<Backend<float>> weight(ctx, p.w);
  CHECK_REFUSED(Packed<float>(ctx, weight, adapter), ether::parameter_error, "row_chunk",
                "slice_rows");
}

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

// What one execution of a primitive takes is oneDNN's: its map of arguments, 6 to 10 pieces of less
// than 1 KiB together. A primitive that is made anew takes 25 KiB.
TEST_CASE("later calls of a size make no oneDNN object and allocate nothing of ours", "[onednn]") {
  if (!Backend<float>::is_accelerated()) return;
  for (Index tokens : {1, 17, 40}) {
    const Problem<float> p(tokens, 320, 258);
    ether::OneDnnContext ctx(test::at_most(2));
    const ether::EtherLinear<Backend<float>> dense(ctx, p.w, p.adapter, p.bias.data());
    const Packed<float> packed(ctx, ether::PackedWeight<Backend<float>>(ctx, p.w), p.adapter);
    MatrixOf<float> y(tokens, 320), grad_x(tokens, 258);
    auto grads = ether::Adapter<float>::zeros_like(p.adapter);
    const auto calls = [&](const auto& layer) {
      layer.forward(ctx, p.x, y);
      layer.backward(ctx, p.x, p.g, grad_x, grads);  // computes s again: three products in all
    };
    constexpr Index executions = 3, most_bytes = 1024;
    CHECK(test::bytes_allocated_by([&] { calls(dense); }) > executions * most_bytes);
    calls(packed);
    for (int repeat = 0; repeat < 2; ++repeat) {
      CHECK(test::allocations_of([&] { calls(dense); }) <= executions * 10);
      CHECK(test::bytes_allocated_by([&] { calls(packed); }) <= executions * most_bytes);
    }
  }
}

#endif
