#pragma once

/// Adapters written to disk. The format is docs/adapter-format.md.

#include <ether/io/adapter_file.hpp>
#include <ether/io/write_safetensors.hpp>

ETHER_BEGIN_NAMESPACE

/// Writes an adapter directory: the modules' parameters bit for bit, in P's dtype, and `config`.
/// Throws format_error where a module is not what `config` says of it; io_error; and what
/// `progress` throws, with nothing written.
template <class P>
void save_adapter(const fs::path& directory, const AdapterFileConfig& config,
                  const std::vector<std::pair<std::string, Adapter<P>>>& modules,
                  bool replace = false, const std::vector<fs::path>& inputs = {},
                  const ProgressCallback& progress = {}) {
  std::vector<TensorData> tensors;
  for (const auto& [name, adapter] : modules) {
    const AdapterConfig a = adapter.config(), c = config.of_module(name);
    const auto same = [&, &module = name](const char* what, const auto& given, const auto& said) {
      if (given != said)
        detail::fail<format_error>("module '", module, "' has ", what, " ", given,
                                   ", but the adapter's configuration says ", said);
    };
    same("variant", std::string(to_string(a.variant)), std::string(to_string(c.variant)));
    same("sides", std::string(to_string(a.sides)), std::string(to_string(c.sides)));
    same("layout", std::string(to_string(a.layout)), std::string(to_string(c.layout)));
    same("strength", a.strength, c.strength);
    for (const Side side : {Side::input, Side::output}) {
      if (adapter.terms(side) == 0) continue;
      same(side == Side::input ? "input_blocks" : "output_blocks", block_count(a, side),
           block_count(c, side));
      for (Index k = 0; k < adapter.terms(side); ++k)
        tensors.push_back({{"base_model.model." + name + ".ether_" + detail::term_name(k) +
                                (side == Side::output ? "_out" : ""),
                            dtype_of<P>,
                            {static_cast<std::uint64_t>(adapter.blocks(side)),
                             static_cast<std::uint64_t>(adapter.block_size(side))},
                            0,
                            0},
                           adapter.parameters(side).row(k)});
    }
  }
  const detail::PackedTensors packed(tensors, {});
  const std::string text = config.text();
  StagedOutput output(directory, StagedOutput::Kind::directory, replace, inputs);
  output.fill(packed.bytes() + text.size(), [&] {
    OutputFile file(output.staging() / AdapterFile::config_name);
    file.write(0, text.data(), text.size());
    file.flush();
    packed.write(output.staging() / AdapterFile::tensors_name, progress);
  });
  output.commit();
}

ETHER_END_NAMESPACE
