#include "cuda/emulator/launch.hpp"

#include "cuda/emulator/control.hpp"
#include "cuda/emulator/memory.hpp"
#include "cuda/emulator/shared.hpp"
#include "cuda/emulator/thread.hpp"

#include <algorithm>

namespace test::emulator {
namespace {

constexpr unsigned most_x = 0x7FFFFFFF, most_yz = 65535;  // blocks in a grid
constexpr std::size_t shared_without_asking = 48 << 10;
constexpr std::size_t shared_of_emulator = 512 << 10;  // more than any GPU has

int orders = 3;

[[noreturn]] void refuse(const Kernel& kernel, const std::string& sentence) {
  throw EmulatorError(name_of(kernel) + ": " + sentence);
}

std::string text(dim3 d) {
  return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
}

void check_limits(const Kernel& kernel, dim3 grid, int threads, std::size_t dynamic,
                  std::size_t shared_limit) {
  if (threads < 1 || threads > static_cast<int>(most_threads))
    refuse(kernel, std::to_string(threads) + " threads in a block; 1 to 1024 are allowed");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    refuse(kernel, "a grid of " + text(grid) + " has no blocks");
  if (grid.x > most_x || grid.y > most_yz || grid.z > most_yz)
    refuse(kernel, "a grid of " + text(grid) + " is too large");
  if (dynamic > shared_limit)
    refuse(kernel, std::to_string(dynamic) + " bytes of dynamic shared memory; at most " +
                       std::to_string(shared_limit) + " are allowed");
}

uint3 block_index(std::size_t number) {
  const std::size_t row = number / gridDim.x;
  return {static_cast<unsigned>(number % gridDim.x), static_cast<unsigned>(row % gridDim.y),
          static_cast<unsigned>(row / gridDim.y)};
}

void run_grid(const Kernel& kernel, Order order) {
  std::vector<std::size_t> blocks(std::size_t{gridDim.x} * gridDim.y * gridDim.z);
  order.arrange(blocks);
  for (const std::size_t block : blocks) {
    blockIdx = block_index(block);
    run_block(kernel, order);
  }
  const std::string damaged = damaged_guard();
  if (!damaged.empty()) refuse(kernel, order.name() + ": " + damaged);
}

void run_in_all_orders(const Kernel& kernel) {
  MemoryCopy before, after;
  if (orders > 1) before.take();
  run_grid(kernel, Order(0));
  if (orders > 1) after.take();
  for (int number = 1; number < orders; ++number) {
    before.put_back();
    run_grid(kernel, Order(number));
    const std::string difference = after.difference();
    if (!difference.empty())
      refuse(kernel, "the result in " + Order(number).name() + " is not that in ascending order (" +
                         difference + "): a race, or a read of shared memory before its write");
  }
}

}  // namespace

std::string name_of(const Kernel& kernel) {
  std::string signature = kernel.signature;  // "... [with auto kernel = NAME]", or "; ...]"
  const std::string mark = "kernel = ";
  const std::size_t found = signature.find(mark);
  if (found == std::string::npos) return signature;
  const std::size_t begin = found + mark.size() + (signature[found + mark.size()] == '&' ? 1 : 0);
  return signature.substr(begin, signature.find_last_of(']') - begin);
}

void set_orders(int count) { orders = std::max(count, 1); }

void run(const Kernel& kernel, const ether::detail::cuda::Launch& where, dim3 grid, int threads,
         std::size_t dynamic_shared_bytes) {
  const std::size_t asked_for = dynamic_shared_bytes > ether::detail::cuda::shared_bytes_unasked
                                    ? where.shared_bytes
                                    : shared_without_asking;
  const std::size_t shared_limit = std::min(asked_for, shared_of_emulator);
  check_limits(kernel, grid, threads, dynamic_shared_bytes, shared_limit);
  gridDim = grid;
  blockDim = dim3(static_cast<unsigned>(threads));
  begin_shared_memory(dynamic_shared_bytes, shared_limit);
  ++statistics.launches;
  try {
    run_in_all_orders(kernel);
    if (stack_overrun()) refuse(kernel, "too much stack for the emulator");
  } catch (...) {
    damaged_guard();  // repairs, so that the next launch is not blamed
    throw;
  }
}

}  // namespace test::emulator
