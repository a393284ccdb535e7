#pragma once

/// Tasks that may wait for a disk, on several threads.

#include <ether/version.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

ETHER_BEGIN_NAMESPACE
namespace detail {

inline int thread_count(int wanted) {
  if (wanted > 0) return wanted;
  const unsigned all = std::thread::hardware_concurrency();
  return all > 0 ? static_cast<int>(all) : 1;
}

/// At most thread_count(wanted), but no more than can have `thread_bytes` each of 64 MiB and twice
/// the largest adapted tensor; at least one.
inline int threads_in_memory(int wanted, std::uint64_t thread_bytes, std::uint64_t largest_tensor) {
  constexpr std::uint64_t others = 8 << 20;  // the program itself, headers, adapters
  const std::uint64_t all = (std::uint64_t{64} << 20) - others + 2 * largest_tensor;
  const std::uint64_t most = all / std::max<std::uint64_t>(thread_bytes, 1);
  const auto threads = static_cast<std::uint64_t>(thread_count(wanted));
  return static_cast<int>(std::clamp<std::uint64_t>(most, 1, threads));
}

/// Calls task(index, thread) for every index below `count`, thread < threads, each thread taking
/// the next index that is left. After an exception no further task begins; the exception is thrown
/// again here.
template <class Task>
void for_each_task(int threads, std::size_t count, Task&& task) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  const auto work = [&](int thread) {
    for (;;) {
      const std::size_t index = next++;
      if (index >= count) return;
      try {
        task(index, thread);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next = count;
        return;
      }
    }
  };
  std::vector<std::thread> others;
  try {
    for (int t = 1; t < threads && static_cast<std::size_t>(t) < count; ++t)
      others.emplace_back(work, t);
  } catch (const std::system_error&) {  // no more threads to be had: go on with these
  }
  work(0);
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace detail
ETHER_END_NAMESPACE
