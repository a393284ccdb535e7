// The layer in a program that has threads of its own: one thread means no team, nested regions, fork.

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <thread>
#include <utility>

namespace {

using ether::Index;
using test::MatrixOf;
using Backend = ether::EigenBackend<float>;

struct Problem {
  static constexpr Index tokens = 40, out = 640, in = 512;  // enough work for a team
  ether::AdapterConfig config;
  MatrixOf<float> w = test::random_matrix<float>(out, in, 1),
                  x = test::random_matrix<float>(tokens, in, 2),
                  g = test::random_matrix<float>(tokens, out, 3);

  /// y, grad_x and W' of a layer whose Context has this many threads.
  std::array<MatrixOf<float>, 3> run(int threads) const {
    return run(ether::EigenContext(threads));
  }
  std::array<MatrixOf<float>, 3> run(ether::EigenContext ctx) const {
    const auto adapter = test::random_adapter<float>(config, out, in, 4);
    const ether::EtherLinear<Backend> layer(ctx, w, adapter);
    auto grads = ether::Adapter<float>::zeros_like(adapter);
    std::array<MatrixOf<float>, 3> r{MatrixOf<float>(tokens, out), MatrixOf<float>(tokens, in),
                                     MatrixOf<float>(out, in)};
    layer.forward(ctx, x, r[0]);
    layer.backward(ctx, x, g, r[1], grads);
    layer.merge(ctx, r[2]);
    return r;
  }
  bool right(int threads, const std::array<MatrixOf<float>, 3>& expected) const {
    return right(ether::EigenContext(threads), expected);
  }
  bool right(ether::EigenContext ctx, const std::array<MatrixOf<float>, 3>& expected) const {
    const auto r = run(std::move(ctx));
    for (std::size_t i = 0; i < r.size(); ++i)
      if (!test::bit_difference<float>(r[i], expected[i]).empty()) return false;
    return true;
  }
};

/// The exit status of a child process that runs `body`; -1 where it does not end in 60 seconds.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);  // a child that waits for threads it does not have would wait for ever
    int status = 125;
    try {
      status = body();
    } catch (...) {
    }
    ::_exit(status);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::ptrdiff_t thread_count() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
}

}  // namespace

TEST_CASE("after fork a Context of one thread works, and starts no other") {
  const Problem p;
  const auto expected = p.run(2);  // OpenMP's team is there when the process forks
  CHECK(in_child([&] { return p.right(1, expected) ? 0 : 1; }) == 0);
  if (std::filesystem::exists("/proc/self/task"))
    CHECK(in_child([&] {
            if (thread_count() != 1) return 2;
            p.run(1);
            return thread_count() == 1 ? 0 : 3;
          }) == 0);
  // The checks can fail.
  CHECK(in_child([&] { return p.right(1, {}) ? 0 : 1; }) == 1);
}

namespace {

/// Threads of a host: three, made for each call, which share the indices in an order of their own.
class HostThreads {
 public:
  void operator()(Index count, ether::TaskRef task) {
    ++calls;
    std::array<std::thread, threads> team;
    for (int t = 0; t < threads; ++t)
      team[static_cast<std::size_t>(t)] = std::thread([=] {
        for (Index i = count - 1 - t; i >= 0; i -= threads) task(i, t);
      });
    for (std::thread& thread : team) thread.join();
  }
  static constexpr int threads = 3;
  int calls = 0;
};

}  // namespace

TEST_CASE("a Context can use the host's threads, and no others") {
  const Problem p;
  const auto expected = p.run(2);  // OpenMP's team is there when the process forks
  HostThreads host;
  CHECK(p.right(ether::EigenContext(HostThreads::threads, std::ref(host)), expected));
  CHECK(host.calls > 0);
  if (std::filesystem::exists("/proc/self/task"))
    CHECK(in_child([&] {
            const ether::ParallelFor threads = std::ref(host);
            if (!p.right(ether::EigenContext(HostThreads::threads, threads), expected)) return 2;
            return thread_count() == 1 ? 0 : 3;
          }) == 0);
  CHECK_THROWS_AS(ether::EigenContext(0, std::ref(host)), ether::parameter_error);
  CHECK_THROWS_AS(ether::EigenContext(2, ether::ParallelFor()), ether::parameter_error);
}

#ifdef _OPENMP
TEST_CASE("within a parallel region of the host each thread uses a Context of its own") {
  const Problem p;
  const auto expected = p.run(1);
  for (int threads : {1, 2}) {
    std::array<bool, 3> right{true, true, true};  // of as many as there are
#pragma omp parallel num_threads(3)
    right[static_cast<std::size_t>(omp_get_thread_num())] = p.right(threads, expected);
    for (bool r : right) CHECK(r);
  }
}
#endif
