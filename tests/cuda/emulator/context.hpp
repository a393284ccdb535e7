/// Several stacks in one thread of the operating system, and the switch from one to another.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && defined(__LP64__) && defined(__linux__)
#define ETHER_TEST_OWN_SWITCH 1
#else
#define ETHER_TEST_OWN_SWITCH 0
#include <ucontext.h>
#endif

namespace test::emulator {

/// Where a suspended function goes on.
struct Context {
#if ETHER_TEST_OWN_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t registers{};
#endif
};

/// Makes `context` one that begins `entry` on the given stack. `entry` must not return, and no
/// exception may leave it.
void prepare(Context& context, char* stack, std::size_t bytes, void (*entry)());

/// Saves in `from` where this function is and goes on at `to`; returns when switched back to.
void switch_context(Context& from, Context& to);

}  // namespace test::emulator
