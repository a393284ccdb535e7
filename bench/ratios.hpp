#pragma once

/// Google Benchmark's table on the console, and below it ratios of medians of one run.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bench {

class RatioReporter : public benchmark::ConsoleReporter {
 public:
  /// `pairs`: names of benchmarks, what and by what it is divided. Pairs that did not both run are left out.
  RatioReporter(std::string title, std::vector<std::pair<std::string, std::string>> pairs)
      : title_(std::move(title)), pairs_(std::move(pairs)) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      if (run.aggregate_name == "median")
        medians_[run.run_name.function_name] = run.GetAdjustedRealTime();
    ConsoleReporter::ReportRuns(runs);
  }

  void Finalize() override {
    std::printf("\nRatios of medians, %s\n", title_.c_str());
    for (const auto& [name, base] : pairs_) {
      const auto a = medians_.find(name), b = medians_.find(base);
      if (a != medians_.end() && b != medians_.end())
        std::printf("  %-52s / %-44s %6.3f\n", name.c_str(), base.c_str(), a->second / b->second);
    }
  }

 private:
  std::string title_;
  std::vector<std::pair<std::string, std::string>> pairs_;
  std::map<std::string, double> medians_;
};

}  // namespace bench
