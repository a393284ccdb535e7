#pragma once

/// Threads and workspace of the Eigen backend.

#include <ether/simd/stream.hpp>
#include <ether/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

ETHER_BEGIN_NAMESPACE

namespace detail {

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{cache_line}); }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;

inline AlignedBytes aligned_bytes(std::size_t size) {
  void* const bytes = ::operator new ((std::max)(size, cache_line), std::align_val_t{cache_line});
  return AlignedBytes(static_cast<std::byte*>(bytes));
}
struct AllocateHost {
  static constexpr std::size_t alignment = cache_line;
  AlignedBytes operator()(std::size_t& size) const { return aligned_bytes(size); }
};

}  // namespace detail

/// A reference to a callable task(index, thread), which must outlive it.
class TaskRef {
 public:
  template <class Task, std::enable_if_t<!std::is_same_v<Task, TaskRef> &&
                                             std::is_invocable_v<const Task&, Index, int>,
                                         int> = 0>
  TaskRef(const Task& task)
      : task_(&task), call_([](const void* to, Index index, int thread) {
          (*static_cast<const Task*>(to))(index, thread);
        }) {}
  void operator()(Index index, int thread) const { call_(task_, index, thread); }

 private:
  const void* task_;
  void (*call_)(const void*, Index, int);
};

/// A host's own threads: calls task(index, thread) once for every index from 0 to count - 1, and
/// returns when all are done. 0 <= thread < the Context's threads; no two calls with the same
/// `thread` may run at the same time. What tasks have written must then be visible to the caller, as
/// after a join. Any order, any thread: results are the same. It must not throw while tasks run. A
/// pool whose own threads use the layer must allow such nested calls, or their Contexts have one
/// thread.
using ParallelFor = std::function<void(Index count, TaskRef task)>;

/// One per calling thread: how many threads a call may use, and the memory it works in. The memory
/// grows to what the largest call needs and is then reused. Movable, not copyable; one that was moved
/// from can only be assigned to.
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

  /// Work runs on the host's threads, of which there are `threads`, and on no others. A call is worth
  /// some microseconds; smaller ones stay on the calling thread.
  EigenContext(int threads, ParallelFor parallel_for)
      : threads_(threads), host_(std::move(parallel_for)) {
    if (threads < 1)
      detail::fail<parameter_error>("threads is ", threads, "; the host must have 1 or more");
    if (!host_) detail::fail<parameter_error>("parallel_for is empty; give it a function");
  }

  int threads() const { return threads_; }

  /// Calls task(index, thread) for every index below `count`, thread < threads(). OpenMP gives a
  /// thread neighbouring indices. `work` is about how many multiplications all of it takes: too few, and
  /// waking threads would cost more. Tasks must not throw, and must each give the same result on
  /// whichever thread they run.
  template <class Task>
  void parallel_for(Index count, Index work, Task&& task) const {
    constexpr Index worth_a_team = Index{1} << 16;  // some microseconds
    const bool together = threads_ > 1 && count > 1 && work >= worth_a_team;
    if (together && host_) {
      // A copy: referred to here, `task` would have to be in memory for the loop below too.
      const auto copy = task;
      return host_(count, TaskRef(copy));
    }
#ifdef _OPENMP
    if (together) {
      // Always the same team: libgomp allocates when it changes.
#pragma omp parallel for schedule(static) num_threads(threads_)
      for (Index i = 0; i < count; ++i) task(i, omp_get_thread_num());
      return;
    }
#endif
    for (Index i = 0; i < count; ++i) task(i, 0);
  }

 private:
  int threads_;
  ParallelFor host_;  // empty: OpenMP's
};

ETHER_END_NAMESPACE
