#pragma once

/// The linear layers that adapters are put on, by the models they come from.

#include <ether/matrix_view.hpp>

namespace bench {

struct Shape {
  const char* name;
  ether::Index out, in;
};

/// W (out, in), from the models' published configurations.
inline constexpr Shape shapes[] = {
    {"llama-2-7b-attention", 4096, 4096},  // q_proj, k_proj, v_proj, o_proj
    {"llama-2-7b-mlp-up", 11008, 4096},    // gate_proj, up_proj
    {"llama-2-7b-mlp-down", 4096, 11008},  // down_proj
    {"phi-1.5", 2048, 2048},               // q_proj, k_proj, v_proj, dense
    {"deberta-v3-base-ffn", 3072, 768},    // intermediate.dense
    {"sd-1.5-320", 320, 320},              // to_q, to_k, to_v, to_out of the U-Net's attentions
    {"sd-1.5-640", 640, 640},
    {"sd-1.5-1280", 1280, 1280},
};

inline constexpr ether::Index token_counts[] = {1, 16, 128, 512};
inline constexpr ether::Index most_tokens = 512;

}  // namespace bench
