#pragma once

/// What a pass through a language model costs when W' = H_out W H_in is made in every pass, under
/// assumptions that the published numbers leave open.

#include "counts.hpp"

namespace claims {

/// Forward alone, or a training step: forward, and the gradients of activations and adapters.
enum class Pass { forward, training };
/// Besides the linear layers of the blocks.
enum class Counted { linears, and_head, and_head_and_attention };

struct FlopModel {
  Pass pass;
  Adapted adapted;
  Counted counted;
  Index tokens;  ///< one sequence
};

inline const char* to_string(Pass pass) {
  return pass == Pass::forward ? "forward" : "forward and backward";
}
inline const char* to_string(Counted counted) {
  return counted == Counted::linears    ? "linear layers"
         : counted == Counted::and_head ? "linear layers; LM head"
                                        : "linear layers; LM head; attention scores";
}

/// The frozen model. Each product has one more in the backward pass, for the gradient of its
/// activations; the two of attention (scores and values, no causal saving) have two more each.
inline double frozen_flops(const LanguageModel& model, const FlopModel& of) {
  const bool training = of.pass == Pass::training;
  const double tokens = static_cast<double>(of.tokens), width = static_cast<double>(model.width);
  double weights = 0;
  for (const Shape& shape : model.linears)
    weights += static_cast<double>(shape.out * shape.in * model.layers);
  if (of.counted != Counted::linears) weights += static_cast<double>(model.vocabulary) * width;
  double flops = 2 * tokens * weights * (training ? 2 : 1);
  if (of.counted == Counted::and_head_and_attention)
    flops += 4 * tokens * tokens * width * static_cast<double>(model.layers) * (training ? 3 : 1);
  return flops;
}

/// The products with H of one layer.
///
///     forward     W H_in                    H_out (W H_in)
///     backward    dH_in = W^T d(W H_in)     dH_out = dW' (W H_in)^T    d(W H_in) = H_out^T dW'
///
/// each, block by block, as many FLOPs as the forward product of its side. ETHER has the input side
/// only, ETHER+ both.
inline double transform_flops(const Shape& shape, const std::string& method, Index blocks,
                              Pass pass) {
  const bool training = pass == Pass::training;
  double flops = (training ? 2 : 1) * weight_space_product(shape, ether::Sides::input, blocks);
  if (method == "ETHER+")
    flops += (training ? 3 : 1) * weight_space_product(shape, ether::Sides::output, blocks);
  return flops;
}

/// All of a pass with `method` on activations, in FLOPs. In training an adapter costs three times its
/// forward pass: besides that, the gradients of activations and of its parameters.
inline double activation_pass_flops(const LanguageModel& model, const FlopModel& of,
                                    const std::string& method) {
  double per_token = 0;
  for (const Shape& shape : adapted_linears(model, of.adapted)) {
    const Cost cost = method == "LoRA"    ? lora_cost(shape, 8)
                      : method == "ETHER" ? paper_cost(shape, ether::Variant::ether)
                                          : paper_cost(shape, ether::Variant::ether_plus);
    per_token += static_cast<double>(model.layers) * cost.flops_per_token;
  }
  return frozen_flops(model, of) +
         per_token * static_cast<double>(of.tokens) * (of.pass == Pass::training ? 3 : 1);
}

/// All of a pass with `method` as the paper computes it, in FLOPs: LoRA on activations, the others
/// in weight space. In training these need dW' = dY^T X; the layers adapted as "q v" are one fused
/// matrix with k in the authors' code, so that k's is made too.
inline double pass_flops(const LanguageModel& model, const FlopModel& of, const std::string& method,
                         Index blocks) {
  if (method == "LoRA") return activation_pass_flops(model, of, method);
  const double layers = static_cast<double>(model.layers), tokens = static_cast<double>(of.tokens);
  double flops = frozen_flops(model, of);
  for (const Shape& shape : adapted_linears(model, of.adapted)) {
    flops += layers * transform_flops(shape, method, blocks, of.pass);
    const double weight_gradient = 2 * tokens * static_cast<double>(shape.out * shape.in);
    const double fused = of.adapted == Adapted::query_value ? 1.5 : 1;
    if (of.pass == Pass::training) flops += layers * fused * weight_gradient;
  }
  return flops;
}

}  // namespace claims
