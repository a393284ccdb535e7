// What an emulated thread calls.

#include "cuda/emulator/control.hpp"
#include "cuda/emulator/machine.hpp"

namespace test::emulator {
namespace {

bool is_power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

void check(const Shuffle& s) {
  if (!is_power_of_two(s.width) || s.width > static_cast<int>(warp_size))
    fail("shuffle_xor: width " + std::to_string(s.width) + " is not a power of two up to 32");
  if (s.mask < 0 || s.mask >= s.width)
    fail("shuffle_xor: mask " + std::to_string(s.mask) + " leads out of the group of " +
         std::to_string(s.width) + " lanes");
}

bool is_dropped(const Thread& me) {
  return me.index % warp_size == warp_size - 1 && me.shuffles == faults.drop_shuffle;
}

std::string place() {
  const Machine& m = machine();
  std::string text = name_of(*m.kernel) + ", " + m.order->name() + ", block (" +
                     std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                     std::to_string(blockIdx.z) + ")";
  if (m.current != &m.scheduler) text += ", thread " + std::to_string(m.current->index);
  return text;
}

}  // namespace

void fail(const std::string& sentence) { throw EmulatorError(place() + ": " + sentence); }

void barrier(int line) {
  Thread& me = *machine().current;
  if (++me.barriers == faults.skip_barrier) return;
  me.line = line;
  wait(me, State::at_barrier);
}

std::uint64_t exchange(std::uint64_t value, const Shuffle& shuffle, int line) {
  check(shuffle);
  Thread& me = *machine().current;
  ++me.shuffles;
  if (is_dropped(me)) return value;
  me.shuffle = shuffle;
  me.sent = value;
  me.line = line;
  wait(me, State::at_shuffle);
  return me.received;
}

void check_alignment(const void* pointer, std::size_t bytes) {
  const std::size_t excess = reinterpret_cast<std::uintptr_t>(pointer) % bytes;
  if (excess != 0)
    fail("misaligned access: the address is " + std::to_string(excess) +
         " bytes past a multiple of " + std::to_string(bytes));
}

}  // namespace test::emulator
