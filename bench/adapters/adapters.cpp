// Every method on every shape, beside the frozen layer that it adapts; see ../README.md.
//
// A benchmark calls the frozen layer and the adapted one in turns and reports, in its counters,
// medians over these pairs. Names: operation/type/shape/method/tokens:T.

#include "../../tests/support/allocations.hpp"
#include "../initialize.hpp"
#include "methods.hpp"
#include "pairs.hpp"
#include "shapes.hpp"

#include <benchmark/benchmark.h>

#include <map>
#include <stdexcept>
#include <string>

namespace {

using namespace bench;
using ether::EigenContext;

enum class Operation { forward, backward, merge, prologue };
constexpr const char* operation_names[] = {"forward", "backward", "merge", "prologue"};

#ifdef __clang__
const std::string compiler = "clang++ " __clang_version__;
#else
const std::string compiler = "g++ " __VERSION__;
#endif
const std::string eigen_version = std::to_string(EIGEN_WORLD_VERSION) + "." +
                                  std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                  std::to_string(EIGEN_MINOR_VERSION);

EigenContext& context() {
  static EigenContext ctx;
  return ctx;
}

/// What all methods on one shape share. Made when first asked for.
template <class T>
struct Data {
  explicit Data(const Shape& shape)
      : w(random(shape.out, shape.in)),
        x(random(most_tokens, shape.in)),
        grad_y(random(most_tokens, shape.out)),
        y(grad_y),
        grad_x(x),
        merged(w) {}

  static MatrixOf<T> random(Index rows, Index cols) {
    return random_matrix(rows, cols, 1).template cast<T>();
  }
  static Data& get(const Shape& shape) {
    static std::map<std::string, Data> all;
    return all.try_emplace(shape.name, shape).first->second;
  }

  MatrixOf<T> w, x, grad_y, y, grad_x, merged;
};

/// |a - b| <= tolerance |b|
template <class A, class B>
bool close(const A& a, const B& b, float tolerance) {
  return (a - b).norm() <= tolerance * b.norm();
}

/// Holds a method's operations against its own merged weight: y = x W'^T, grad_x = grad_y W', for
/// few tokens and for many, whose products differ, and W' against W. (That W' is the method's is what
/// the tests show.)
template <class T>
void check(const Adapted<T>& layer, Data<T>& d) {
  // Of the rounding of W' and of the results, to 8 bits in bfloat16.
  const float tolerance = sizeof(T) == 2 ? 1e-2f : 1e-4f;
  layer.merge(context(), d.merged);
  const MatrixOf<float> merged = d.merged.template cast<float>();
  if (close(merged, d.w.template cast<float>(), 2 * tolerance)) throw std::runtime_error("W' is W");
  for (Index tokens : {3, 33}) {
    const auto x = d.x.topRows(tokens), grad_y = d.grad_y.topRows(tokens);
    auto y = d.y.topRows(tokens), grad_x = d.grad_x.topRows(tokens);
    layer.forward(context(), x, y);
    if (!close(y.template cast<float>(), x.template cast<float>() * merged.transpose(), tolerance))
      throw std::runtime_error("forward is not x W'^T with the merged W'");
    if (!layer.backward) continue;
    layer.backward(context(), x, grad_y, grad_x);
    if (!close(grad_x.template cast<float>(), grad_y.template cast<float>() * merged, tolerance))
      throw std::runtime_error("grad_x is not grad_y W' with the merged W'");
  }
}

/// Checked when made.
template <class T>
const Adapted<T>& layer_of(const Method& method, const Shape& shape) {
  static std::map<std::string, Adapted<T>> all;
  const std::string key = std::string(shape.name) + "/" + method.name;
  const auto found = all.find(key);
  if (found != all.end()) return found->second;
  Data<T>& d = Data<T>::get(shape);
  Adapted<T> layer = make_adapted<T>(method, d.w);
  check(layer, d);
  return all.emplace(key, std::move(layer)).first->second;
}

/// Calls the frozen layer's operation, or the adapted one's where `layer` is given.
template <class T>
void call(EigenContext& ctx, Operation operation, Data<T>& d, Index tokens,
          const Adapted<T>* layer) {
  const Frozen<ether::EigenBackend<T>> frozen(d.w);
  const auto x = d.x.topRows(tokens), grad_y = d.grad_y.topRows(tokens);
  auto y = d.y.topRows(tokens), grad_x = d.grad_x.topRows(tokens);
  switch (operation) {
    case Operation::forward:
      return layer ? layer->forward(ctx, x, y) : frozen.forward(ctx, x, y);
    case Operation::backward:
      return layer ? layer->backward(ctx, x, grad_y, grad_x)
                   : frozen.backward(ctx, x, grad_y, grad_x);
    case Operation::merge:
      return layer ? layer->merge(ctx, d.merged) : frozen.merge(ctx, d.merged);
    case Operation::prologue:
      return layer ? layer->prologue(ctx, x)
                   : frozen.pack(ctx, ether::identity<float>(x.cols()), x);
  }
}

/// What a call allocates with a new Context, in bytes, and how often a later one with the same
/// allocates. Counted in a benchmark's first repetition.
struct Allocated {
  bool counted = false;
  double first = 0, later = 0;

