// Batches whose rows have adapters of their own: ETHER's bank and a bank of LoRAs, each beside the frozen
// layer, and mixed batches beside batches of one adapter, in turns. W 4096 x 4096; see README.md.

#include "../tests/support/allocations.hpp"
#include "adapter.hpp"
#include "adapters/pairs.hpp"
#include "baselines/lora_bank.hpp"
#include "initialize.hpp"

#include <ether/ether.hpp>

#include <benchmark/benchmark.h>

#include <Eigen/Dense>

#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>

namespace {

using ether::Index;
using ether::Sides;
using ether::Variant;
template <class T>
using MatrixOf = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index width = 4096, tokens = 64, adapters = 64, blocks = 32;
/// 16 adapters that have 4 rows each, in the batches of `grouped`.
constexpr Index group = 4;

constexpr Index pairs_timed = 60;

using Ids = std::vector<std::int32_t>;
Ids mixed() {
  Ids ids(tokens);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}
Ids grouped() {
  Ids ids = mixed();
  for (auto& id : ids) id /= group;
  return ids;
}
const Ids one(tokens, 5), none(tokens, -1);

template <class T>
MatrixOf<T> random(Index rows, Index cols, double size = 1) {
  return (MatrixOf<float>::Random(rows, cols) * float(size)).template cast<T>();
}

ether::EigenContext& context() {
  static ether::EigenContext ctx;
  return ctx;
}

/// |a - b| <= tolerance |b|; more than that where it must be another matrix.
template <class T>
void require(const MatrixOf<T>& a, const MatrixOf<T>& b, bool same, const char* what) {
  const auto wide = [](const MatrixOf<T>& m) { return m.template cast<float>(); };
  const float tolerance = sizeof(T) == 2 ? 1e-2f : 1e-4f;
  if (((wide(a) - wide(b)).norm() <= tolerance * wide(b).norm()) != same)
    throw std::runtime_error(std::string("a result is wrong: ") + what);
}

/// Of one scalar type. Unit: how banks keep their vectors.
template <class T, class Unit>
struct Problem {
  using Backend = ether::EigenBackend<T>;
  MatrixOf<T> w = random<T>(width, width, 0.02), x = random<T>(tokens, width);
  MatrixOf<T> grad_y = random<T>(tokens, width), y = grad_y, grad_x = x;
  bench::Frozen<Backend> frozen{w};
  ether::EtherLinear<Backend> layer{context(), w};

  static Problem& get() {
    static Problem problem;
    return problem;
  }
  MatrixOf<T> result(const std::function<void()>& call) {
    y.setZero();
    call();
    return y;
  }
  void frozen_forward() { frozen.forward(context(), x, y); }
};

ether::Adapter<float> adapter(Variant variant, Sides sides, Index number) {
  auto made = bench::ether_adapter(bench::ether_config(variant, sides, blocks), width, width);
  std::mt19937 random(unsigned(number) + 2);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (Index i = 0; i < made.size(); ++i) made.data()[i] = uniform(random);
  return made;
}

template <class T, class Unit>
struct EtherBank {
  using Backend = ether::EigenBackend<T>;
  EtherBank(Variant variant, Sides sides)
      : bank(context(), bench::ether_config(variant, sides, blocks), width, width, adapters) {
    for (Index i = 0; i < adapters; ++i) bank.set(context(), i, adapter(variant, sides, i));
  }
  void forward(const Ids& ids) {
    auto& p = Problem<T, Unit>::get();
    p.layer.forward(context(), p.x, p.y, bank, ids.data());
  }
  ether::AdapterBank<Backend, Unit> bank;

  /// Held against layers that have one adapter each.
  void check(Variant variant, Sides sides) {
    auto& p = Problem<T, Unit>::get();
    const auto y = p.result([&] { forward(grouped()); });
    for (const Index i : {Index{0}, adapters / group - 1}) {
      const ether::EtherLinear<Backend> alone(context(), p.w, adapter(variant, sides, i));
      const auto expected = p.result([&] { alone.forward(context(), p.x, p.y); });
      require<T>(y.middleRows(i * group, group), expected.middleRows(i * group, group), true,
                 "bank");
      require<T>(y.middleRows((i + 5) % 10 * group, group),
                 expected.middleRows((i + 5) % 10 * group, group), false, "another adapter's rows");
    }
  }
};

template <class T, class Unit>
struct Lora {
  using Backend = ether::EigenBackend<T>;
  explicit Lora(Index rank_)
      : rank(rank_),
        a(random<Unit>(adapters * rank, width, 0.02)),
        b(random<Unit>(adapters * rank, width, 0.1)),
        bank(Problem<T, Unit>::get().w, a, b, rank, 1.0) {}
  void forward(const Ids& ids) {
    auto& p = Problem<T, Unit>::get();
    bank.forward(context(), p.x, p.y, ids.data());
  }
  Index rank;
  MatrixOf<Unit> a, b;
  bench::LoraBank<Backend, Unit> bank;

