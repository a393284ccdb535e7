#pragma once

/// What all tables share: device, context, timer, report; and data in device memory.

#include "kernels.hpp"
#include "report.hpp"
#include "timing.hpp"

#include <ether/backends/cuda.hpp>
#include <ether/ether_linear.hpp>
#include <ether/reflect.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace bench {

using ether::Adapter;
using ether::AdapterConfig;
using ether::CudaContext;
using ether::Index;
using ether::MatrixView;
using ether::Sides;
using ether::Variant;

/// One of the ways the library may take.
struct Path {
  bool fused = true, dependent = false;
};

struct Session {
  const Options& options;
  CudaContext& ctx;
  Timer& timer;
  Report& report;
  Index cache_bytes;  ///< of the second level

  cudaStream_t stream() const { return ctx.stream(); }
  void take(Path path) {
    ctx.set_fused_gemv(path.fused);
    ctx.set_dependent_launch(path.dependent);
  }
  void synchronize() const {
    ether::detail::cuda::check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  }
  /// How many copies of `bytes` are four times the cache, up to `most`.
  int rotation(Index bytes, int most = 512) const {
    const Index copies = (4 * cache_bytes + bytes - 1) / std::max<Index>(bytes, 1);
    return static_cast<int>(std::clamp<Index>(copies, 1, most));
  }
  /// The numbers of tokens of a table.
  std::vector<Index> tokens(std::vector<Index> all, std::vector<Index> quick) const {
    return options.quick ? quick : all;
  }
};

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(Index count)
      : count_(count),
        bytes_(ether::detail::cuda::device_bytes(static_cast<std::size_t>(count) * sizeof(T))) {}
  T* data() const { return reinterpret_cast<T*>(bytes_.get()); }
  Index count() const { return count_; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
  Contestant::Output output() const { return {data(), bytes()}; }

 private:
  Index count_;
  ether::detail::cuda::DeviceBytes bytes_;
};

/// scale * (uniform in [-1, 1) + offset). The offset gives vectors something in common, without
/// which H would change a row of thousands of elements by little more than rounding does.
template <class T>
DeviceArray<T> random_array(Session& s, Index count, std::uint64_t seed, double scale = 1,
                            double offset = 0.5) {
  DeviceArray<T> array(count);
  fill(array.data(), count, s.options.seed * 1000 + seed, scale, offset, s.stream());
  return array;
}

/// Waits.
template <class T>
std::vector<T> download_bits(const Session& s, const T* from, Index count) {
  std::vector<T> host(static_cast<std::size_t>(count));
  if (count == 0) return host;
  ether::detail::cuda::check(cudaMemcpyAsync(host.data(), from, host.size() * sizeof(T),
                                             cudaMemcpyDeviceToHost, s.stream()),
                             "cudaMemcpyAsync");
  s.synchronize();
  return host;
}

template <class T>
std::vector<double> download(const Session& s, const T* from, Index count) {
  const std::vector<T> host = download_bits(s, from, count);
  std::vector<double> wide(host.size());
  std::transform(host.begin(), host.end(), wide.begin(), [](T value) {
    if constexpr (std::is_same_v<T, double>)
      return value;
    else
      return static_cast<double>(static_cast<float>(value));
  });
  return wide;
}

template <class T>
DeviceArray<T> upload(const Session& s, const std::vector<T>& host) {
  DeviceArray<T> array(static_cast<Index>(host.size()));
  ether::detail::cuda::check(
      cudaMemcpyAsync(array.data(), host.data(), array.bytes(), cudaMemcpyHostToDevice, s.stream()),
      "cudaMemcpyAsync");
  s.synchronize();
  return array;
}

/// Copies of a weight (out, in), of random values that differ, enough to be four times the cache.
template <class T>
struct Weights {
  Index out, in;
  int copies;
  DeviceArray<T> memory;

  Weights(Session& s, Index out_, Index in_, double offset = 0.02, int most = 512)
      : out(out_),
        in(in_),
        copies(s.rotation(out * in * static_cast<Index>(sizeof(T)), most)),
        memory(random_array<T>(s, copies * out * in, 11, std::sqrt(3.0 / static_cast<double>(in)),
                               offset)) {}
  const T* copy(int call) const { return memory.data() + Index{call % copies} * out * in; }
  const T* last() const { return copy(copies - 1); }
  MatrixView<const T> view(int call) const { return {copy(call), out, in}; }
  double bytes() const { return static_cast<double>(out * in) * sizeof(T); }
};

/// An adapter that is far from the identity, whose vectors have `offset` in common with the data.
Adapter<float> make_adapter(const AdapterConfig& config, Index out, Index in, std::uint64_t seed,
                            double offset = 0.5);

AdapterConfig make_config(Variant variant, Sides sides, Index blocks);

inline double ratio(const Spread& of, const Spread& base) {
  return base.median > 0 ? of.median / base.median : 0;
}

}  // namespace bench
