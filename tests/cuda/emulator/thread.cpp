#include "cuda/emulator/thread.hpp"

#include <cstring>

namespace test::emulator {
namespace {

constexpr std::uint64_t canary = 0x0123456789ABCDEF;  // in the last bytes that a stack may use

}  // namespace

std::string describe(const Thread& t) {
  const std::string who = "thread " + std::to_string(t.index);
  const std::string where = " in line " + std::to_string(t.line);
  if (t.state == State::returned) return who + " has returned";
  if (t.state == State::at_barrier) return who + " waits at the barrier" + where;
  return who + " waits at shuffle_xor(mask " + std::to_string(t.shuffle.mask) + ", width " +
         std::to_string(t.shuffle.width) + ", " + std::to_string(t.shuffle.bytes) + " bytes)" +
         where;
}

void Stacks::mark_ends() {
  for (unsigned t = 0; t < most_threads; ++t) std::memcpy(of(t), &canary, sizeof canary);
}

bool Stacks::overrun(unsigned threads) const {
  for (unsigned t = 0; t < threads; ++t)
    if (std::memcmp(of(t), &canary, sizeof canary) != 0) return true;
  return false;
}

}  // namespace test::emulator
