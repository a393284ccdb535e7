#include "allocations.hpp"

#ifdef ETHER_TEST_COUNTS_ALLOCATIONS

#include <atomic>
#include <cstdlib>

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0}, bytes{0}, live{0};
void* counted(void* p, std::size_t size) {
  if (counting) ++allocations, bytes += static_cast<long>(size);
  if (p != nullptr) ++live;
  return p;
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
void __libc_free(void*);

void* malloc(std::size_t size) { return counted(__libc_malloc(size), size); }
void* calloc(std::size_t n, std::size_t size) { return counted(__libc_calloc(n, size), n * size); }
void* realloc(void* p, std::size_t size) {
  if (p != nullptr) --live;
  return counted(__libc_realloc(p, size), size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return counted(__libc_memalign(alignment, size), size);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t size) {
  *p = counted(__libc_memalign(alignment, size), size);
  return *p == nullptr ? 12 : 0;
}
void free(void* p) {
  if (p != nullptr) --live;
  __libc_free(p);
}
}

long test::allocations_of(const std::function<void()>& body) {
  run(body);
  return allocations;
}

long test::live_allocations() { return live; }

long test::bytes_allocated_by(const std::function<void()>& body) {
  run(body);
  return bytes;
}

#endif
