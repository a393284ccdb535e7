#pragma once

/// Threads, workspace and cached primitives of the oneDNN backend.
///
/// oneDNN takes its threads from OpenMP and remembers in every primitive how many there were, so a
/// primitive is made and executed under the same setting: that of the Context. It works with the
/// team of the library's own parallel regions, provided that both use one OpenMP runtime.

#include <ether/backends/eigen/context.hpp>

#include <dnnl_debug.h>
#include <dnnl.hpp>

#include <array>
#include <cstdint>
#include <map>

#if DNNL_VERSION_MAJOR < 2 || (DNNL_VERSION_MAJOR == 2 && DNNL_VERSION_MINOR < 6)
#error "ether: needs oneDNN 2.6 or later"
#endif
#if DNNL_CPU_RUNTIME != DNNL_RUNTIME_OMP
#error \
    "ether: needs a oneDNN built with OpenMP; one built for TBB, SYCL or a thread pool cannot be used"
#endif
#ifndef _OPENMP
#error "ether: compile the oneDNN backend with OpenMP (-fopenmp), whose threads oneDNN shares"
#endif

ETHER_BEGIN_NAMESPACE

/// A oneDNN call failed.
class onednn_error : public error {
 public:
  using error::error;
};

namespace detail::onednn {

/// Throws onednn_error, naming the call and the product (m, k) x (k, n), unless status is success.
inline void check(dnnl_status_t status, const char* call, Index m, Index n, Index k) {
  if (status != dnnl_success)
    fail<onednn_error>(call, " failed for the product (", m, ", ", k, ") x (", k, ", ", n,
                       "): ", dnnl_status2str(status));
}

/// Until its end, OpenMP's parallel regions of the calling thread have `threads` threads, and with
/// them oneDNN's.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadCount() { omp_set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

/// A product of one shape. It can be executed as soon as it is given addresses.
struct Plan {
  dnnl::matmul primitive;
  dnnl::memory a, b, bias, c, scratchpad;
  std::array<dnnl_exec_arg_t, 5> arguments;  // the bias last: it may be absent
  int argument_count;
  Index scratchpad_bytes;
};
using Key = std::array<std::int64_t, 5>;

}  // namespace detail::onednn

/// One per calling thread. Once a product of some shape has been made, the next like it makes no
/// oneDNN object and allocates nothing here; oneDNN itself allocates 6 to 10 times per call, some
/// hundred bytes in all. Movable, not copyable.
class OneDnnContext : public EigenContext {
 public:
  /// 0: as many threads as OpenMP gives (OMP_NUM_THREADS). Throws onednn_error where oneDNN cannot
  /// start.
  explicit OneDnnContext(int threads = 0) : EigenContext(threads) {
    try {
      engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
      stream_ = dnnl::stream(engine_);
    } catch (const dnnl::error& e) {
      detail::fail<onednn_error>("oneDNN gives no CPU engine: ", dnnl_status2str(e.status));
    }
  }

  /// For the backend.
  const dnnl::engine& engine() const { return engine_; }
  dnnl::stream& stream() { return stream_; }
  std::map<detail::onednn::Key, detail::onednn::Plan>& plans() { return plans_; }
  /// The threads of a call made now; oneDNN uses one inside a parallel region.
  int team() const { return omp_in_parallel() != 0 ? 1 : threads(); }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<detail::onednn::Key, detail::onednn::Plan> plans_;
};

ETHER_END_NAMESPACE
