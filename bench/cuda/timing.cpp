#include "timing.hpp"

#include <ether/backends/cuda/error.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bench {

using ether::detail::cuda::check;

namespace {

/// Of one graph: what a few microseconds each come to about as much as a sample.
constexpr int most_calls = 1024;

/// A multiple of the rotation.
int calls_for(int rotation, double seconds_of_call, double seconds_of_sample) {
  const double round = seconds_of_call * rotation;
  const double rounds = round > 0 ? std::ceil(seconds_of_sample / round) : 1;
  const int most = std::max(1, most_calls / rotation);
  return rotation * static_cast<int>(std::clamp(rounds, 1.0, static_cast<double>(most)));
}

}  // namespace

Timer::Timer(cudaStream_t stream, const Options& options)
    : stream_(stream),
      samples_(options.samples()),
      sample_seconds_(options.sample_seconds()),
      random_(options.seed) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  start_.reset(event);
  check(cudaEventCreate(&event), "cudaEventCreate");
  stop_.reset(event);
}

Timer::Graph Timer::capture(const Contestant& contestant, int calls) {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
  for (int i = 0; i < calls; ++i) contestant.enqueue(i);
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(stream_, &captured), "cudaStreamEndCapture");
  cudaGraphExec_t graph = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&graph, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "cudaGraphInstantiate");
  Graph owned(graph);
  check(cudaGraphUpload(graph, stream_), "cudaGraphUpload");
  return owned;
}

/// The seconds of a replay behind another one, which keeps the device busy while this one and the
/// events are handed to it.
double Timer::replay(const Graph& graph) {
  check(cudaGraphLaunch(graph.get(), stream_), "cudaGraphLaunch");
  check(cudaEventRecord(start_.get(), stream_), "cudaEventRecord");
  check(cudaGraphLaunch(graph.get(), stream_), "cudaGraphLaunch");
  check(cudaEventRecord(stop_.get(), stream_), "cudaEventRecord");
  check(cudaEventSynchronize(stop_.get()), "cudaEventSynchronize");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get()), "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

std::vector<Spread> Timer::compare(const std::vector<Contestant>& contestants) {
  struct Lane {
    Graph graph;
    int calls;
    std::vector<double> seconds;
  };
  std::vector<Lane> lanes;
  for (const Contestant& c : contestants) {
    c.enqueue(0);  // outside of any capture, where it may allocate and ask cuBLAS
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    const Graph round = capture(c, c.rotation);
    for (const Contestant::Output& output : c.outputs)
      check(cudaMemsetAsync(output.data, 0xff, output.bytes, stream_), "cudaMemsetAsync");
    check(cudaGraphLaunch(round.get(), stream_), "cudaGraphLaunch");
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    if (c.check) c.check();
    replay(round);
    const int calls = calls_for(c.rotation, replay(round) / c.rotation, sample_seconds_);
    lanes.push_back({capture(c, calls), calls, {}});
    replay(lanes.back().graph);
  }

  std::vector<std::size_t> order(lanes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (int sample = 0; sample < samples_; ++sample) {
    std::shuffle(order.begin(), order.end(), random_);
    for (const std::size_t i : order)
      lanes[i].seconds.push_back(replay(lanes[i].graph) / lanes[i].calls);
  }
  std::vector<Spread> spreads;
  for (const Lane& lane : lanes) spreads.push_back(spread(lane.seconds));
  return spreads;
}

}  // namespace bench
