// The oneDNN backend beside bare oneDNN matmuls, made here by hand, and beside EigenBackend's product. W
// is 4096 x 4096, one process, repetitions in random order, ratios of medians; see README.md.

#include "adapter.hpp"
#include "initialize.hpp"
#include "ratios.hpp"

#include <ether/ether.hpp>

#include <ether/backends/onednn.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using ether::Index;
using ether::MatrixView;
template <class T>
using Backend = ether::OneDnnBackend<T>;

constexpr Index width = 4096, most_tokens = 512;
constexpr Index token_counts[] = {1, 4, 16, 128, 512};

template <class T>
const char* type_name() {
  return std::is_same_v<T, float> ? "float" : "bfloat16";
}

template <class T>
struct Data {
  std::vector<T> w = random(width * width), x = random(most_tokens * width), y = x;
  ether::OneDnnContext ctx;
  ether::DenseWeight<Backend<T>> dense{w.data(), width, width};
  ether::PackedWeight<Backend<T>> packed{ctx, MatrixView<const T>(w.data(), width, width)};

  MatrixView<const T> x_of(Index tokens) const { return {x.data(), tokens, width}; }
  MatrixView<T> y_of(Index tokens) { return {y.data(), tokens, width}; }

  static std::vector<T> random(Index count) {
    const Eigen::VectorXf values = Eigen::VectorXf::Random(count);
    std::vector<T> to(static_cast<std::size_t>(count));
    std::transform(values.begin(), values.end(), to.begin(),
                   [](float v) { return static_cast<T>(v); });
    return to;
  }
  static Data& get() {
    static Data data;
    return data;
  }
};

/// y = x W^T by oneDNN alone: `reordered` once into the layout that it asks for, or as it lies.
template <class T>
void bare(benchmark::State& state, Index tokens, bool reordered) {
  using dnnl::memory;
  auto& d = Data<T>::get();
  const auto type = ether::detail::onednn::data_type<T>();
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc row_major({tokens, width}, type, memory::format_tag::ab);
  const memory::desc lies({width, width}, type, memory::format_tag::ba);
  const memory::desc any({width, width}, type, memory::format_tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc chosen(engine, row_major, reordered ? any : lies, row_major);
#else
  const dnnl::matmul::primitive_desc chosen(
      dnnl::matmul::desc(row_major, reordered ? any : lies, row_major), engine);
#endif
  const dnnl::matmul product(chosen);
  memory a(row_major, engine, d.x.data()), c(row_major, engine, d.y.data());
  memory original(lies, engine, d.w.data()), b = original;
  if (reordered) {
    b = memory(chosen.weights_desc(), engine);
    dnnl::reorder(original, b).execute(stream, original, b);
  }
  for (auto _ : state) {
    product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
    benchmark::ClobberMemory();
  }
}

/// The frozen product of a backend, y = x W^T.
template <class T, class Weight, class Context>
void frozen(benchmark::State& state, Index tokens, const Weight& weight, Context& ctx) {
  auto& d = Data<T>::get();
  const auto identity = ether::identity<float>(width);
  for (auto _ : state) {
    weight.multiply_reflected(ctx, identity, d.x_of(tokens), identity, {}, d.y_of(tokens));
    benchmark::ClobberMemory();
  }
}

template <class T, class Weight>
void forward(benchmark::State& state, Index tokens, const Weight& weight,
             const ether::AdapterConfig& config) {
  auto& d = Data<T>::get();
  const ether::EtherLinear<Backend<T>, Weight> layer(d.ctx, weight,
                                                     bench::ether_adapter(config, width, width));
  for (auto _ : state) {
    layer.forward(d.ctx, d.x_of(tokens), d.y_of(tokens));
    benchmark::ClobberMemory();
  }
}

std::vector<std::pair<std::string, std::string>> ratios;

template <class F>
void add(const std::string& name, F f, const std::string& base) {
  bench::add_benchmark(name, f);
  ratios.emplace_back(name, base);
}

template <class T>
void add_all() {
  using ether::Sides;
  using ether::Variant;
  const auto input = bench::ether_config(Variant::ether, Sides::input, 32);
  const auto both = bench::ether_config(Variant::ether_plus, Sides::both, 32);
  for (Index tokens : token_counts) {
    const std::string end = std::string("/") + type_name<T>() + "/tokens:" + std::to_string(tokens);
    bench::add_benchmark("bare/as_it_lies" + end,
                         [=](auto& state) { bare<T>(state, tokens, false); });
    bench::add_benchmark("bare/reordered" + end,
                         [=](auto& state) { bare<T>(state, tokens, true); });
    add(
        "eigen/frozen" + end,
        [=](auto& state) {
          auto& d = Data<T>::get();
          frozen<T>(state, tokens,
                    ether::DenseWeight<ether::EigenBackend<T>>(d.w.data(), width, width), d.ctx);
        },
        "bare/as_it_lies" + end);
    const auto add_weight = [&](const std::string& name, auto weight,
                                const std::string& bare_name) {
      add(
          name + "/frozen" + end,
          [=](auto& state) {
            auto& d = Data<T>::get();
            frozen<T>(state, tokens, d.*weight, d.ctx);
          },
          bare_name + end);
      add(
          name + "/ether/input/n:32" + end,
          [=](auto& state) { forward<T>(state, tokens, Data<T>::get().*weight, input); },
          name + "/frozen" + end);
      add(
          name + "/ether_plus/both/n:32" + end,
          [=](auto& state) { forward<T>(state, tokens, Data<T>::get().*weight, both); },
          name + "/frozen" + end);
    };
    add_weight("dense", &Data<T>::dense, "bare/as_it_lies");
    add_weight("packed", &Data<T>::packed, "bare/reordered");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (!bench::initialize(argc, argv,
                         {"--benchmark_repetitions=11", "--benchmark_min_time=0.05",
                          "--benchmark_enable_random_interleaving=true"}))
    return 2;
  if (Backend<float>::is_accelerated()) add_all<float>();
  if (Backend<Eigen::bfloat16>::is_accelerated()) add_all<Eigen::bfloat16>();
  bench::RatioReporter reporter(
      "W (4096, 4096), " + std::to_string(ether::EigenContext().threads()) + " threads", ratios);
  benchmark::RunSpecifiedBenchmarks(&reporter);
  return 0;
}
