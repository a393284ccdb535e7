// Any bytes as an adapter_config.json: refused with a format_error, or a configuration that reads
// the same after it was written and that answers for any module's name.

#include "require.hpp"

#include <ether/io/adapter_config.hpp>

using ether::AdapterFileConfig;
using fuzz::require;

namespace {

AdapterFileConfig parse(std::string_view text) {
  std::vector<std::string> warnings;
  return AdapterFileConfig::parse(text, "config", warnings);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::string> modules{"",
                                                ".",
                                                "q_proj",
                                                "model.layers.12.self_attn.q_proj",
                                                "lm_head",
                                                std::string(200, 'a'),
                                                "h.0.attn.c_attn.\xc3\xa9"};
  AdapterFileConfig config;
  try {
    config = parse({reinterpret_cast<const char*>(data), size});
  } catch (const ether::format_error&) {
    return 0;
  }
  const std::string text = config.text();
  const AdapterFileConfig again = parse(text);
  require(again.text() == text, "the text is the same after a round trip");
  for (const std::string& module : modules) {
    require(config.selects(module) == again.selects(module), "the same modules are selected");
    const ether::AdapterConfig a = config.of_module(module), b = again.of_module(module);
    require(a.input_blocks >= 1 && a.output_blocks >= 1, "there is a block");
    require(a.input_blocks == b.input_blocks && a.output_blocks == b.output_blocks,
            "the numbers of blocks are the same after a round trip");
    require(a.strength == b.strength, "the strength is the same after a round trip");
  }
  return 0;
}
