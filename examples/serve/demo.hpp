#pragma once

/// A small random Llama, adapters for it, and requests: for those who have none at hand.

#include <ether/ether.hpp>
#include <ether/io.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace serve {

namespace fs = std::filesystem;
using ether::Index;

struct Demo {
  fs::path model, adapters, requests;
};

/// `width`: of the model, a multiple of 64.
inline Demo make_demo(const fs::path& directory, Index width, int adapters, int requests) {
  const Index layers = 4, head_dim = 32, heads = width / head_dim, kv_heads = heads / 2;
  const Index inner = width * 11 / 4, vocabulary = 512;
  const Demo demo{directory / "model", directory / "adapters", directory / "requests.jsonl"};
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal;

  std::vector<std::vector<float>> values;
  std::vector<ether::TensorData> tensors;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape, float mean,
                       float deviation) {
    std::uint64_t size = 1;
    for (const std::uint64_t n : shape) size *= n;
    values.emplace_back(size);
    for (float& value : values.back()) value = mean + deviation * normal(generator);
    tensors.push_back({{name, ether::Dtype::f32, std::move(shape), 0, 0}, values.back().data()});
  };
  std::vector<ether::BankModule> modules;
  const auto linear = [&](const std::string& name, Index out, Index in) {
    add(name + ".weight", {std::uint64_t(out), std::uint64_t(in)}, 0, 1 / std::sqrt(float(in)));
    modules.push_back({name, out, in});
  };
  const std::uint64_t w = std::uint64_t(width), v = std::uint64_t(vocabulary);
  add("model.embed_tokens.weight", {v, w}, 0, 1);
  add("model.norm.weight", {w}, 1, 0.1f);
  add("lm_head.weight", {v, w}, 0, 2 / std::sqrt(float(width)));
  for (Index l = 0; l < layers; ++l) {
    const std::string at = "model.layers." + std::to_string(l) + ".";
    add(at + "input_layernorm.weight", {w}, 1, 0.1f);
    add(at + "post_attention_layernorm.weight", {w}, 1, 0.1f);
    linear(at + "self_attn.q_proj", heads * head_dim, width);
    linear(at + "self_attn.k_proj", kv_heads * head_dim, width);
    linear(at + "self_attn.v_proj", kv_heads * head_dim, width);
    linear(at + "self_attn.o_proj", width, heads * head_dim);
    linear(at + "mlp.gate_proj", inner, width);
    linear(at + "mlp.up_proj", inner, width);
    linear(at + "mlp.down_proj", width, inner);
  }
  fs::create_directories(demo.model);
  ether::write_safetensors(demo.model / ether::Checkpoint::single_name, tensors, {},
                           /*replace=*/true);
  const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                         {"model_type", "llama"},
                                         {"torch_dtype", "float32"},
                                         {"hidden_size", width},
                                         {"intermediate_size", inner},
                                         {"num_hidden_layers", layers},
                                         {"num_attention_heads", heads},
                                         {"num_key_value_heads", kv_heads},
                                         {"head_dim", head_dim},
                                         {"vocab_size", vocabulary},
                                         {"max_position_embeddings", 2048},
                                         {"rms_norm_eps", 1e-5},
                                         {"rope_theta", 10000.0},
                                         {"hidden_act", "silu"},
                                         {"tie_word_embeddings", false}};
  std::ofstream(demo.model / "config.json") << config.dump(2) << '\n';

  fs::create_directories(demo.adapters);
  for (int a = 0; a < adapters; ++a) {
    ether::AdapterFileConfig of_all;
    of_all.variant = a % 2 == 0 ? ether::Variant::ether_plus : ether::Variant::ether;
    of_all.sides = a % 3 == 0 ? ether::Sides::input : ether::Sides::both;
    of_all.num_blocks = a % 5 == 0 ? 4 : 32;
    std::vector<std::pair<std::string, ether::Adapter<float>>> adapted;
    for (const auto& [name, out, in] : modules) {
      ether::Adapter<float> adapter(of_all.of_module(name), out, in);
      for (Index i = 0; i < adapter.size(); ++i) adapter.data()[i] = normal(generator);
      adapted.emplace_back(name, std::move(adapter));
    }
    ether::save_adapter(demo.adapters / std::to_string(a), of_all, adapted, /*replace=*/true);
  }

  std::ofstream lines(demo.requests);
  for (int r = 0; r < requests; ++r) {
    nlohmann::ordered_json request = {{"id", "request " + std::to_string(r)}};
    const auto choice = static_cast<int>(generator() % std::uint64_t(adapters + 2));
    if (choice < adapters) request["adapter"] = (demo.adapters / std::to_string(choice)).string();
    for (std::uint64_t i = 0, n = 3 + generator() % 20; i < n; ++i)
      request["prompt"].push_back(generator() % v);
    request["max_tokens"] = 8 + generator() % 25;
    if (r % 4 == 3) request["temperature"] = 0.8, request["seed"] = r;
    lines << request.dump() << '\n';
  }
  return demo;
}

}  // namespace serve
