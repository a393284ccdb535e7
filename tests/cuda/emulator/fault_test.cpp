// The CUDA emulator refuses kernels that are wrong, and says what is wrong with them.

#include "support/catch.hpp"

#include <ether/backends/cuda/portability.cuh>

#include "cuda/emulator/support.hpp"

#include <stdexcept>
#include <string>

namespace cuda = ether::detail::cuda;
namespace emulator = test::emulator;
using Catch::Matchers::ContainsSubstring;
using emulator::Array;
using emulator::error_of;

namespace {

const std::string race = ": a race, or a read of shared memory before its write";

constexpr int threads = 128;

// y = x backwards, twice, through one array: it needs both barriers, and the third between the two.
__global__ void exchange_twice_kernel(const float* x, float* y) {
  ETHER_SHARED(float, part, threads);
  const int i = static_cast<int>(threadIdx.x);
  part[i] = x[i];
  cuda::barrier();
  const float backwards = part[threads - 1 - i];
  cuda::barrier();
  part[i] = backwards + 1;
  cuda::barrier();
  y[i] = part[threads - 1 - i];
}

// The lanes of a warp share memory too, and only a barrier may stand between them.
__global__ void neighbour_lane_kernel(int* y) {
  ETHER_SHARED(int, part, 32);
  part[threadIdx.x] = static_cast<int>(threadIdx.x);
  y[threadIdx.x] = part[threadIdx.x ^ 1];
}

__global__ void race_between_blocks_kernel(int* sum) {
  if (threadIdx.x == 0) sum[0] = 2 * sum[0] + static_cast<int>(blockIdx.x);
}

__global__ void last_block_wins_kernel(int* last) { last[7] = static_cast<int>(blockIdx.x); }

__global__ void unwritten_kernel(float* y) {
  ETHER_SHARED(float, part, threads);
  if (threadIdx.x != 5) part[threadIdx.x] = 1;
  cuda::barrier();
  y[threadIdx.x] = part[threadIdx.x];
}

__global__ void half_warp_shuffle_kernel(float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = cuda::shuffle_xor(1.f, 1, 32);
}

__global__ void shuffle_or_barrier_kernel(float* y) {
  if (threadIdx.x % 2 == 0) y[threadIdx.x] = cuda::shuffle_xor(1.f, 2, 32);
  cuda::barrier();
}

__global__ void width_kernel(float* y) {
  y[threadIdx.x] = cuda::shuffle_xor(1.f, 1, threadIdx.x < 16 ? 16 : 32);
}

__global__ void shuffle_kernel(float* y, int mask, int width) {
  y[threadIdx.x] = cuda::shuffle_xor(y[threadIdx.x], mask, width);
}

__global__ void reduce_kernel(float* y) {
  float sum = 1;
  for (int mask = 16; mask > 0; mask /= 2) sum += cuda::shuffle_xor(sum, mask, 32);
  y[threadIdx.x] = sum;
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 32)
    cuda::barrier();
  else
    cuda::barrier();
}

__global__ void warp_returns_early_kernel(unsigned first_to_return) {
  if (threadIdx.x >= first_to_return) return;
  cuda::barrier();
}

__global__ void throwing_kernel(unsigned thread) {
  cuda::barrier();
  if (threadIdx.x == thread) throw std::out_of_range("from a kernel");
  cuda::barrier();
}

}  // namespace

TEST_CASE("each of the barriers of a kernel is missed where it is taken away") {
  const Array<float> x(std::vector<float>(threads, 3)), y(threads);
  for (int i = 0; i < threads; ++i) x.data()[i] = static_cast<float>(i);
  const auto run = [&] {
    cuda::launch<exchange_twice_kernel>({}, 1, threads, 0, x.data(), y.data());
  };
  emulator::reset_statistics();
  CHECK(error_of(run) == "");
  REQUIRE(emulator::statistics.most_barriers == 3);
  for (int k = 1; k <= 3; ++k) {  // 2 is a write after a read, which one order alone does not show
    const emulator::ScopedFaults without({k, 0});
    CHECK_THAT(error_of(run), ContainsSubstring(race));
  }
  CHECK(error_of(run) == "");
  for (int i = 0; i < threads; ++i) CHECK(y.values()[i] == static_cast<float>(i) + 1);
}

TEST_CASE("a missing barrier between the lanes of one warp is a race") {
  const Array<int> y(32);
  CHECK_THAT(error_of([&] { cuda::launch<neighbour_lane_kernel>({}, 1, 32, 0, y.data()); }),
             ContainsSubstring("neighbour_lane_kernel: the result in descending order"));
}

