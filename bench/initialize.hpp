#pragma once

#include <benchmark/benchmark.h>

#include <string>
#include <utility>
#include <vector>

namespace bench {

/// benchmark::Initialize with `defaults` before the command line's options, which win. False,
/// and a line on stderr, after an option that is not known.
inline bool initialize(int argc, char** argv, std::vector<std::string> defaults) {
  std::vector<char*> arguments{argv[0]};
  for (std::string& option : defaults) arguments.push_back(option.data());
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  return !benchmark::ReportUnrecognizedArguments(count, arguments.data());
}

/// Adds a benchmark of milliseconds of real time, of which only the aggregates are shown.
template <class F>
void add_benchmark(const std::string& name, F&& f) {
  benchmark::RegisterBenchmark(name.c_str(), std::forward<F>(f))
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->DisplayAggregatesOnly(true);
}

}  // namespace bench