  template <class Call>
  void count(Call&& call) {
#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
    if (counted) return;
    EigenContext fresh(context().threads());
    first = double(test::bytes_allocated_by([&] { call(fresh); }));
    later = double(test::allocations_of([&] { call(fresh); }));
    counted = true;
#else
    (void)call;
#endif
  }
};

template <class T>
void measure(benchmark::State& state, Operation operation, const Shape& shape, const Method& method,
             Index tokens, bool frozen_first, Allocated& allocated) try {
  const Adapted<T>& layer = layer_of<T>(method, shape);
  Data<T>& d = Data<T>::get(shape);
  EigenContext& ctx = context();
  const auto frozen_call = [&] { call<T>(ctx, operation, d, tokens, nullptr); };
  const auto layer_call = [&] { call<T>(ctx, operation, d, tokens, &layer); };
  allocated.count([&](EigenContext& fresh) { call<T>(fresh, operation, d, tokens, &layer); });
  frozen_call(), layer_call();  // workspace, pages, caches

  // A prologue finds the caches as a forward pass leaves them to the next.
  const auto before = [&] {
    if (operation == Operation::prologue) call<T>(ctx, Operation::forward, d, tokens, nullptr);
  };
  Pairs pairs(frozen_first);
  for (auto _ : state) state.SetIterationTime(pairs.time(before, frozen_call, layer_call));

  auto& c = state.counters;
  c["frozen_s"] = pairs.base().median;
  c["method_s"] = pairs.other().median;
  c["ratio"] = pairs.ratio().median;
  c["ratio_low"] = pairs.ratio().low;
  c["ratio_high"] = pairs.ratio().high;
  c["added_s"] = pairs.added().median;
  c["added_low"] = pairs.added().low;
  c["added_high"] = pairs.added().high;
  c["parameters"] = double(layer.parameters);
  c["bytes"] = double(layer.bytes);
  if (operation == Operation::forward)
    c["flops"] = layer.flops_per_token * double(tokens) + layer.flops_per_forward;
  if (operation == Operation::merge)
    c["bytes_per_second"] = 2.0 * double(d.w.size()) * sizeof(T) / pairs.other().median;
  c["workspace"] = allocated.first;
  c["allocations"] = allocated.later;
} catch (const std::exception& e) {
  state.SkipWithError(e.what());
}

template <class T>
void add(Operation operation, const char* type, const Shape& shape, const Method& method,
         Index tokens) {
  std::string name = std::string(operation_names[int(operation)]) + "/" + type + "/" + shape.name +
                     "/" + method.name;
  if (operation != Operation::merge) name += "/tokens:" + std::to_string(tokens);
  benchmark::RegisterBenchmark(
      name.c_str(),
      [=, &shape, &method, frozen_first = false, allocated = Allocated()](auto& state) mutable {
        frozen_first = !frozen_first;  // repetitions may be single pairs
        measure<T>(state, operation, shape, method, tokens, frozen_first, allocated);
      })
      ->Unit(benchmark::kMillisecond)
      ->UseManualTime();
}

template <class T>
void add_all(const char* type) {
  for (const Shape& shape : shapes)
    for (const Method& method : methods) {
      if (method.family != Family::ether_plus_s_kept)  // as without
        add<T>(Operation::merge, type, shape, method, 1);
      if (has_prologue(method.family))
        add<T>(Operation::prologue, type, shape, method, prologue_tokens);
      for (Index tokens : token_counts) {
        add<T>(Operation::forward, type, shape, method, tokens);
        if (has_backward(method.family)) add<T>(Operation::backward, type, shape, method, tokens);
      }
    }
}

}  // namespace

int main(int argc, char** argv) {
  // Defaults that suit pairs of calls.
  if (!bench::initialize(argc, argv,
                         {"--benchmark_repetitions=5", "--benchmark_min_time=0.02",
                          "--benchmark_enable_random_interleaving=true"}))
    return 2;
  benchmark::AddCustomContext("threads", std::to_string(context().threads()));
  benchmark::AddCustomContext("compiler", compiler);
  benchmark::AddCustomContext("eigen", eigen_version);
  add_all<float>("float");
  add_all<Eigen::bfloat16>("bfloat16");
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
