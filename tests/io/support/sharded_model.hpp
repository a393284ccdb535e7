#pragma once

/// A model of two shards with an adapter, and the merge of both.

#include "io/support/model.hpp"
#include "support/check_message.hpp"

namespace test {

inline const auto plus_both = config(ether::Variant::ether_plus, ether::Sides::both, 2, 2);

/// A model of two shards in a directory; layers.0.q and layers.0.k in the first are adapted.
struct ShardedModel {
  TemporaryDirectory dir;
  fs::path base = dir / "base model", adapter = dir / "adapter";
  ether::MergeOptions options;
  Stored q{Dtype::bf16, random_matrix<double>(8, 12, 1)};
  Stored k{Dtype::f16, random_matrix<double>(8, 12, 2)};

  ShardedModel() {
    fs::create_directories(base / "assets");
    SafetensorsBuilder first, second;
    add(first, "layers.0.q.weight", q);
    add(first, "layers.0.k.weight", k);
    first.ones("norm.weight", 1, 5);
    second.ones("lm_head.weight", 4, 4);
    write_file(base / "model-1.safetensors", first.file());
    write_file(base / "model-2.safetensors", second.file());
    write_index(2 * 96 * 2 + 5 * 4 + 16 * 4);
    write_file(base / "config.json", R"({"tie_word_embeddings": false})");
    write_file(base / "assets" / "t\xc3\xb6kens.txt", "a\nb\n");
    write_file(base / ".hidden", "");
    save({{"layers.0.q", 5}, {"layers.0.k", 6}});
    options.base = base, options.adapters = {adapter}, options.output = dir / "out";
    options.verify = true;
  }

  void write_index(int total) {
    write_file(
        base / "model.safetensors.index.json",
        R"({"metadata":{"total_size":)" + std::to_string(total) +
            R"(,"by":"hand"},"weight_map":{"layers.0.q.weight":"model-1.safetensors",)"
            R"("layers.0.k.weight":"model-1.safetensors","norm.weight":"model-1.safetensors",)"
            R"("lm_head.weight":"model-2.safetensors"}})");
  }

  void save(const std::vector<std::pair<std::string, int>>& modules, Index out = 8, Index in = 12) {
    std::vector<std::pair<std::string, ether::Adapter<float>>> adapters;
    for (const auto& [name, seed] : modules)
      adapters.emplace_back(
          name, random_adapter<float>(plus_both, out, in, static_cast<std::uint64_t>(seed)));
    ether::save_adapter(adapter, file_config(plus_both), adapters, /*replace=*/true);
  }

  Matrix expected(const Stored& weight, std::uint64_t seed) const {
    return Oracle(random_adapter<float>(plus_both, 8, 12, seed), weight.values).merged();
  }

  /// A merge that must be refused and leave everything as it is.
  template <class Error>
  std::string refused(std::initializer_list<std::string> parts) {
    const auto before = snapshot(dir.path());
    const std::string result = refusal<Error>([&] { ether::merge_checkpoint(options); }, parts);
    if (snapshot(dir.path()) != before) return "files have changed";
    return result;
  }
};

}  // namespace test
