#pragma once

/// Threads and workspace of the Eigen backend.

#include <ether/simd/stream.hpp>
#include <ether/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace ether {

namespace detail {

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{cache_line}); }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;

inline AlignedBytes aligned_bytes(std::size_t size) {
  void* const bytes = ::operator new (std::max(size, cache_line), std::align_val_t{cache_line});
  return AlignedBytes(static_cast<std::byte*>(bytes));
}
struct AllocateHost {
  static constexpr std::size_t alignment = cache_line;
  AlignedBytes operator()(std::size_t& size) const { return aligned_bytes(size); }
};

}  // namespace detail

/// One per calling thread: how many threads a call may use, and the memory it works in. The memory
/// grows to what the largest call needs and is then reused. Movable, not copyable.
class EigenContext : public detail::Workspace<detail::AllocateHost> {
 public:
  /// 0: as many threads as OpenMP gives (OMP_NUM_THREADS); 1 where compiled without OpenMP.
  explicit EigenContext(int threads = 0) : threads_(threads) {
    if (threads < 0)
      detail::fail<parameter_error>("threads is ", threads, "; it must be 0 (all) or more");
#ifdef _OPENMP
    if (threads_ == 0) threads_ = omp_get_max_threads();
#else
    threads_ = 1;
#endif
  }

  int threads() const { return threads_; }

  /// Calls task(index, thread) for every index below `count`, thread < threads(). A thread gets
  /// neighbouring indices. `work` is about how many multiplications all of it takes: too few, and
  /// waking threads would cost more. Tasks must not throw, and must each give the same result on
  /// whichever thread they run.
  template <class Task>
  void parallel_for(Index count, Index work, Task&& task) const {
#ifdef _OPENMP
    constexpr Index worth_a_team = Index{1} << 16;  // some microseconds
    if (threads_ > 1 && count > 1 && work >= worth_a_team) {
      // Always the same team: libgomp allocates when it changes.
#pragma omp parallel for schedule(static) num_threads(threads_)
      for (Index i = 0; i < count; ++i) task(i, omp_get_thread_num());
      return;
    }
#endif
    (void)work;
    for (Index i = 0; i < count; ++i) task(i, 0);
  }

 private:
  int threads_;
};

}  // namespace ether
