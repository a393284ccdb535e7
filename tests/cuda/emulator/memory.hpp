/// The emulated device's memory: what emulator/control.hpp gives out, and copies of all of it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace test::emulator {

/// "", or a sentence on the first byte outside the allocations that was written. Repairs them all.
std::string damaged_guard();

/// The content of every live allocation. No allocation may come or go while it is in use.
class MemoryCopy {
 public:
  void take();
  void put_back() const;
  std::string difference() const;  ///< "", or where memory first differs from this copy

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace test::emulator
