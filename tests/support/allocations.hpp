#pragma once

/// Allocations counted: through new, through malloc, on every thread.

#include <algorithm>
#include <functional>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ETHER_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ETHER_TEST_SANITIZED
#endif

// glibc lets a program define malloc and friends itself; sanitizers already do.
#if defined(__GLIBC__) && !defined(ETHER_TEST_SANITIZED)
#define ETHER_TEST_COUNTS_ALLOCATIONS
#endif

namespace test {

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS
/// How often `body` allocates, and how many bytes it asks for.
long allocations_of(const std::function<void()>& body);
long bytes_allocated_by(const std::function<void()>& body);
/// How many allocations have not been freed yet.
long live_allocations();
#endif

// LLVM's OpenMP allocates at every parallel region, on its own account: there, one thread.
#if defined(__clang__) && defined(_OPENMP)
inline constexpr int most_threads = 1;
#else
inline constexpr int most_threads = 16;
#endif
inline int at_most(int threads) { return std::min(threads, most_threads); }

}  // namespace test
