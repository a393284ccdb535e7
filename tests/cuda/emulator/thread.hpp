/// One emulated thread, and its stack.
#pragma once

#include "cuda/emulator/block.hpp"
#include "cuda/emulator/context.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace test::emulator {

constexpr unsigned warp_size = 32;
constexpr unsigned most_threads = 1024;

enum class State { running, at_barrier, at_shuffle, returned };

struct Thread {
  Context context;
  Thread* next = nullptr;  // who gets the turn after this one
  unsigned index = 0;

  State state = State::running;
  int line = 0;              // of the call it waits in
  Shuffle shuffle{0, 0, 0};  // that it waits in
  std::uint64_t sent = 0, received = 0;

  int barriers = 0, shuffles = 0;  // that it came to
};

/// Whether the two threads are at the same shuffle, at the same barrier or at the end.
inline bool agree(const Thread& a, const Thread& b) {
  if (a.state != b.state) return false;
  if (a.state == State::returned) return true;
  if (a.line != b.line) return false;
  return a.state == State::at_barrier ||
         (a.shuffle.mask == b.shuffle.mask && a.shuffle.width == b.shuffle.width &&
          a.shuffle.bytes == b.shuffle.bytes);
}

std::string describe(const Thread& thread);  ///< where it is

/// The stacks of all threads, with room below each, so that a thread that needs somewhat more is
/// found out and does no harm. Neighbours begin at different cache sets; memory that no thread
/// touches is never taken from the operating system.
class Stacks {
 public:
  Stacks() : memory_(new char[most_threads * stride]) {}
  char* of(unsigned thread) const { return memory_.get() + thread * stride + room_below; }
  void mark_ends();                      ///< before use
  bool overrun(unsigned threads) const;  ///< of any of the first so many; they are then unusable

  static constexpr std::size_t bytes = 64 << 10;

 private:
  static constexpr std::size_t room_below = bytes;
  static constexpr std::size_t stride = room_below + bytes + 9 * 64;
  std::unique_ptr<char[]> memory_;
};

}  // namespace test::emulator
