#pragma once

/// The network and its adapter on disk, as ether merge wants them:
///
///     base/model.safetensors      layers.0.weight (out, in), layers.0.bias (out), ...
///     adapter/                    for the modules layers.0, layers.1, ...

#include "network.hpp"

#include <ether/io.hpp>

namespace fs = std::filesystem;

inline std::string module_name(std::size_t layer) { return "layers." + std::to_string(layer); }

inline void save_network(const fs::path& directory, const Network& network) {
  std::vector<ether::TensorData> tensors;
  const auto add = [&](const std::string& name, std::vector<Index> shape, const Matrix& values) {
    tensors.push_back({{name, ether::Dtype::f32, {shape.begin(), shape.end()}}, values.data()});
  };
  for (std::size_t l = 0; l < network.size(); ++l) {
    const auto& [weight, bias] = network[l];
    add(module_name(l) + ".weight", {weight.rows(), weight.cols()}, weight);
    add(module_name(l) + ".bias", {bias.size()}, bias);
  }
  fs::create_directories(directory);
  ether::write_safetensors(directory / ether::Checkpoint::single_name, tensors, {},
                           /*replace=*/true);
}

inline Network load_network(const fs::path& directory) {
  const ether::SafetensorsFile file(directory / ether::Checkpoint::single_name);
  Network network;
  while (file.find(module_name(network.size()) + ".weight") != nullptr) {
    const auto matrix = [&](const char* name) {
      const auto view = file.matrix<float>(module_name(network.size()) + name);
      return Matrix(Eigen::Map<const Matrix>(view.data, view.rows, view.cols));
    };
    network.push_back({matrix(".weight"), matrix(".bias")});
  }
  return network;
}

/// `adapters` of every layer; all are of one configuration but for the number of blocks, which is
/// the same on both sides.
inline void save_adapters(const fs::path& directory,
                          const std::vector<ether::Adapter<float>>& adapters) {
  const ether::AdapterConfig& of_all = adapters[0].config();
  ether::AdapterFileConfig config;
  config.variant = of_all.variant, config.sides = of_all.sides;
  config.num_blocks = of_all.input_blocks;
  config.block_layout = of_all.layout, config.strength = of_all.strength;
  std::vector<std::pair<std::string, ether::Adapter<float>>> modules;
  for (const auto& adapter : adapters) {
    const std::string module = module_name(modules.size());
    if (const Index blocks = adapter.config().input_blocks; blocks != config.num_blocks)
      config.num_blocks_pattern[module] = blocks;
    modules.emplace_back(module, adapter);
  }
  ether::save_adapter(directory, config, modules, /*replace=*/true);
}

inline std::vector<ether::Adapter<float>> load_adapters(const fs::path& directory,
                                                        const Network& base) {
  const ether::AdapterFile file(directory);
  std::vector<ether::Adapter<float>> adapters;
  for (const Linear& linear : base)
    adapters.push_back(file.adapter<float>(module_name(adapters.size()), linear.weight.rows(),
                                           linear.weight.cols()));
  return adapters;
}
