#pragma once

/// What merge and unmerge are asked for, and what they report.

#include <ether/inverse.hpp>
#include <ether/io/dtype.hpp>
#include <ether/io/file.hpp>
#include <ether/io/progress.hpp>
#include <ether/matrix_view.hpp>

#include <optional>
#include <string>
#include <vector>

ETHER_BEGIN_NAMESPACE

struct MergeOptions {
  fs::path base;                   ///< for unmerge the merged checkpoint
  std::vector<fs::path> adapters;  ///< applied in this order, each to the result before
  fs::path output;
  bool dry_run = false;  ///< check everything, the output's place too unless `output` is empty, and
                         ///< compute the report; write nothing
  std::optional<double> strength;  ///< in place of the adapters' own
  std::optional<Dtype> dtype;      ///< of the adapted weights; none: each keeps its own
  bool replace = false;            ///< an existing output
  bool verify = false;             ///< what a merge wrote: read it again, compare with plain loops
  bool allow_overflow = false;     ///< write infinities where a dtype's range ends
  double max_condition = ether::max_condition;  ///< unmerge refuses a block above it
  bool flush = true;  ///< have the output on the disk before it gets its name; without, it is whole
                      ///< after a crash of this program, but perhaps not after one of the machine
  int threads = 0;    ///< 0: one for each processor
  ProgressCallback progress;
};

/// What happened to one weight.
struct ModuleReport {
  std::string name;
  Index out = 0, in = 0;
  Dtype dtype = Dtype::f32;  ///< as written
  std::vector<std::string> adapters;
  double input_distance = 0;   ///< |H_in - I|_F, of the last adapter
  double output_distance = 0;  ///< |H_out - I|_F
  double relative_change = 0;  ///< |W' - W|_F / |W|_F
  std::uint64_t overflowed = 0;
};

struct MergeReport {
  std::vector<ModuleReport> modules;
  std::uint64_t bytes = 0;     ///< of the output
  std::uint64_t verified = 0;  ///< elements compared
  std::vector<std::string> warnings;
};

ETHER_END_NAMESPACE
