// The CUDA emulator refuses what lies outside: of memory, of CUDA's limits and of its own.

#include "support/catch.hpp"

#include <ether/backends/cuda/portability.cuh>

#include "cuda/emulator/support.hpp"

namespace cuda = ether::detail::cuda;
namespace emulator = test::emulator;
using Catch::Matchers::ContainsSubstring;
using emulator::Array;
using emulator::error_of;

namespace {

__global__ void vector_kernel(const float* x, float* y) {
  *reinterpret_cast<cuda::Bytes16*>(y) = cuda::stream_load(x);
}

__global__ void store_kernel(float* y, long where, float value) { y[where] = value; }

__global__ void copy_one_kernel(const float* x, float* y, long where) { y[where] = x[where]; }

__global__ void shared_store_kernel(int where) {
  ETHER_SHARED(float, part, 5);
  static_cast<float*>(part)[where] = 1;
}

__global__ void arrays_kernel() {
  ETHER_SHARED(float, a, 10 << 10);
  ETHER_SHARED(float, b, 1 << 10);
  a[0] = b[0] = 1;
}

__global__ void arrays_too_large_kernel() {
  ETHER_SHARED(float, a, 10 << 10);
  ETHER_SHARED(double, b, (1 << 10) + 1);
  a[0] = 1;
  b[0] = 1;
}

__global__ void empty_kernel() {}

template <int bytes>
__global__ void deep_kernel(int* y) {
  volatile char on_stack[bytes];
  for (int i = 0; i < bytes; ++i) on_stack[i] = 1;
  y[threadIdx.x] = on_stack[0];
}

}  // namespace

TEST_CASE("a misaligned vector is found") {
  const Array<float> x(8), y(8);
  const float* const aligned = x.data();
  CHECK(error_of([&] { cuda::launch<vector_kernel>({}, 1, 1, 0, aligned, y.data()); }) == "");
  CHECK_THAT(error_of([&] { cuda::launch<vector_kernel>({}, 1, 1, 0, aligned + 1, y.data()); }),
             ContainsSubstring("block (0, 0, 0), thread 0: misaligned access: the address is 4 "
                               "bytes past a multiple of 16"));
}

TEST_CASE("a write outside of an allocation is found, and found once") {
  const Array<float> x(5), y(5);
  const auto store = [&](long where) {
    return error_of([&] { cuda::launch<store_kernel>({}, 1, 1, 0, y.data(), where, 1.f); });
  };
  CHECK(store(4) == "");
  CHECK_THAT(store(5), ContainsSubstring("(20 bytes) was written 0 bytes past its end"));
  CHECK_THAT(store(68), ContainsSubstring("bytes past its end"));
  CHECK_THAT(store(-1), ContainsSubstring("bytes before its beginning"));
  CHECK_THAT(store(-64), ContainsSubstring("bytes before its beginning"));
  CHECK(store(0) == "");
  y.data()[5] = 0;
  CHECK_THAT(error_of(emulator::check_guards), ContainsSubstring("0 bytes past its end"));
  CHECK(error_of(emulator::check_guards) == "");
}

TEST_CASE("a copy from behind one allocation to behind another is found") {
  const Array<float> x(4), y(4);
  const auto copy = [&] { cuda::launch<copy_one_kernel>({}, 1, 1, 0, x.data(), y.data(), 4); };
  CHECK_THAT(error_of(copy), ContainsSubstring("bytes past its end"));
}

TEST_CASE("a write outside of an array in shared memory is found") {
  const auto store = [](int where) {
    return error_of([&] { cuda::launch<shared_store_kernel>({}, 1, 1, 0, where); });
  };
  CHECK(store(4) == "");
  for (const int where : {-1, 5, 8})
    CHECK_THAT(store(where), ContainsSubstring("just before or just after an array in shared"));
}

TEST_CASE("CUDA's limits of a launch hold") {
  const auto run = [](dim3 grid, int block, std::size_t dynamic, std::size_t of_device) {
    cuda::Launch where;
    where.shared_bytes = of_device;
    return error_of([&] { cuda::launch<empty_kernel>(where, grid, block, dynamic); });
  };
  const std::size_t kib = 1 << 10;
  CHECK(run(1, 1024, 48 * kib, 48 * kib) == "");
  CHECK(run(1, 1024, 99 * kib, 99 * kib) == "");
  CHECK_THAT(run(1, 1, 99 * kib + 1, 99 * kib), ContainsSubstring("of dynamic shared memory; at"));
  CHECK_THAT(run(1, 1025, 0, 0), ContainsSubstring("1025 threads in a block"));
  CHECK_THAT(run(1, 0, 0, 0), ContainsSubstring("0 threads in a block"));
  CHECK_THAT(run(1, -1, 0, 0), ContainsSubstring("-1 threads in a block"));
  CHECK_THAT(run(0, 1, 0, 0), ContainsSubstring("a grid of 0 x 1 x 1 has no blocks"));
  CHECK_THAT(run(dim3(1, 0), 1, 0, 0), ContainsSubstring("has no blocks"));
  CHECK_THAT(run(dim3(1, 1, 0), 1, 0, 0), ContainsSubstring("has no blocks"));
  CHECK_THAT(run(0x80000000u, 1, 0, 0), ContainsSubstring("is too large"));
  CHECK_THAT(run(dim3(1, 65536), 1, 0, 0), ContainsSubstring("is too large"));
  CHECK_THAT(run(dim3(1, 1, 65536), 1, 0, 0), ContainsSubstring("1 x 1 x 65536 is too large"));
}

TEST_CASE("arrays and dynamic shared memory count together") {
  const auto run = [](std::size_t dynamic, std::size_t of_device) {
    cuda::Launch where;
    where.shared_bytes = of_device;
    return error_of([&] { cuda::launch<arrays_kernel>(where, 1, 32, dynamic); });
  };
  const std::size_t kib = 1 << 10;
  CHECK(run(4 * kib, 99 * kib) == "");
  CHECK_THAT(run(4 * kib + 16, 99 * kib), ContainsSubstring("at most 49152 are allowed"));
  CHECK(run(55 * kib, 99 * kib) == "");
  CHECK_THAT(run(55 * kib + 16, 99 * kib), ContainsSubstring("at most 101376 are allowed"));
  CHECK_THAT(error_of([] { cuda::launch<arrays_too_large_kernel>({}, 1, 32, 0); }),
             ContainsSubstring("thread 0: arrays in shared memory take 49168 bytes; at most"));
}

TEST_CASE("a thread may use a good deal of stack, and not more than there is") {
  const Array<int> y(2);
  CHECK(error_of([&] { cuda::launch<deep_kernel<32768>>({}, 1, 2, 0, y.data()); }) == "");
  CHECK_THAT(error_of([&] { cuda::launch<deep_kernel<65536>>({}, 1, 2, 0, y.data()); }),
             ContainsSubstring("too much stack for the emulator"));
}
