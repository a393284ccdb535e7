// The layer beside what it wraps: the bare frozen product, and a parallel copy of W. One process,
// repetitions in random order, ratios of medians; see README.md beside this file.

#include "adapter.hpp"
#include "initialize.hpp"
#include "ratios.hpp"

#include <ether/ether.hpp>

#include <benchmark/benchmark.h>

#include <Eigen/Dense>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

namespace {

using ether::Index;
using ether::Sides;
using ether::Variant;
template <class T>
using MatrixOf = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index width = 4096;  // W is (width, width)
constexpr Index most_tokens = 128;

/// Everything the benchmarks of one scalar type share; made once.
template <class T>
struct Data {
  MatrixOf<T> w = random(width, width), x = random(most_tokens, width);
  MatrixOf<T> grad_y = random(most_tokens, width), out = x, grad_x = x, merged = w;
  ether::EigenContext ctx;

  static MatrixOf<T> random(Index rows, Index cols) {
    return MatrixOf<float>::Random(rows, cols).template cast<T>();
  }
  static Data& get() {
    static Data data;
    return data;
  }
};

struct Adapted {
  Variant variant;
  Sides sides;
  Index blocks;

  ether::Adapter<float> adapter() const {
    return bench::ether_adapter(bench::ether_config(variant, sides, blocks), width, width);
  }
  std::string name() const {
    return std::string(to_string(variant)) + "/" + to_string(sides) +
           "/n:" + std::to_string(blocks);
  }
};

void set_flops(benchmark::State& state, double per_iteration) {
  state.counters["FLOP/s"] = benchmark::Counter(
      per_iteration, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

void set_bytes(benchmark::State& state, double per_iteration) {
  state.SetBytesProcessed(static_cast<std::int64_t>(per_iteration) * state.iterations());
}

template <class T>
void read_w(benchmark::State& state) {
  auto& d = Data<T>::get();
  std::vector<float> sums(static_cast<std::size_t>(width));
  for (auto _ : state) {
    d.ctx.parallel_for(width, width * width,
                       [&](Index r, int) { sums[static_cast<std::size_t>(r)] = d.w.row(r).sum(); });
    benchmark::ClobberMemory();
  }
  set_bytes(state, double(width * width * Index(sizeof(T))));
}

template <class T>
void copy_w(benchmark::State& state) {
  auto& d = Data<T>::get();
  const Index parts = d.ctx.threads(), rows = width / parts;
  for (auto _ : state) {
    d.ctx.parallel_for(parts, width * width, [&](Index part, int) {
      const Index first = part * rows, count = part + 1 == parts ? width - first : rows;
      std::memcpy(static_cast<void*>(d.merged.row(first).data()), d.w.row(first).data(),
                  static_cast<std::size_t>(count * width) * sizeof(T));
    });
    benchmark::ClobberMemory();
  }
  set_bytes(state, 2.0 * double(width * width * Index(sizeof(T))));
}

/// The frozen layer alone: y = x W^T, or grad_x = grad_y W. Checked against Eigen's product.
template <class T>
void product(benchmark::State& state, Index tokens, bool transposed) {
  using Backend = ether::EigenBackend<T>;
  auto& d = Data<T>::get();
  const MatrixOf<float> x = d.x.topRows(tokens).template cast<float>();
  MatrixOf<float> y(tokens, width);
  const ether::DenseWeight<Backend> w(d.w);
  const auto call = [&] {
    transposed ? w.multiply_transposed(d.ctx, x, y) : w.multiply(d.ctx, x, y);
  };
  call();
  const MatrixOf<float> wide = d.w.template cast<float>();
  const MatrixOf<float> expected =
      transposed ? MatrixOf<float>(x * wide) : MatrixOf<float>(x * wide.transpose());
  if (!((y - expected).norm() <= 1e-4f * expected.norm()))
    return state.SkipWithError("wrong product");
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  set_flops(state, 2.0 * double(tokens) * double(width * width));
  set_bytes(state, double(width * width * Index(sizeof(T))));
}

void eigen_product(benchmark::State& state) {
  auto& d = Data<float>::get();
  for (auto _ : state) {
    d.out.noalias() = d.x * d.w.transpose();
    benchmark::ClobberMemory();
  }
  set_flops(state, 2.0 * double(most_tokens) * double(width * width));
}

/// Checks forward and merge of a layer against one another before either is timed.
template <class T>
bool consistent(const ether::EtherLinear<ether::EigenBackend<T>>& layer) {
  auto& d = Data<T>::get();
  layer.forward(d.ctx, d.x, d.out);
  layer.merge(d.ctx, d.merged);
  const MatrixOf<float> expected =
      d.x.template cast<float>() * d.merged.template cast<float>().transpose();
  const float tolerance = sizeof(T) == 2 ? 1e-2f : 1e-4f;  // both results are rounded to T
  return (d.out.template cast<float>() - expected).norm() <= tolerance * expected.norm();
}

enum class Operation { forward, backward, merge };

/// `keeps`: the forward pass keeps s, the tokens before H_out, and backward takes it.
template <class T = float>
void layer(benchmark::State& state, Operation operation, Adapted adapted, Index tokens,
           bool keeps = false) {
  auto& d = Data<T>::get();
  const auto adapter = adapted.adapter();
  const ether::EtherLinear<ether::EigenBackend<T>> layer(d.ctx, d.w, adapter);
  if (!consistent(layer)) return state.SkipWithError("forward and merge disagree");
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  const auto x = d.x.topRows(tokens), grad_y = d.grad_y.topRows(tokens);
  auto y = d.out.topRows(tokens), grad_x = d.grad_x.topRows(tokens);
  MatrixOf<float> s(keeps ? tokens : 0, width);
  if (keeps) layer.forward(d.ctx, x, y, s);
  for (auto _ : state) {
    if (operation == Operation::forward) layer.forward(d.ctx, x, y, s);
    if (operation == Operation::backward) layer.backward(d.ctx, {x, grad_y, grad_x, s}, grads);
    if (operation == Operation::merge) layer.merge(d.ctx, d.merged);
    benchmark::ClobberMemory();
  }
  set_bytes(state,
            (operation == Operation::merge ? 2.0 : 1.0) * double(width * width * Index(sizeof(T))));
}

std::string tokens_name(Index tokens) { return "/tokens:" + std::to_string(tokens); }

const Adapted ether_input{Variant::ether, Sides::input, 1};
const Adapted ether_plus_n1{Variant::ether_plus, Sides::both, 1};
const Adapted ether_plus_n32{Variant::ether_plus, Sides::both, 32};
const Adapted merges[] = {
    {Variant::ether, Sides::input, 1},      {Variant::ether, Sides::output, 1},
    {Variant::ether, Sides::input, 32},     {Variant::ether, Sides::output, 32},
    {Variant::ether, Sides::both, 1},       {Variant::ether, Sides::both, 32},
    {Variant::ether_plus, Sides::input, 1}, {Variant::ether_plus, Sides::output, 1},
    {Variant::ether_plus, Sides::both, 1},  {Variant::ether_plus, Sides::both, 32}};
const Adapted merges_bfloat16[] = {{Variant::ether, Sides::input, 32},
                                   {Variant::ether_plus, Sides::both, 32}};

void add_all() {
  using bf16 = Eigen::bfloat16;
  bench::add_benchmark("read_w", read_w<float>);
  bench::add_benchmark("copy_w", copy_w<float>);
  for (Index tokens : {1, 4, 16, 128})
    bench::add_benchmark("product/float" + tokens_name(tokens),
                         [=](auto& state) { product<float>(state, tokens, false); });
  for (Index tokens : {1, 128}) {
    bench::add_benchmark("product/bfloat16" + tokens_name(tokens),
                         [=](auto& state) { product<bf16>(state, tokens, false); });
    bench::add_benchmark("product/half" + tokens_name(tokens),
                         [=](auto& state) { product<Eigen::half>(state, tokens, false); });
  }
  bench::add_benchmark("product_transposed/float/tokens:128",
                       [](auto& s) { product<float>(s, 128, true); });
  bench::add_benchmark("eigen_product/float/tokens:128", eigen_product);
  for (const Adapted& a : {ether_input, ether_plus_n1, ether_plus_n32}) {
    for (Index tokens : {1, 128})
      bench::add_benchmark("forward/" + a.name() + tokens_name(tokens),
                           [=](auto& state) { layer(state, Operation::forward, a, tokens); });
    bench::add_benchmark("backward/" + a.name() + tokens_name(128),
                         [=](auto& state) { layer(state, Operation::backward, a, 128); });
  }
  for (const Adapted& a : {ether_plus_n1, ether_plus_n32}) {
    bench::add_benchmark("forward/" + a.name() + "/s_kept" + tokens_name(128),
                         [=](auto& state) { layer(state, Operation::forward, a, 128, true); });
    bench::add_benchmark("backward/" + a.name() + "/s_kept" + tokens_name(128),
                         [=](auto& state) { layer(state, Operation::backward, a, 128, true); });
  }
  for (const Adapted& a : merges)
    bench::add_benchmark("merge/" + a.name(),
                         [=](auto& state) { layer(state, Operation::merge, a, 1); });
  bench::add_benchmark("copy_w/bfloat16", copy_w<bf16>);
  for (const Adapted& a : merges_bfloat16)
    bench::add_benchmark("merge/" + a.name() + "/bfloat16",
                         [=](auto& state) { layer<bf16>(state, Operation::merge, a, 1); });
}

std::vector<std::pair<std::string, std::string>> ratios() {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (Index tokens : {128, 1})
    for (const Adapted& a : {ether_input, ether_plus_n1, ether_plus_n32})
      pairs.emplace_back("forward/" + a.name() + tokens_name(tokens),
                         "product/float" + tokens_name(tokens));
  for (const Adapted& a : {ether_input, ether_plus_n1, ether_plus_n32})
    pairs.emplace_back("backward/" + a.name() + "/tokens:128",
                       "product_transposed/float/tokens:128");
  for (const Adapted& a : {ether_plus_n1, ether_plus_n32}) {
    pairs.emplace_back("forward/" + a.name() + "/s_kept/tokens:128", "product/float/tokens:128");
    pairs.emplace_back("backward/" + a.name() + "/s_kept/tokens:128",
                       "product_transposed/float/tokens:128");
  }
  pairs.emplace_back("read_w", "product/float/tokens:1");
  pairs.emplace_back("product/float/tokens:4", "product/float/tokens:1");
  pairs.emplace_back("product/float/tokens:16", "product/float/tokens:1");
  for (const char* type : {"bfloat16", "half"})
    for (Index tokens : {1, 128})
      pairs.emplace_back(std::string("product/") + type + tokens_name(tokens),
                         "product/float" + tokens_name(tokens));
  pairs.emplace_back("product/float/tokens:128", "eigen_product/float/tokens:128");
  for (const Adapted& a : merges) pairs.emplace_back("merge/" + a.name(), "copy_w");
  for (const Adapted& a : merges_bfloat16)
    pairs.emplace_back("merge/" + a.name() + "/bfloat16", "copy_w/bfloat16");
  return pairs;
}

}  // namespace

int main(int argc, char** argv) {
  // Defaults that make medians of interleaved repetitions.
  if (!bench::initialize(argc, argv,
                         {"--benchmark_repetitions=15", "--benchmark_min_time=0.05",
                          "--benchmark_enable_random_interleaving=true"}))
    return 2;
  benchmark::AddCustomContext("threads", std::to_string(ether::EigenContext().threads()));
  add_all();
  bench::RatioReporter reporter(
      "W (4096, 4096) float, " + std::to_string(ether::EigenContext().threads()) + " threads",
      ratios());
  benchmark::RunSpecifiedBenchmarks(&reporter);
  return 0;
}