  void check() {
    auto& p = Problem<T, Unit>::get();
    const auto y = p.result([&] { forward(grouped()); });
    MatrixOf<float> expected = p.x.template cast<float>() * p.w.template cast<float>().transpose();
    const MatrixOf<T> base = expected.template cast<T>();
    for (Index i = 0; i < adapters / group; ++i)
      expected.middleRows(i * group, group) +=
          p.x.middleRows(i * group, group).template cast<float>() *
          a.middleRows(i * rank, rank).template cast<float>().transpose() *
          b.middleRows(i * rank, rank).template cast<float>();
    require<T>(y, expected.template cast<T>(), true, "LoRA bank");
    require<T>(y, base, false, "LoRA bank without LoRA");
  }
};

struct Call {
  std::string name;
  std::function<void()> base, other;
};

void measure(benchmark::State& state, const Call& call) try {
  call.base(), call.other();
#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
  state.counters["allocations"] = double(test::allocations_of(call.other));
#endif
  bench::Pairs pairs(true);
  for (auto _ : state) state.SetIterationTime(pairs.time([] {}, call.base, call.other));
  state.counters["ratio"] = pairs.ratio().median;
  state.counters["low"] = pairs.ratio().low;
  state.counters["high"] = pairs.ratio().high;
  state.counters["added_us"] = 1e6 * pairs.added().median;
} catch (const std::exception& e) {
  state.SkipWithError(e.what());
}

void add(const std::string& name, std::function<void()> base, std::function<void()> other) {
  const Call call{name, std::move(base), std::move(other)};
  benchmark::RegisterBenchmark(name.c_str(), [call](auto& state) { measure(state, call); })
      ->Unit(benchmark::kMillisecond)
      ->Iterations(pairs_timed)
      ->UseManualTime();
}

template <class T, class Unit>
void add_all(const std::string& type) {
  auto& p = Problem<T, Unit>::get();
  const auto frozen = [&p] { p.frozen_forward(); };
  struct Kind {
    const char* name;
    Variant variant;
    Sides sides;
  };
  for (const Kind& kind : {Kind{"ether_input", Variant::ether, Sides::input},
                           Kind{"ether_plus_both", Variant::ether_plus, Sides::both}}) {
    const auto bank = std::make_shared<EtherBank<T, Unit>>(kind.variant, kind.sides);
    bank->check(kind.variant, kind.sides);
    const std::string name = type + "/" + kind.name;
    const auto forward = [bank](Ids ids) { return [bank, ids] { bank->forward(ids); }; };
    add(name + "/64_adapters/frozen", frozen, forward(mixed()));
    add(name + "/64_adapters/one_adapter", forward(one), forward(mixed()));
    add(name + "/no_adapter/frozen", frozen, forward(none));
    if constexpr (std::is_same_v<Unit, float>) {
      using Grads = ether::BankGradients<ether::EigenBackend<T>>;
      const auto grads = std::make_shared<Grads>(context(), bank->bank);
      const auto step = [&p, bank, grads](Ids ids) {
        return [&p, bank, grads, ids] {
          bank->forward(ids);
          p.layer.backward(context(), p.x, p.grad_y, p.grad_x, bank->bank, ids.data(), *grads);
        };
      };
      add(name + "/training/64_adapters/one_adapter", step(one), step(mixed()));
      const auto update =
          std::make_shared<ether::Adapter<float>>(adapter(kind.variant, kind.sides, 3));
      add(name + "/set/frozen", frozen, [bank, update] { bank->bank.set(context(), 3, *update); });
    }
  }
  for (const Index rank : {8, 16, 64}) {
    const auto lora = std::make_shared<Lora<T, Unit>>(rank);
    lora->check();
    add(type + "/lora_r" + std::to_string(rank) + "/64_adapters/frozen", frozen,
        [lora, ids = mixed()] { lora->forward(ids); });
  }
}

/// Adapters that stay in a GiB: what the banks of a model allocate, for the query and value projections of 32
/// layers 4096 wide.
void resident(benchmark::State& state, Variant variant, Sides sides) {
#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
  constexpr Index capacity = 8;
  const auto adapted = adapter(variant, sides, 1);
  for (auto _ : state) {
    const auto bytes_for = [&](Index slots) {
      return double(test::bytes_allocated_by([&] {
        ether::AdapterBank<ether::EigenBackend<float>, Eigen::half> bank(
            context(), adapted.config(), width, width, slots);
        for (Index i = 0; i < slots; ++i) bank.set(context(), i, adapted);
      }));
    };
    const double bytes = (bytes_for(2 * capacity) - bytes_for(capacity)) / capacity;
    state.counters["bytes_per_adapter"] = 64 * bytes;
    state.counters["adapters_per_GiB"] = double(1 << 30) / (64 * bytes);
  }
#else
  (void)variant, (void)sides;
  state.SkipWithError("allocations are counted with glibc only");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (!bench::initialize(argc, argv, {})) return 2;
  try {
    benchmark::AddCustomContext("threads", std::to_string(context().threads()));
    add_all<float, float>("float");
    add_all<float, Eigen::half>("float_bank_half");
    add_all<Eigen::bfloat16, float>("bfloat16_bank_float");
    add_all<Eigen::bfloat16, Eigen::bfloat16>("bfloat16");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ether_bank_bench: %s\n", e.what());
    return 1;
  }
  benchmark::RegisterBenchmark("resident/ether_input", resident, Variant::ether, Sides::input)
      ->Iterations(1);
  benchmark::RegisterBenchmark("resident/ether_plus_both", resident, Variant::ether_plus,
                               Sides::both)
      ->Iterations(1);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
