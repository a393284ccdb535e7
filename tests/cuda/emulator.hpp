/// The CUDA of <ether/backends/cuda/portability.cuh> for a C++ compiler: kernels that keep to it
/// run on the CPU, unchanged, and what they do wrong is an EmulatorError. emulator/control.hpp is
/// what tests use; emulator/block.hpp says how a block runs.
///
/// Found: races between warps, lanes and blocks, through shared and device memory; shared memory
/// read before it is written; lanes or threads that do not meet at the same shuffle or barrier;
/// misaligned vectors; writes just outside of an array; CUDA's limits of a launch.
/// Not found: what only hardware does (the memory model within one warp's turn, speed, registers),
/// a thread count beyond __launch_bounds__, and a thread that never ends.
#pragma once

#include "cuda/emulator/block.hpp"
#include "cuda/emulator/control.hpp"
#include "cuda/emulator/launch.hpp"
#include "cuda/emulator/shared.hpp"

#include <ether/backends/cuda/launch.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __launch_bounds__(...)

#define ETHER_DEVICE inline
#define ETHER_HOST_DEVICE inline
#define ETHER_UNROLL
#define ETHER_UNROLL_BY(count)
#define ETHER_SHARED(T, name, count)                            \
  static ::test::emulator::SharedArray name##_in_shared_memory; \
  T(&name)[count] = *static_cast<T(*)[count]>(name##_in_shared_memory.place(sizeof(T) * (count)))
#define ETHER_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::test::emulator::dynamic_shared())

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

struct alignas(16) Bytes16 {
  std::uint32_t word[4];
};

// A kernel leaves `line` out: it is then the line of the call.
inline void barrier(int line = __builtin_LINE()) { test::emulator::barrier(line); }

template <class T>
T shuffle_xor(T value, int mask, int width, int line = __builtin_LINE()) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffle_xor: the value must be a plain one of 4 or 8 bytes");
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = test::emulator::exchange(word, {mask, width, sizeof value}, line);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline void wait_for_previous_kernel() {}
inline void let_next_kernel_start() {}

template <std::size_t bytes>
void check_aligned(const void* pointer) {
  test::emulator::check_alignment(pointer, bytes);
}

inline Bytes16 stream_load(const void* pointer) {
  check_aligned<sizeof(Bytes16)>(pointer);
  return *static_cast<const Bytes16*>(pointer);
}

inline void store_16(void* pointer, const Bytes16& bytes) {
  check_aligned<sizeof(Bytes16)>(pointer);
  std::memcpy(pointer, &bytes, sizeof bytes);
}

inline void prefetch(const void*) {}

template <auto kernel, class... Arguments>
void launch(const Launch& where, dim3 grid, int threads, std::size_t dynamic_shared_bytes,
            const Arguments&... arguments) {
  test::emulator::launch<kernel>(where, grid, threads, dynamic_shared_bytes, arguments...);
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE
