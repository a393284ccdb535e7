#pragma once

/// A fresh adapter for the modules of a base.

#include <ether/io/save_adapter.hpp>

namespace ether {

struct InitOptions {
  fs::path base;
  fs::path output;
  AdapterFileConfig config;  ///< target_modules must be set
  Dtype dtype = Dtype::f32;  ///< of the parameters: f32 or f64
  std::uint64_t seed = 0;    ///< each module's own is seed + its number
  bool replace = false;
};

struct InitReport {
  std::vector<std::string> modules;
  Index parameters = 0;
  std::vector<std::string> warnings;  ///< what is odd in the base but can be read
};

namespace detail {

template <class P>
InitReport init_adapter(const InitOptions& options, const Checkpoint& base,
                        const std::vector<AdaptedModule>& modules) {
  InitReport report;
  report.warnings = base.warnings();
  std::vector<std::pair<std::string, Adapter<P>>> adapters;
  for (const AdaptedModule& module : modules) try {
      adapters.emplace_back(module.name,
                            Adapter<P>::random(options.config.of_module(module.name), module.out,
                                               module.in, options.seed + adapters.size()));
      report.modules.push_back(module.name);
      report.parameters += adapters.back().second.size();
    } catch (const parameter_error& e) {
      fail<parameter_error>("module '", module.name, "': ", e.what());
    }
  save_adapter(options.output, options.config, adapters, options.replace, base.files());
  return report;
}

}  // namespace detail

/// Writes an adapter with the authors' initialisation (Adapter::random) for every module of the
/// base that the configuration selects. Throws format_error where it selects none, or something
/// that is no weight; parameter_error where a number of blocks does not divide a width; io_error.
inline InitReport init_adapter(const InitOptions& options) {
  if (!options.config.target_modules)
    detail::fail<parameter_error>("target_modules is not set; say which modules to adapt");
  const Checkpoint base(options.base);
  static const std::string ending = ".weight";
  std::vector<AdaptedModule> modules;
  for (const auto& [name, tensor] : base.tensors()) {
    if (name.size() <= ending.size() ||
        name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
      continue;
    const std::string module = name.substr(0, name.size() - ending.size());
    const bool matrix = tensor.info->shape.size() == 2;
    if (matrix && options.config.selects(module))
      modules.push_back(AdapterFile::find_weight(base, module, options.config.fan_in_fan_out));
  }
  if (modules.empty())
    detail::fail<format_error>("target_modules selects none of the two-dimensional weights of ",
                               base.path().string(), "; `ether inspect` lists them");
  return options.dtype == Dtype::f64 ? detail::init_adapter<double>(options, base, modules)
                                     : detail::init_adapter<float>(options, base, modules);
}

}  // namespace ether
