#pragma once

/// Requests from a file; and for those who have none at hand, a small random Llama, adapters for it, and
/// requests.

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

using Token = std::int32_t;

struct Request {
  std::string id, adapter;  // the adapter's directory; empty: none
  std::vector<Token> prompt;
  Index most_tokens = 16;
  double temperature = 0;  // 0: the likeliest token
  std::uint64_t seed = 0;
};

/// A line of JSON for each: {"id": .., "adapter": .., "prompt": [..], "max_tokens": .., "temperature": .., "seed": ..}
std::vector<Request> read_requests(const fs::path& path, Index vocabulary) {
  using ether::detail::fail;
  std::ifstream file(path);
  if (!file) fail<ether::io_error>(path.string(), " cannot be read");
  std::vector<Request> requests;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const std::string where = path.string() + " line " + std::to_string(number);
    try {
      const auto json = nlohmann::json::parse(line);
      Request r;
      r.id = json.value("id", std::to_string(number));
      r.adapter = json.value("adapter", "");
      r.prompt = json.at("prompt").get<std::vector<Token>>();
      r.most_tokens = json.value("max_tokens", r.most_tokens);
      r.temperature = json.value("temperature", r.temperature);
      r.seed = json.value("seed", r.seed);
      for (const Token token : r.prompt)
        if (token < 0 || token >= vocabulary)
          fail<ether::format_error>(where, ": token ", token, " is not below the vocabulary's ",
                                    vocabulary);
      if (r.prompt.empty() || r.most_tokens < 1 || r.most_tokens > 1 << 20 || !(r.temperature >= 0))
        fail<ether::format_error>(where,
                                  ": a request needs a prompt, max_tokens of 1 to 1048576, and a "
                                  "temperature of 0 or more");
      requests.push_back(std::move(r));
    } catch (const nlohmann::json::exception& e) {
      fail<ether::format_error>(where, ": ", e.what());
    }
  }
  if (requests.empty()) fail<ether::format_error>(path.string(), " has no requests");
  return requests;
}

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
