#pragma once

/// How far a long job is.

#include <ether/version.hpp>

#include <cstdint>
#include <functional>

ETHER_BEGIN_NAMESPACE

struct Progress {
  enum class Stage { compute, verify };

  std::uint64_t bytes_done;   ///< of this stage
  std::uint64_t bytes_total;  ///< of this stage
  Stage stage = Stage::compute;
};
/// Called after each piece of work, by one thread at a time, and once more when the disk has what
/// was written. May throw to end the work.
using ProgressCallback = std::function<void(const Progress&)>;

ETHER_END_NAMESPACE
