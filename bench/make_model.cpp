/// make_model DIRECTORY: writes DIRECTORY/base, a bfloat16 checkpoint of 1.6 GB in four shards, with
/// the layers of a 7B Llama (4096 and 11008 wide), and DIRECTORY/adapter, ETHER+ on both sides with
/// 32 blocks for half of its bytes; all random.

#include <ether/io/save_adapter.hpp>

#include <cstdio>
#include <random>

namespace {

using namespace ether;

struct Layer {
  const char* name;
  Index out, in;
  bool adapted;  // in even layers, in odd ones
};
constexpr Layer layers[] = {
    {"self_attn.q_proj", 4096, 4096, true}, {"self_attn.k_proj", 4096, 4096, false},
    {"self_attn.v_proj", 4096, 4096, true}, {"self_attn.o_proj", 4096, 4096, false},
    {"mlp.gate_proj", 11008, 4096, true},   {"mlp.up_proj", 11008, 4096, false},
    {"mlp.down_proj", 4096, 11008, false}};
constexpr int depth = 4;

std::string module_name(int l, const Layer& layer) {
  return "model.layers." + std::to_string(l) + "." + layer.name;
}

/// down_proj in every other layer, so that half of the bytes is adapted.
bool adapted(int l, const Layer& layer) { return layer.adapted || (layer.in > 4096 && l % 2 == 0); }

void write_base(const fs::path& directory) {
  fs::create_directories(directory);
  std::mt19937_64 generator(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<Eigen::bfloat16> pool(1 << 20);  // weights repeat it, from changing places
  for (auto& value : pool) value = Eigen::bfloat16(normal(generator));
  nlohmann::ordered_json index;
  std::uint64_t total = 0;
  for (int l = 0; l < depth; ++l) {
    const std::string shard = "model-0000" + std::to_string(l + 1) + "-of-00004.safetensors";
    std::vector<std::vector<Eigen::bfloat16>> values;
    std::vector<TensorData> tensors;
    for (const Layer& layer : layers) {
      values.emplace_back(static_cast<std::size_t>(layer.out * layer.in));
      for (std::size_t i = 0, from = generator(); i < values.back().size(); ++i, ++from)
        values.back()[i] = pool[from % pool.size()];
      const std::string name = module_name(l, layer) + ".weight";
      tensors.push_back(
          {{name, Dtype::bf16, {std::uint64_t(layer.out), std::uint64_t(layer.in)}, 0, 0},
           values.back().data()});
      index["weight_map"][name] = shard;
      total += 2 * values.back().size();
    }
    write_safetensors(directory / shard, tensors, {}, /*replace=*/true);
  }
  index["metadata"]["total_size"] = total;
  const std::string text = index.dump(2);
  fs::remove(directory / Checkpoint::index_name);
  OutputFile(directory / Checkpoint::index_name).write(0, text.data(), text.size());
  std::printf("%s: %llu bytes\n", directory.c_str(), static_cast<unsigned long long>(total));
}

void write_adapter(const fs::path& directory) {
  AdapterFileConfig file;
  file.variant = Variant::ether_plus, file.sides = Sides::both, file.num_blocks = 32;
  std::mt19937_64 generator(2);
  std::normal_distribution<float> normal;
  std::vector<std::pair<std::string, Adapter<float>>> modules;
  for (int l = 0; l < depth; ++l)
    for (const Layer& layer : layers) {
      if (!adapted(l, layer)) continue;
      const std::string name = module_name(l, layer);
      Adapter<float> adapter(file.of_module(name), layer.out, layer.in);
      for (Index i = 0; i < adapter.size(); ++i) adapter.data()[i] = normal(generator);
      modules.emplace_back(name, std::move(adapter));
    }
  save_adapter(directory, file, modules, /*replace=*/true);
  std::printf("%s: %zu modules\n", directory.c_str(), modules.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: make_model DIRECTORY\n"), 2;
  try {
    write_base(fs::path(argv[1]) / "base");
    write_adapter(fs::path(argv[1]) / "adapter");
  } catch (const std::exception& e) {
    return std::fprintf(stderr, "make_model: %s\n", e.what()), 1;
  }
}
