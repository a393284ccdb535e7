/// Runs the threads of one block, and what they call to wait for one another.
///
/// All lanes of a warp run, one after the other, each up to its next shuffle or barrier or its end;
/// there all must have come to the same point. A warp goes on from shuffle to shuffle until a
/// barrier, as far ahead of the others as it can get; then the next warp runs. So memory that is
/// not protected by a barrier is used in a different sequence when the order of turns is reversed.
#pragma once

#include "cuda/emulator/order.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  // Implicit, as CUDA's is.
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline uint3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0};  // set before a thread gets its turn
inline dim3 blockDim, gridDim;

namespace test::emulator {

/// A kernel and its arguments, their types forgotten.
struct Kernel {
  const char* signature;                ///< __PRETTY_FUNCTION__ of a template on the kernel
  void (*call)(const void* arguments);  ///< one thread's work
  const void* arguments;
};

std::string name_of(const Kernel& kernel);

/// Runs block `blockIdx` of `blockDim.x` threads. Throws what the kernel throws, and EmulatorError.
void run_block(const Kernel& kernel, Order& order);

/// Whether a thread of the last block has used more stack than there is.
bool stack_overrun();

/// Throws an EmulatorError: the sentence, and before it the kernel, order, block and thread.
[[noreturn]] void fail(const std::string& sentence);

struct Shuffle {
  int mask, width;
  std::size_t bytes;
};

// Called by emulated threads. `line` is that of the call in the kernel's file.
void barrier(int line);
std::uint64_t exchange(std::uint64_t value, const Shuffle& shuffle, int line);
void check_alignment(const void* pointer, std::size_t bytes);

}  // namespace test::emulator
