#pragma once

/// Adapter directories, legal and hostile.

#include "io/support/build_safetensors.hpp"
#include "io/support/temporary_directory.hpp"

namespace test {

/// An adapter_config.json of these four required fields and other members.
inline std::string adapter_config(const std::string& variant, const std::string& sides,
                                  int num_blocks, const std::string& members = "") {
  return R"({"peft_type":"ETHER","variant":")" + variant + R"(","sides":")" + sides +
         R"(","num_blocks":)" + std::to_string(num_blocks) + (members.empty() ? "" : ",") +
         members + "}";
}

inline void write_adapter(const fs::path& directory, const std::string& config,
                          const SafetensorsBuilder& tensors) {
  fs::create_directories(directory);
  write_file(directory / "adapter_config.json", config);
  write_file(directory / "adapter_model.safetensors", tensors.file());
}

}  // namespace test
