#pragma once

/// A fresh adapter for the modules of a base.

#include <ether/io/save_adapter.hpp>
#include <ether/io/weight_transform.hpp>

ETHER_BEGIN_NAMESPACE

struct InitOptions {
  fs::path base;
  fs::path output;
  AdapterFileConfig config;  ///< target_modules must be set
  Dtype dtype = Dtype::f32;  ///< of the parameters: f32 or f64
  std::uint64_t seed = 0;    ///< each module's own is seed + its number
  bool replace = false;
  ProgressCallback progress;
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
  const bool transposed = options.config.fan_in_fan_out;
  InitReport report;
  report.warnings = base.warnings();
  for (std::string& warning : storage_warnings(base, modules, transposed))
    report.warnings.push_back(std::move(warning));
  std::vector<std::pair<std::string, Adapter<P>>> adapters;
  for (const AdaptedModule& module : modules) try {
      if (options.progress) options.progress({0, 1});  // nothing is written yet
      check_stored_layout(options.config.of_module(module.name), transposed);
      adapters.emplace_back(module.name,
                            Adapter<P>::random(options.config.of_module(module.name), module.out,
                                               module.in, options.seed + adapters.size()));
      report.modules.push_back(module.name);
      report.parameters += adapters.back().second.size();
    } catch (const parameter_error& e) {
      fail<parameter_error>("module '", module.name, "': ", e.what());
    }
  save_adapter(options.output, options.config, adapters, options.replace, base.files(),
               options.progress);
  return report;
}

/// Throws format_error for a name in target_modules that fits none of `matrices`, the base's
/// two-dimensional weights, a suffix in num_blocks_pattern that fits none of the chosen, and where
/// none are chosen.
inline void check_names(const AdapterFileConfig& config, const Checkpoint& base,
                        const std::vector<std::string>& matrices,
                        const std::vector<AdaptedModule>& chosen) {
  for (const std::string& name : config.target_modules->names())
    if (std::none_of(matrices.begin(), matrices.end(), [&](const std::string& module) {
          return ModulePattern::is_suffix(name, module);
        }))
      fail<format_error>("'", name,
                         "' in target_modules selects none of the two-dimensional weights of ",
                         base.path().string(), tied_hint(name));
  if (chosen.empty())
    fail<format_error>("target_modules selects none of the two-dimensional weights of ",
                       base.path().string(), "; `ether inspect` lists them");
  for (const auto& [suffix, number] : config.num_blocks_pattern)
    if (std::none_of(chosen.begin(), chosen.end(), [&, &part = suffix](const AdaptedModule& m) {
          return ModulePattern::is_suffix(part, m.name);
        }))
      fail<format_error>("num_blocks_pattern has '", suffix,
                         "', which fits none of the modules that target_modules selects");
}

}  // namespace detail

/// Writes an adapter with the authors' initialisation (Adapter::random) for every module of the
/// base that the configuration selects. Throws format_error where it selects none, or something
/// that is no weight, or has a name or a suffix that fits nothing; parameter_error where a number
/// of blocks does not divide a width; io_error; and what options.progress throws, with nothing
/// written.
inline InitReport init_adapter(const InitOptions& options) {
  if (!options.config.target_modules)
    detail::fail<parameter_error>("target_modules is not set; say which modules to adapt");
  const Checkpoint base(options.base);
  static const std::string ending = ".weight";
  std::vector<std::string> matrices;
  std::vector<AdaptedModule> modules;
  for (const auto& [name, tensor] : base.tensors()) {
    if (name.size() <= ending.size() ||
        name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
      continue;
    const std::string module = name.substr(0, name.size() - ending.size());
    if (tensor.info->shape.size() != 2) continue;
    matrices.push_back(module);
    if (options.config.selects(module))
      modules.push_back(find_weight(base, module, options.config.fan_in_fan_out));
  }
  detail::check_names(options.config, base, matrices, modules);
  return options.dtype == Dtype::f64 ? detail::init_adapter<double>(options, base, modules)
                                     : detail::init_adapter<float>(options, base, modules);
}

ETHER_END_NAMESPACE
