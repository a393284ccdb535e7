#pragma once

/// An adapter as PEFT's HRA, a chain of Householder reflections.

#include <ether/io/peft_adapter.hpp>

namespace ether {

/// The exact HRA adapter (Householder reflections, PEFT) of an ETHER one: W' = W H_1 ... H_n, each
/// reflection one block, hra_u (in, n) block-sparse. For variant ether, input side, diagonal,
/// strength 1, one number of blocks for all modules, and weights stored as (out, in); others are
/// refused with a parameter_error. Throws io_error, format_error too. Returns n.
inline Index export_hra(const ExportOptions& options) {
  using detail::fail;
  const Checkpoint base(options.base);
  AdapterFile file(options.adapter);
  if (options.strength) file.set_strength(*options.strength);
  const AdapterFileConfig& config = file.config();
  const std::vector<AdaptedModule> modules = file.match(base);
  const auto refuse = [&](const std::string& what, const auto& is, const auto& needed) {
    fail<parameter_error>("HRA is a chain of reflections on the input side: ", what, " is ", is,
                          ", but must be ", needed);
  };
  if (config.variant != Variant::ether) refuse("variant", to_string(config.variant), "ether");
  if (config.sides != Sides::input) refuse("sides", to_string(config.sides), "input");
  if (config.strength != 1) refuse("strength", config.strength, 1);
  if (config.fan_in_fan_out) refuse("fan_in_fan_out", "true", "false for PEFT's HRA");
  Index blocks = 0;
  detail::PeftAdapter peft;
  for (const AdaptedModule& module : modules) {
    const Index n = config.of_module(module.name).input_blocks;
    if (n > 1 && config.block_layout != BlockLayout::diagonal)
      refuse("block_layout", to_string(config.block_layout), "diagonal");
    if (blocks != 0 && n != blocks)
      refuse("the number of blocks of '" + module.name + "'", n,
             std::to_string(blocks) + " as in the modules before it: HRA has one rank");
    blocks = n;
    peft.tensors.push_back({{"base_model.model." + module.name + ".hra_u",
                             options.dtype,
                             {detail::size_of(module.in), detail::size_of(n)},
                             0,
                             0}});
  }
  peft.config =
      detail::peft_config("HRA", blocks, config, detail::peft_target_modules(modules, base));
  peft.config["apply_GS"] = false;
  peft.write(options, base, file, [&](std::size_t m) {
    const AdaptedModule& module = modules[m];
    const auto adapter = file.adapter<double>(module.name, module.out, module.in);
    detail::DenseMatrix u = detail::DenseMatrix::Zero(module.in, blocks);
    const Index size = module.in / blocks;
    for (Index b = 0; b < blocks; ++b) {
      const double* const w = adapter.input_u().row(b);
      for (Index i = 0; i < size; ++i) u(b * size + i, b) = w[i] / detail::length(w, size);
    }
    return std::vector<detail::DenseMatrix>{std::move(u)};
  });
  return blocks;
}

}  // namespace ether
