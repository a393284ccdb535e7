/// The emulated multiprocessor: its threads, the scheduler, and who has the turn.
#pragma once

#include "cuda/emulator/thread.hpp"

#include <exception>
#include <vector>

namespace test::emulator {

struct Machine {
  Stacks stacks;
  std::vector<Thread> threads = std::vector<Thread>(most_threads);
  bool prepared = false;  // every thread is at the beginning of a kernel

  Thread scheduler;  // run_block itself; gets the turn after the last lane of a warp
  Thread* current = &scheduler;

  const Kernel* kernel = nullptr;
  const Order* order = nullptr;
  std::exception_ptr failure;  // that left a kernel
};

inline Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

/// Gives the turn to `next`; returns when the turn comes back.
inline void switch_to(Thread& next) {
  Thread& here = *machine().current;
  machine().current = &next;
  threadIdx.x = next.index;
  switch_context(here.context, next.context);
}

inline void wait(Thread& me, State state) {
  me.state = state;
  switch_to(*me.next);
}

}  // namespace test::emulator