TEST_CASE("races between blocks are found") {
  const Array<int> x(std::vector<int>(16, 1)), other(std::vector<int>(16, 1));
  CHECK_THAT(error_of([&] { cuda::launch<race_between_blocks_kernel>({}, 3, 32, 0, x.data()); }),
             ContainsSubstring(race));
  CHECK_THAT(error_of([&] { cuda::launch<last_block_wins_kernel>({}, 3, 32, 0, other.data()); }),
             ContainsSubstring("(byte 28 of allocation ") && ContainsSubstring(" (64 bytes))"));
  emulator::set_orders(1);
  CHECK(error_of([&] { cuda::launch<last_block_wins_kernel>({}, 3, 32, 0, other.data()); }) == "");
  emulator::set_orders(3);
}

TEST_CASE("a read of shared memory that was never written is found") {
  const Array<float> y(threads);
  CHECK_THAT(error_of([&] { cuda::launch<unwritten_kernel>({}, 1, threads, 0, y.data()); }),
             ContainsSubstring("(byte 20 of ") && ContainsSubstring(race));
}

TEST_CASE("lanes that do not meet at the same shuffle are found") {
  const Array<float> y(64);
  CHECK_THAT(error_of([&] { cuda::launch<half_warp_shuffle_kernel>({}, 1, 32, 0, y.data()); }),
             ContainsSubstring("half_warp_shuffle_kernel, ascending order, block (0, 0, 0): thread "
                               "0 waits at shuffle_xor(mask 1, width 32, 4 bytes) in line") &&
                 ContainsSubstring("while thread 16 has returned"));
  CHECK_THAT(error_of([&] { cuda::launch<shuffle_or_barrier_kernel>({}, 1, 32, 0, y.data()); }),
             ContainsSubstring("while thread 1 waits at the barrier in line"));
  CHECK_THAT(error_of([&] { cuda::launch<width_kernel>({}, 1, 32, 0, y.data()); }),
             ContainsSubstring("width 16, 4 bytes)") && ContainsSubstring("width 32, 4 bytes)"));
  CHECK_THAT(error_of([&] { cuda::launch<shuffle_kernel>({}, 1, 48, 0, y.data(), 1, 32); }),
             ContainsSubstring("a shuffle in a warp that has only 16 lanes"));
}

TEST_CASE("a lane that drops out of any of its shuffles is missed") {
  const Array<float> y(64);
  const auto run = [&] { cuda::launch<reduce_kernel>({}, 1, 64, 0, y.data()); };
  for (int k = 1; k <= 5; ++k) {
    const emulator::ScopedFaults faults({0, k});
    CHECK_THAT(error_of(run), ContainsSubstring("while thread 31 "));
  }
  CHECK(error_of(run) == "");
}

TEST_CASE("shuffles have a width and a mask that make sense") {
  const Array<float> y(32);
  const auto run = [&](int mask, int width) {
    return error_of([&] { cuda::launch<shuffle_kernel>({}, 1, 32, 0, y.data(), mask, width); });
  };
  for (const int width : {-1, 0, 24, 64})
    CHECK_THAT(run(0, width), ContainsSubstring("is not a power of two up to 32"));
  CHECK_THAT(run(8, 8), ContainsSubstring("mask 8 leads out of the group of 8 lanes"));
  CHECK_THAT(run(-1, 8), ContainsSubstring("mask -1 leads out"));
}

TEST_CASE("threads that do not meet at the same barrier are found") {
  CHECK_THAT(error_of([] { cuda::launch<two_barriers_kernel>({}, 1, 64, 0); }),
             ContainsSubstring("thread 0 waits at the barrier in line ") &&
                 ContainsSubstring("while thread 32 waits at the barrier in line "));
  for (const unsigned first : {1u, 31u, 32u, 100u})
    CHECK_THAT(
        error_of([&] { cuda::launch<warp_returns_early_kernel>({}, 1, 128, 0, first); }),
        ContainsSubstring("waits at the barrier in line ") && ContainsSubstring("has returned"));
  CHECK(error_of([] { cuda::launch<warp_returns_early_kernel>({}, 1, 128, 0, 128); }) == "");
}

TEST_CASE("an exception leaves the kernel as it is, and the emulator goes on") {
  const Array<float> y(64);
  for (const unsigned thread : {0u, 33u, 127u}) {
    CHECK_THROWS_AS(cuda::launch<throwing_kernel>({}, 2, 128, 0, thread), std::out_of_range);
    CHECK_THROWS_WITH(cuda::launch<throwing_kernel>({}, 2, 128, 0, thread), "from a kernel");
    CHECK(error_of([&] { cuda::launch<throwing_kernel>({}, 2, 128, 0, 128); }) == "");
    CHECK(error_of([&] { cuda::launch<reduce_kernel>({}, 1, 64, 0, y.data()); }) == "");
    CHECK(y.values() == std::vector<float>(64, 32));
  }
}
