// The switch between emulated threads. On x86-64 it is 14 instructions; elsewhere it is POSIX
// swapcontext, which asks the operating system for the signal mask and is some 50 times slower.

#include "cuda/emulator/context.hpp"

#include <cstdint>

#if ETHER_TEST_OWN_SWITCH

// Stores the registers that a function must keep on this stack and takes them from the other one.
// void ether_test_switch_stack(void** save_stack_pointer, void* other_stack_pointer);
asm(R"(
.text
.globl ether_test_switch_stack
.type ether_test_switch_stack, @function
ether_test_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ether_test_switch_stack, .-ether_test_switch_stack
)");

extern "C" void ether_test_switch_stack(void** save_stack_pointer, void* other_stack_pointer);

namespace test::emulator {

void prepare(Context& context, char* stack, std::size_t bytes, void (*entry)()) {
  const std::size_t beyond = (reinterpret_cast<std::uintptr_t>(stack) + bytes) % 16;
  void** top = reinterpret_cast<void**>(stack + bytes - beyond);
  *--top = nullptr;  // what entry would return to; leaves the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int kept_register = 0; kept_register < 6; ++kept_register) *--top = nullptr;
  context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) {
  ether_test_switch_stack(&from.stack_pointer, to.stack_pointer);
}

}  // namespace test::emulator

#else

namespace test::emulator {

void prepare(Context& context, char* stack, std::size_t bytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

}  // namespace test::emulator

#endif
