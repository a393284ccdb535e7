#pragma once

#include <cstdio>
#include <cstdlib>

namespace fuzz {

/// Ends the process, which is how a fuzzing target reports a defect.
inline void require(bool holds, const char* sentence) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", sentence);
  std::abort();
}

}  // namespace fuzz
