#pragma once

/// How far a long job is.

#include <cstdint>
#include <functional>

namespace ether {

struct Progress {
  std::uint64_t bytes_done;
  std::uint64_t bytes_total;
};
/// Called after each piece of work, by one thread at a time. May throw to end the work.
using ProgressCallback = std::function<void(const Progress&)>;

}  // namespace ether
