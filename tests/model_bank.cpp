// Adapters loaded, evicted and held, while others compute.

#include "support/allocations.hpp"
#include "support/check_message.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>
#include <ether/model_bank.hpp>

#include <array>
#include <atomic>
#include <thread>

namespace {

using Backend = ether::EigenBackend<float>;
using Models = ether::ModelBank<Backend>;
using ether::Index;

constexpr Index wide = 40, narrow = 24;
const char* const up = "layers.0.up_proj";
const char* const down = "layers.0.down_proj";

/// Adapter `number`, in place of a directory: of any kind, some for one module alone.
struct Source {
  int number;
  std::vector<std::string> modules() const {
    if (number % 3 == 0) return {up};
    return {down, up};
  }
  ether::Adapter<float> adapter(const std::string& module, Index out, Index in) const {
    ether::AdapterConfig config;
    config.variant = number % 2 == 0 ? ether::Variant::ether : ether::Variant::ether_plus;
    config.sides = static_cast<ether::Sides>(number % 5 % 3);
    config.input_blocks = config.output_blocks = Index{1} << number % 4;
    return test::random_adapter<float>(config, out, in, std::uint64_t(2 * number) + (module == up));
  }
};

ether::AdapterConfig limits() {
  ether::AdapterConfig most;
  most.variant = ether::Variant::ether_plus;
  most.sides = ether::Sides::both;
  return most;
}

struct Model {
  explicit Model(Index capacity)
      : banks(ctx, limits(), {{up, wide, narrow}, {down, narrow, wide}}, capacity) {}
  Models::Hold load(int number) { return banks.load(ctx, name(number), Source{number}); }
  static std::string name(int number) { return "adapter " + std::to_string(number); }
  ether::EigenContext ctx{1};
  Models banks;
};

TEST_CASE("the adapter that was used longest ago is evicted", "[bank]") {
  Model m(3);
  for (int number : {1, 2, 3}) m.load(number);
  CHECK(m.banks.find("adapter 1"));  // used again
  CHECK(!m.banks.find("adapter 4"));
  CHECK(m.banks.find("adapter 4").id() == -1);
  m.load(4);
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 1", "adapter 3", "adapter 4"});
  m.load(3);  // is there
  m.load(5);
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 3", "adapter 4", "adapter 5"});
  m.banks.erase("adapter 5");
  m.banks.erase("adapter 5");
  const auto held = m.load(6);  // takes the free slot
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 3", "adapter 4", "adapter 6"});
  CHECK(m.banks[up].get(m.ctx, held.id()).config().sides ==
        Source{6}.adapter(up, wide, narrow).config().sides);
  CHECK(m.banks[up].occupied(held.id()));
  CHECK(!m.banks[down].occupied(held.id()));  // what 6 does not adapt is frozen
}

TEST_CASE("pinned and held adapters stay", "[bank]") {
  Model m(3);
  auto first = m.load(1), second = m.load(2);
  m.load(3);
  m.banks.pin("adapter 3");
  const auto before = m.banks[up].get(m.ctx, first.id());
  CHECK_REFUSED(m.load(4), ether::parameter_error, "adapter 4", "its 3", "hold 2",
                "1 more are pinned");
  CHECK(m.banks.names().size() == 3);
  second = m.load(3);  // releases 2
  m.load(4);
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 1", "adapter 3", "adapter 4"});
  m.banks.unpin("adapter 3");
  const auto again = std::move(first);
  CHECK(!first);
  for (int number = 5; number < 20; ++number) m.load(number);
  CHECK(m.banks.find("adapter 1").id() == again.id());
  const auto after = m.banks[up].get(m.ctx, again.id());
  CHECK(std::equal(before.data(), before.data() + before.size(), after.data()));
  CHECK_REFUSED(m.banks.pin("adapter 9999"), ether::parameter_error, "adapter 9999",
                "not resident");
}

TEST_CASE("an adapter is replaced under the requests that hold it", "[bank]") {
  Model m(3);
  const auto old = m.load(1);
  const auto before = m.banks[up].get(m.ctx, old.id());
  const auto now = m.banks.replace(m.ctx, "adapter 1", Source{2});
  CHECK(now.id() != old.id());
  CHECK(m.banks.find("adapter 1").id() == now.id());
  m.load(5);
  m.load(7);
  const auto after = m.banks[up].get(m.ctx, old.id());
  CHECK(std::equal(before.data(), before.data() + before.size(), after.data()));
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 1", "adapter 7"});
  // In its own slot where nobody holds it, and pinned as before.
  const auto seven = m.banks.find("adapter 7").id();
  m.banks.pin("adapter 7");
  CHECK(m.banks.replace(m.ctx, "adapter 7", Source{9}).id() == seven);
  CHECK_REFUSED(m.load(11), ether::parameter_error, "hold 2", "1 more are pinned");
  m.banks.erase("adapter 1");
  CHECK(!m.banks.find("adapter 1"));
  CHECK(m.banks[up].occupied(now.id()));  // until it is released
}

TEST_CASE("an adapter that cannot be loaded evicts none", "[bank]") {
  Model m(1);
  m.load(1);
  struct Unknown : Source {
    std::vector<std::string> modules() const { return {"lm_head"}; }
  };
  CHECK_REFUSED(m.banks.load(m.ctx, "x", Unknown{{2}}), ether::parameter_error, "'x'", "'lm_head'");
  struct Broken : Source {
    ether::Adapter<float> adapter(const std::string& module, Index out, Index in) const {
      auto zero = Source::adapter(module, out, in);
      if (module == up) zero.set_zero();
      return zero;
    }
  };
  CHECK_REFUSED(m.banks.load(m.ctx, "x", Broken{{2}}), ether::parameter_error, "length 0");
  CHECK_REFUSED(m.banks.load(m.ctx, "", Source{2}), ether::parameter_error, "name is empty");
  CHECK(m.banks.names() == std::vector<std::string>{"adapter 1"});
  CHECK_REFUSED(m.banks["lm_head"], ether::parameter_error, "lm_head");
  CHECK_REFUSED(Models(m.ctx, limits(), {{up, 4, 4}, {up, 4, 4}}, 2), ether::parameter_error,
                "two modules", up);
  CHECK_REFUSED(Models(m.ctx, limits(), {{up, 4, 4}}, 0), ether::parameter_error, "capacity is 0");
}

/// Threads load adapters, and compute with what they hold: every row must be what its adapter alone gives,
/// to the bit.
void soak(int rounds, int adapters, Index capacity) {
  constexpr int threads = 3;
  constexpr Index tokens = 7;
  const auto w_up = test::random_matrix<float>(wide, narrow, 1);
  const auto w_down = test::random_matrix<float>(narrow, wide, 2);
  const auto x = test::random_matrix<float>(1, narrow, 3);
  const auto pass = [&](ether::EigenContext& ctx, const Models& banks,
                        const std::vector<std::int32_t>& ids) {
    const auto count = static_cast<Index>(ids.size());
    const test::MatrixOf<float> rows = x.replicate(count, 1);
    test::MatrixOf<float> middle(count, wide), y(count, narrow);
    ether::EtherLinear<Backend>(ctx, w_up).forward(ctx, rows, middle, banks[up], ids.data());
    ether::EtherLinear<Backend>(ctx, w_down).forward(ctx, middle, y, banks[down], ids.data());
    return y;
  };

  std::vector<test::MatrixOf<float>> expected;
  Model alone(1);
  for (int number = -1; number < adapters; ++number) {
    std::int32_t id = -1;
    if (number >= 0) id = alone.load(number).id();
    expected.push_back(pass(alone.ctx, alone.banks, std::vector<std::int32_t>(tokens, id)).row(0));
  }

  Model m(capacity);
  std::atomic<int> wrong{0}, full{0}, next{0};
  const auto work = [&](int thread) {
    ether::EigenContext ctx(1);
    std::mt19937 random(static_cast<unsigned>(thread));
    while (next++ < rounds) {
      std::array<Models::Hold, tokens> holds;
      std::vector<int> numbers;
      for (Models::Hold& hold : holds) {
        const int number = static_cast<int>(random() % static_cast<unsigned>(adapters + 1)) - 1;
        numbers.push_back(number);
        if (number < 0) continue;
        hold = m.banks.find(Model::name(number));
        if (hold) continue;
        try {
          hold = random() % 16 == 0 ? m.banks.replace(ctx, Model::name(number), Source{number})
                                    : m.banks.load(ctx, Model::name(number), Source{number});
        } catch (const ether::parameter_error&) {  // all slots are held
          numbers.back() = -1;
          ++full;
        }
      }
      if (random() % 16 == 0) m.banks.erase(Model::name(numbers[0]));
      std::vector<std::int32_t> ids;
      for (const Models::Hold& hold : holds) ids.push_back(hold.id());
      const auto y = pass(ctx, m.banks, ids);
      for (Index r = 0; r < tokens; ++r)
        wrong +=
            test::bit_difference<float>(
                test::MatrixOf<float>(y.row(r)),
                expected[static_cast<std::size_t>(numbers[static_cast<std::size_t>(r)] + 1)]) != "";
    }
  };
  const auto run = [&](int until) {
    next = until - rounds / 10;
    std::vector<std::thread> team;
    for (int thread = 0; thread < threads; ++thread) team.emplace_back(work, thread);
    for (std::thread& thread : team) thread.join();
  };
  run(rounds);  // once warm
#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
  const long live = test::live_allocations();
#endif
  for (int part = 0; part < 9; ++part) run(rounds);
#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
  // Room for names and lengths, which a slot keeps: no more than when it is full.
  CHECK(test::live_allocations() <= live + 8 * capacity);
#endif
  CHECK(wrong == 0);
  CHECK(full < rounds);
  CHECK(m.banks.names().size() <= static_cast<std::size_t>(capacity));
}

TEST_CASE("soak: adapters come and go while mixed batches are computed", "[bank]") {
#ifdef ETHER_TEST_SANITIZED
  soak(1000, 100, 24);
#else
  soak(10000, 1000, 24);
#endif
}

}  // namespace
