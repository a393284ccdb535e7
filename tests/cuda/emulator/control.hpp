/// What a test asks of the CUDA emulator: device memory, orders, faults and counts.
/// The emulator has one device and serves one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace test {

/// A kernel did what it must not do; the sentence says where and what.
class EmulatorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace test

namespace test::emulator {

/// Device memory: aligned to 256 bytes, filled with 0xFF (NaN in every floating-point type), with
/// 256 bytes on either side that no kernel may write. Memory that does not come from here is
/// neither restored nor compared between the runs of a launch.
void* allocate(std::size_t bytes);
void release(void* pointer);  ///< null is allowed; throws EmulatorError if it is no allocation

/// Throws EmulatorError if anything outside the allocations was written. Every launch asks too.
void check_guards();

/// How often a launch runs, each time from the same memory: first with blocks, warps and lanes
/// ascending, then descending, then in random orders. The results must be equal bit by bit.
/// 3 from the start; 1 is fast and finds no races.
void set_orders(int count);

/// Breaks kernels without touching them. Counts start at 1 in every thread; 0 is no fault.
struct Faults {
  int skip_barrier = 0;  ///< every thread passes this one of its barriers without waiting
  int drop_shuffle = 0;  ///< the last lane of each warp takes no part in this one of its shuffles
};
inline Faults faults;

/// Faults for the length of a scope.
class ScopedFaults {
 public:
  explicit ScopedFaults(const Faults& wanted) : before_(faults) { faults = wanted; }
  ~ScopedFaults() { faults = before_; }
  ScopedFaults(const ScopedFaults&) = delete;
  ScopedFaults& operator=(const ScopedFaults&) = delete;

 private:
  Faults before_;
};

/// Counts since reset_statistics(), over all orders of all launches.
struct Statistics {
  std::uint64_t launches = 0;  ///< a launch counts once, in however many orders it runs
  std::uint64_t blocks = 0;
  std::uint64_t barriers = 0;  ///< of a whole block
  std::uint64_t shuffles = 0;  ///< of a whole warp
  std::uint64_t switches = 0;  ///< from one emulated thread, or the scheduler, to another
  int most_barriers = 0;       ///< that any one thread came to: skip_barrier can be 1 to this
};
inline Statistics statistics;
inline void reset_statistics() { statistics = {}; }

}  // namespace test::emulator
