// The CUDA emulator runs correct kernels, in every order, and leaves their results behind.
// That it refuses wrong ones: emulator_fault_test.cpp
// and emulator_limit_test.cpp.

#include "support/catch.hpp"

#include <ether/backends/cuda/portability.cuh>

#include "cuda/emulator/support.hpp"

#include <chrono>
#include <numeric>

namespace cuda = ether::detail::cuda;
namespace emulator = test::emulator;
using emulator::Array;

namespace {

template <class T>
__global__ void __launch_bounds__(128) scale_kernel(const T* x, T* y, long count, T factor) {
  const long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = factor * x[i];
}

template <class T>
ETHER_DEVICE T warp_sum(T value) {
  ETHER_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) value += cuda::shuffle_xor(value, mask, 32);
  return value;
}

// sums[block] = the sum of the block's part of x, times `repeats`
template <class T, int threads>
__global__ void __launch_bounds__(threads) sum_kernel(const T* x, T* sums, int repeats) {
  ETHER_SHARED(T, of_warp, threads / 32);
  T total = 0;
  for (int i = 0; i < repeats; ++i) {
    const T sum = warp_sum(x[blockIdx.x * threads + threadIdx.x]);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    cuda::barrier();
    for (const T s : of_warp) total += s;
    cuda::barrier();
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// y = x, each block's part of it backwards
template <class T>
__global__ void reverse_kernel(const T* x, T* y) {
  ETHER_DYNAMIC_SHARED(T, part);
  part[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  cuda::barrier();
  y[blockIdx.x * blockDim.x + threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}

__global__ void index_kernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * blockDim.x + threadIdx.x] = 100 * block + threadIdx.x + threadIdx.y + threadIdx.z;
}

template <class T>
__global__ void group_sum_kernel(T* x, int width) {
  T value = x[threadIdx.x];
  for (int mask = width / 2; mask > 0; mask /= 2) value += cuda::shuffle_xor(value, mask, width);
  x[threadIdx.x] = value;
}

__global__ void copy16_kernel(const float* x, float* y) {
  cuda::wait_for_previous_kernel();
  float* const to = y + 4 * threadIdx.x;
  cuda::check_aligned<16>(to);
  *reinterpret_cast<cuda::Bytes16*>(to) = cuda::stream_load(x + 4 * threadIdx.x);
  cuda::let_next_kernel_start();
}

template <class T>
std::vector<T> count_up(std::size_t count) {
  std::vector<T> values(count);
  std::iota(values.begin(), values.end(), T{1});
  return values;
}

}  // namespace

TEST_CASE("the emulator runs an elementwise kernel") {
  const Array<float> x(count_up<float>(1000)), y(1000);
  cuda::launch<scale_kernel<float>>({}, 8, 128, 0, x.data(), y.data(), 1000, 2);
  for (std::size_t i = 0; i < 1000; ++i) REQUIRE(y.values()[i] == 2.f * static_cast<float>(i + 1));
}

TEMPLATE_TEST_CASE("the emulator runs a sum with shuffles and barriers", "", float, double, int) {
  const Array<TestType> x(count_up<TestType>(512)), sums(2);
  cuda::launch<sum_kernel<TestType, 256>>({}, 2, 256, 0, x.data(), sums.data(), 3);
  CHECK(sums.values() == std::vector<TestType>{3 * 32896, 3 * 98432});
}

TEST_CASE("the emulator gives dynamic shared memory beyond 48 KiB if the device has it") {
  cuda::Launch where;
  where.shared_bytes = 100 << 10;
  const Array<double> x(count_up<double>(2048)), y(2048);
  cuda::launch<reverse_kernel<double>>(where, 2, 1024, 100 << 10, x.data(), y.data());
  CHECK(y.values()[0] == 1024);
  CHECK(y.values()[1024] == 2048);
  CHECK(y.values()[2047] == 1025);
}

TEST_CASE("the emulator numbers blocks and threads, also of a warp that is not full") {
  const Array<unsigned> out(2 * 3 * 4 * 40);
  cuda::launch<index_kernel>({}, dim3(2, 3, 4), 40, 0, out.data());
  for (unsigned i = 0; i < 960; ++i) REQUIRE(out.values()[i] == 100 * (i / 40) + i % 40);
}

TEST_CASE("the emulator shuffles in groups of lanes") {
  const int width = GENERATE(1, 2, 8, 16, 32);
  const std::vector<int> before = count_up<int>(64);
  const Array<int> x(before);
  emulator::set_orders(1);
  cuda::launch<group_sum_kernel<int>>({}, 1, 64, 0, x.data(), width);
  emulator::set_orders(3);
  for (int i = 0; i < 64; ++i) {
    const auto group = before.begin() + i / width * width;
    REQUIRE(x.values()[static_cast<std::size_t>(i)] == std::accumulate(group, group + width, 0));
  }
}

TEST_CASE("a kernel that works in place runs from the same memory in every order") {
  const Array<int> x(std::vector<int>(32, 1));
  cuda::launch<group_sum_kernel<int>>({}, 1, 32, 0, x.data(), 32);
  CHECK(x.values() == std::vector<int>(32, 32));
}

TEST_CASE("the emulator copies 16 bytes at a time") {
  const Array<float> x(count_up<float>(128)), y(128);
  cuda::launch<copy16_kernel>({}, 1, 32, 0, x.data(), y.data());
  CHECK(y.values() == x.values());
}

TEST_CASE("device memory is poisoned and aligned") {
  const Array<float> x(5);
  for (const float value : x.values()) CHECK(value != value);
  CHECK(reinterpret_cast<std::uintptr_t>(x.data()) % 256 == 0);
  emulator::release(nullptr);
  float host = 0;
  CHECK_THROWS_AS(emulator::release(&host), test::EmulatorError);
}

TEST_CASE("the emulator counts") {
  const Array<float> x(count_up<float>(512)), sums(2);
  emulator::reset_statistics();
  cuda::launch<sum_kernel<float, 256>>({}, 2, 256, 0, x.data(), sums.data(), 3);
  const emulator::Statistics& s = emulator::statistics;
  CHECK(s.launches == 1);
  CHECK(s.blocks == 3 * 2);        // orders, blocks
  CHECK(s.barriers == 3 * 2 * 6);  // a thread's barriers
  CHECK(s.most_barriers == 6);
  CHECK(s.shuffles == 3 * 2 * 8 * 15);  // warps, a lane's shuffles
  CHECK(s.switches == (s.shuffles + 8 * (s.barriers + s.blocks)) * 33);
}

TEST_CASE("how fast the emulator is", "[.][speed]") {
  const Array<float> x(count_up<float>(512)), sums(2);
  emulator::reset_statistics();
  const auto begin = std::chrono::steady_clock::now();
  cuda::launch<sum_kernel<float, 256>>({}, 2, 256, 0, x.data(), sums.data(), 5000);
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
  WARN(static_cast<double>(emulator::statistics.switches) / time.count() << " switches a us");
}
