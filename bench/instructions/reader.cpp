// Workloads on files: their headers are read, none of their tensors.

#include "workload.hpp"

#include <ether/io/adapter_config.hpp>
#include <ether/io/safetensors.hpp>

#include <filesystem>
#include <fstream>

namespace instructions {

namespace {

constexpr std::int64_t tensors = 300;

/// A file as a sharded model has them: seven weights and two norms a layer. Its size is right, but
/// it holds nothing (a sparse file). Its path is the same everywhere, for messages are made of it.
void safetensors_file() {
  std::vector<ether::TensorInfo> all;
  for (std::int64_t i = 0; i < tensors; ++i) {
    const char* const names[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
        "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
        "mlp.down_proj",    "input_layernorm",  "post_attention_layernorm"};
    ether::TensorInfo tensor;
    tensor.name = "model.layers." + std::to_string(i / 9) + "." + names[i % 9] + ".weight";
    tensor.dtype = ether::Dtype::bf16;
    tensor.shape = {64, 64};
    all.push_back(tensor);
  }
  const auto header = ether::SafetensorsHeader::pack(std::move(all), {});
  const ether::fs::path path = "model.safetensors";
  std::ofstream(path, std::ios::binary) << header.text();
  ether::fs::resize_file(path, header.file_bytes());
  count([&] {
    ether::SafetensorsFile file(path);
    keep(&file);
  });
}

void adapter_config() {
  ether::AdapterFileConfig written;
  written.variant = ether::Variant::ether_plus;
  written.sides = ether::Sides::both;
  written.num_blocks = 32;
  written.target_modules = ether::ModulePattern(std::vector<std::string>{"q_proj", "v_proj"});
  const std::string text = written.text();
  count([&] {
    std::vector<std::string> warnings;
    auto config = ether::AdapterFileConfig::parse(text, "adapter_config.json", warnings);
    keep(&config);
  });
}

}  // namespace

std::vector<Workload> reader_workloads() {
  return {{"safetensors_header/tensors:300", tensors, safetensors_file},
          {"adapter_config", 1, adapter_config}};
}

}  // namespace instructions
