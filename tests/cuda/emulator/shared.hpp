/// The shared memory of the block that runs.
#pragma once

#include <cstddef>

namespace test::emulator {

/// One declaration of ETHER_SHARED. It gets its place when a launch first comes to it and keeps it
/// for that launch, as all threads and blocks must see it in the same place.
class SharedArray {
 public:
  void* place(std::size_t bytes);

 private:
  std::size_t launch_ = 0;  // the number of the launch that `address_` belongs to
  void* address_ = nullptr;
};

void* dynamic_shared();  ///< the launch's dynamic shared memory

/// A new launch, with no arrays yet; `limit` is what arrays and dynamic memory may take together.
void begin_shared_memory(std::size_t dynamic_bytes, std::size_t limit);

/// Before each block: nothing that an earlier block wrote is left.
void poison_shared_memory(unsigned char byte);

/// After each block: whether its threads wrote just before or just after an array.
bool shared_memory_overrun();

}  // namespace test::emulator
