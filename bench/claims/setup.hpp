#pragma once

/// What every part of the program starts from.

#include "finetune.hpp"

namespace claims {

struct Options {
  bool quick = false;  ///< a few short runs, to see that all works
  int threads = 1;
  std::string out = "bench/results/claims";
  std::string digits;
};

/// The network, pretrained on upright digits, and the digits it is tested and finetuned on.
struct Setup {
  Options options;
  Network base;
  Task upright;
  std::vector<Task> shifted;
};

/// Pretrains the example's network, on the training digits without those held out for validation.
Setup make_setup(const Options& options);

/// Writes counts.csv, pass_flops.csv, flop_models.csv and block_flops.csv.
void write_counts(const Options& options);

/// Writes learning_rates.csv and methods.csv. Throws std::runtime_error where a transform breaks
/// its bound.
void write_learning_rates(const Setup& setup);

/// Writes perturbation.csv.
void write_perturbation(const Setup& setup);

}  // namespace claims
