#include "allocations.hpp"

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

#include <atomic>
#include <cstdlib>

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0}, bytes{0};
void count(std::size_t size) {
  if (counting) ++allocations, bytes += static_cast<long>(size);
}
void run(const std::function<void()>& body) {
  struct Counting {  // also ends where body throws
    Counting() { counting = true; }
    ~Counting() { counting = false; }
  };
  allocations = bytes = 0;
  const Counting guard;
  body();
}
}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  count(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  count(n * size);
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t size) {
  count(size);
  return __libc_realloc(p, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t size) {
  count(size);
  *p = __libc_memalign(alignment, size);
  return *p == nullptr ? 12 : 0;
}
}

long test::allocations_of(const std::function<void()>& body) {
  run(body);
  return allocations;
}

long test::bytes_allocated_by(const std::function<void()>& body) {
  run(body);
  return bytes;
}

#endif
