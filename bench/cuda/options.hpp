#pragma once

/// The command line of ether_cuda_bench.

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Options {
  std::string type = "bfloat16";    ///< float | half | bfloat16
  std::vector<std::string> filter;  ///< names of tables; empty: all
  std::string out;                  ///< directory for the files; empty: none are written
  bool quick = false;               ///< fewer sizes, fewer and shorter samples: to try it out
  bool help = false;
  std::uint64_t seed = 1;  ///< of the data, the samples that are checked, and the order of turns
  int device = 0;

  int samples() const { return quick ? 9 : 31; }
  double sample_seconds() const { return quick ? 3e-4 : 1e-3; }
  bool wants(const std::string& table) const;
};

/// The tables' names, in the order they are made in.
const std::vector<std::string>& table_names();

/// Throws std::invalid_argument with a sentence.
Options parse_options(int argc, char** argv);

std::string usage();

}  // namespace bench
