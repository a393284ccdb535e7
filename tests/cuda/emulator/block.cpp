#include "cuda/emulator/block.hpp"

#include "cuda/emulator/control.hpp"
#include "cuda/emulator/machine.hpp"
#include "cuda/emulator/shared.hpp"

#include <algorithm>
#include <utility>

namespace test::emulator {
namespace {

// One emulated thread, forever: each time round is one block.
void thread_main() {
  Machine& m = machine();
  for (;;) {
    try {
      m.kernel->call(m.kernel->arguments);
    } catch (...) {
      m.failure = std::current_exception();
    }
    if (m.failure) switch_to(m.scheduler);
    wait(*m.current, State::returned);
  }
}

void prepare_threads() {
  Machine& m = machine();
  if (m.prepared) return;
  m.stacks.mark_ends();
  for (unsigned t = 0; t < most_threads; ++t) {
    m.threads[t].index = t;
    prepare(m.threads[t].context, m.stacks.of(t), Stacks::bytes, thread_main);
  }
}

// Some threads of a block: all of it, or a warp.
struct Group {
  Thread* first;
  unsigned count;
  Thread* begin() const { return first; }
  Thread* end() const { return first + count; }
};

Group whole_block() { return {machine().threads.data(), blockDim.x}; }

Group warp(unsigned number) {
  const unsigned first = number * warp_size;
  return {machine().threads.data() + first, std::min(warp_size, blockDim.x - first)};
}

// Where all threads of the group are: at the same barrier, at the same shuffle or at the end.
State common_state(const Group& group) {
  for (const Thread& t : group)
    if (!agree(*group.first, t)) fail(describe(*group.first) + " while " + describe(t));
  return group.first->state;
}

void let_go_on(const Group& group) {
  for (Thread& t : group) t.state = State::running;
}

void give_shuffled_values(const Group& lanes) {
  if (lanes.count != warp_size)
    fail("a shuffle in a warp that has only " + std::to_string(lanes.count) + " lanes");
  const unsigned mask = static_cast<unsigned>(lanes.first->shuffle.mask);
  for (unsigned lane = 0; lane < warp_size; ++lane)
    lanes.first[lane].received = lanes.first[lane ^ mask].sent;
  ++statistics.shuffles;
}

// Up to the next barrier, or to the end.
void run_warp(const Group& lanes, Thread& first_to_run) {
  Machine& m = machine();
  for (;;) {
    statistics.switches += lanes.count + 1;
    switch_to(first_to_run);
    if (m.failure) std::rethrow_exception(std::exchange(m.failure, nullptr));
    if (common_state(lanes) != State::at_shuffle) return;
    give_shuffled_values(lanes);
    let_go_on(lanes);
  }
}

// Each lane gives the turn to the next in order, the last to the scheduler. Returns the first.
Thread* link_lanes(const Group& lanes, Order& order) {
  std::vector<unsigned> turns(lanes.count);
  order.arrange(turns);
  Thread* next = &machine().scheduler;
  for (auto turn = turns.rbegin(); turn != turns.rend(); ++turn) {
    lanes.first[*turn].next = next;
    next = lanes.first + *turn;
  }
  return next;
}

std::vector<Thread*> link_warps(Order& order) {
  std::vector<Thread*> first_to_run((blockDim.x + warp_size - 1) / warp_size);
  for (unsigned w = 0; w < first_to_run.size(); ++w) first_to_run[w] = link_lanes(warp(w), order);
  return first_to_run;
}

void run_threads(Order& order) {
  for (Thread& t : whole_block()) t.barriers = t.shuffles = 0;
  const std::vector<Thread*> first_to_run = link_warps(order);
  std::vector<unsigned> turns(first_to_run.size());
  for (;;) {
    let_go_on(whole_block());
    order.arrange(turns);
    for (const unsigned w : turns) run_warp(warp(w), *first_to_run[w]);
    if (common_state(whole_block()) == State::returned) return;
    ++statistics.barriers;
  }
}

}  // namespace

void run_block(const Kernel& kernel, Order& order) {
  Machine& m = machine();
  prepare_threads();
  m.kernel = &kernel;
  m.order = &order;
  m.prepared = false;  // if an exception leaves threads halfway, they begin anew
  poison_shared_memory(order.poison());
  run_threads(order);
  m.prepared = true;
  if (shared_memory_overrun()) fail("a write just before or just after an array in shared memory");
  ++statistics.blocks;
  statistics.most_barriers = std::max(statistics.most_barriers, m.threads[0].barriers);
}

bool stack_overrun() {
  Machine& m = machine();
  if (m.stacks.overrun(blockDim.x)) m.prepared = false;
  return !m.prepared;
}

}  // namespace test::emulator
