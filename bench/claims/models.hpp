#pragma once

/// The shapes of the paper's language models, and the numbers published for them.

#include <ether/matrix_view.hpp>

#include <string>
#include <vector>

namespace claims {

using ether::Index;

/// A linear layer of every transformer block, weight (out, in).
struct Shape {
  std::string name;
  Index out, in;
};

struct LanguageModel {
  std::string name;
  Index layers, width, vocabulary;
  std::vector<Shape> linears;  ///< query, key, value, output, then the MLP
};

/// Touvron et al., arXiv 2307.09288; its published config.
inline LanguageModel llama_2_7b() {
  return {"Llama-2-7B",
          32,
          4096,
          32000,
          {{"query", 4096, 4096},
           {"key", 4096, 4096},
           {"value", 4096, 4096},
           {"output", 4096, 4096},
           {"gate", 11008, 4096},
           {"up", 11008, 4096},
           {"down", 4096, 11008}}};
}

/// Li et al., arXiv 2309.05463; its published config.
inline LanguageModel phi_1_5() {
  return {"Phi-1.5",
          24,
          2048,
          51200,
          {{"query", 2048, 2048},
           {"key", 2048, 2048},
           {"value", 2048, 2048},
           {"output", 2048, 2048},
           {"fc1", 8192, 2048},
           {"fc2", 2048, 8192}}};
}

/// Which of the linears have adapters.
enum class Adapted { query_value, query_key_value_output, all_linear };

inline const char* to_string(Adapted adapted) {
  return adapted == Adapted::query_value              ? "q v"
         : adapted == Adapted::query_key_value_output ? "q k v o"
                                                      : "all linear";
}

inline std::vector<Shape> adapted_linears(const LanguageModel& model, Adapted adapted) {
  const auto& all = model.linears;
  if (adapted == Adapted::query_value) return {all[0], all[2]};
  if (adapted == Adapted::query_key_value_output) return {all.begin(), all.begin() + 4};
  return all;
}

/// TFLOPs per pass as published: the authors' README (github.com/mwbini/ether), from the paper's
/// section on computational efficiency.
struct PublishedFlops {
  std::string method;  ///< ETHER, ETHER+ or LoRA
  Index blocks;        ///< n; 0 for LoRA, r = 8
  double tera;
};

inline std::vector<PublishedFlops> published_flops(const LanguageModel& model) {
  if (model.name == "Phi-1.5")
    return {{"ETHER", 1, 9.13},  {"ETHER", 4, 7.07},   {"ETHER", 32, 6.71}, {"ETHER+", 1, 10.78},
            {"ETHER+", 4, 7.69}, {"ETHER+", 32, 6.79}, {"LoRA", 0, 6.04}};
  return {{"ETHER", 1, 25.26},  {"ETHER", 4, 12.07},  {"ETHER", 32, 8.22}, {"ETHER+", 1, 51.65},
          {"ETHER+", 4, 18.66}, {"ETHER+", 32, 9.04}, {"LoRA", 0, 6.85}};
}

/// Trainable parameters, millions, as published for Llama-2-7B, query and value projections.
struct PublishedCount {
  std::string method;
  double millions;
};

inline std::vector<PublishedCount> published_counts() {
  return {{"LoRA r=8", 4.19}, {"OFT n=256", 2.09}, {"ETHER", 0.26}, {"ETHER+", 1.04}};
}

}  // namespace claims
