#pragma once

/// Threads and workspace of the Eigen backend.

#include <ether/matrix_view.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace ether {

namespace detail {

inline constexpr std::size_t cache_line = 64;

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{cache_line}); }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;

inline AlignedBytes aligned_bytes(std::size_t size) {
  void* const bytes = ::operator new (std::max(size, cache_line), std::align_val_t{cache_line});
  return AlignedBytes(static_cast<std::byte*>(bytes));
}

}  // namespace detail

/// One per calling thread: how many threads a call may use, and the memory it works in. The memory
/// grows to what the largest call needs and is then reused. Movable, not copyable.
class EigenContext {
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

  /// Workspace of one call: what it hands out is valid until the frame ends. Frames nest.
  class Frame {
   public:
    explicit Frame(EigenContext& ctx) : ctx_(ctx), block_(ctx.block_), used_(ctx.used_) {}
    ~Frame() { ctx_.block_ = block_, ctx_.used_ = used_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    /// Uninitialised, each on its own cache lines.
    template <class T>
    T* array(Index count) {
      return reinterpret_cast<T*>(ctx_.take(static_cast<std::size_t>(count) * sizeof(T)));
    }
    template <class T>
    MatrixView<T> matrix(Index rows, Index cols) {
      return {array<T>(rows * cols), rows, cols};
    }

   private:
    EigenContext& ctx_;
    std::size_t block_;
    std::size_t used_;
  };

 private:
  struct Block {
    detail::AlignedBytes bytes;
    std::size_t size;
  };

  /// The next free bytes: behind those taken last, or in a later block, or in a new one at least
  /// as large as all before it together. Blocks never move.
  std::byte* take(std::size_t size) {
    size = (size + detail::cache_line - 1) / detail::cache_line * detail::cache_line;
    while (block_ < blocks_.size() && used_ + size > blocks_[block_].size) ++block_, used_ = 0;
    if (block_ == blocks_.size()) {
      std::size_t total = 0;
      for (const Block& block : blocks_) total += block.size;
      blocks_.reserve(blocks_.size() + 1);
      blocks_.push_back({detail::aligned_bytes(std::max(size, total)), std::max(size, total)});
    }
    std::byte* const bytes = blocks_[block_].bytes.get() + used_;
    used_ += size;
    return bytes;
  }

  int threads_;
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // where the next bytes come from
  std::size_t used_ = 0;
};

}  // namespace ether
