#pragma once

/// Time on the device, by events around replays of captured graphs.

#include "options.hpp"
#include "statistics.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace bench {

/// Something that is enqueued again and again. Call number i works on copy i % rotation of what it
/// reads, so that nothing is in the cache that would not be there in a larger program.
struct Contestant {
  struct Output {
    void* data;
    std::size_t bytes;
  };
  std::string name;
  std::function<void(int call)> enqueue;  ///< on the timer's stream; waits for nothing
  int rotation = 1;
  /// Filled with NaN before a graph of `rotation` calls, behind which `check` looks at what the last
  /// call has left there, and throws where that is wrong.
  std::vector<Output> outputs = {};
  std::function<void()> check = {};
};

class Timer {
 public:
  Timer(cudaStream_t stream, const Options& options);

  /// Seconds of one call of each: of graphs about as long as Options::sample_seconds, replayed in
  /// turns whose order is drawn anew for every round.
  std::vector<Spread> compare(const std::vector<Contestant>& contestants);

  cudaStream_t stream() const { return stream_; }

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;
  using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy>;

  Graph capture(const Contestant& contestant, int calls);
  double replay(const Graph& graph);

  cudaStream_t stream_;
  int samples_;
  double sample_seconds_;
  std::mt19937_64 random_;
  Event start_, stop_;
};

}  // namespace bench
