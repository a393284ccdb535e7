#pragma once

/// An adapter on disk: a directory of adapter_config.json and adapter_model.safetensors. The
/// format is docs/adapter-format.md.

#include <ether/backends/eigen.hpp>
#include <ether/io/adapted_module.hpp>
#include <ether/io/adapter_config.hpp>
#include <ether/prepared_adapter.hpp>

#include <utility>

ETHER_BEGIN_NAMESPACE

class AdapterFile {
 public:
  static constexpr const char* config_name = "adapter_config.json";
  static constexpr const char* tensors_name = "adapter_model.safetensors";

  /// Reads the configuration and checks every tensor. Throws io_error, format_error; and
  /// parameter_error for a zero or non-finite block.
  explicit AdapterFile(const fs::path& directory)
      : path_(directory),
        config_(read_config(directory, warnings_)),
        tensors_(directory / tensors_name) {
    for (const TensorInfo& tensor : tensors_.tensors()) add(tensor);
    if (modules_.empty())
      detail::fail<format_error>(tensors_.file().path().string(), " has no tensors");
    for (const auto& [name, module] : modules_) check(name, module);
    for (const auto& [suffix, number] : config_.num_blocks_pattern)
      if (std::none_of(modules_.begin(), modules_.end(), [&, &part = suffix](const auto& module) {
            return ModulePattern::is_suffix(part, module.first);
          }))
        warnings_.push_back(where() + ": num_blocks_pattern has '" + suffix +
                            "', which is none of the modules that have tensors");
  }

  const fs::path& path() const { return path_; }
  /// What must not be overwritten.
  std::vector<fs::path> files() const { return {path_, path_ / config_name, path_ / tensors_name}; }
  const AdapterFileConfig& config() const { return config_; }
  /// In place of what the file says.
  void set_strength(double strength) { config_.strength = strength; }
  const SafetensorsFile& tensors() const { return tensors_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  /// The modules that have tensors, in order.
  std::vector<std::string> modules() const {
    std::vector<std::string> names;
    for (const auto& [name, tensors] : modules_) names.push_back(name);
    return names;
  }
  /// 0 for a side that is not adapted: the file does not say. Throws format_error for a module
  /// without tensors, as the next does.
  Index width(const std::string& module, Side side) const {
    const TensorInfo* const u = tensors_of(module)[static_cast<std::size_t>(side)][0];
    return u == nullptr ? 0 : static_cast<Index>(u->shape[0] * u->shape[1]);
  }

  /// One module's parameters, for a weight (out, in). P: double, which every stored value fits, or
  /// float. Throws parameter_error where the widths do not fit.
  template <class P>
  Adapter<P> adapter(const std::string& module, Index out, Index in) const {
    tensors_of(module);  // an unknown name is said before numbers that do not fit
    Adapter<P> adapter(config_.of_module(module), out, in);
    for (const Side side : {Side::input, Side::output})
      for (Index k = 0; k < adapter.terms(side); ++k) {
        const TensorInfo& tensor =
            *tensors_of(module)[static_cast<std::size_t>(side)][static_cast<std::size_t>(k)];
        const MatrixView<P> all = adapter.parameters(side);
        if (width(module, side) != all.cols)
          detail::fail<parameter_error>("module '", module, "': tensor '", tensor.name,
                                        "' has shape ", shape_text(tensor.shape), ", ",
                                        width(module, side), " wide, but the weight's ",
                                        to_string(side), " width is ", all.cols);
        std::vector<double> values(static_cast<std::size_t>(all.cols));
        detail::widen(tensor.dtype, tensors_.data(tensor), all.cols, values.data());
        std::transform(values.begin(), values.end(), all.row(k),
                       [](double value) { return static_cast<P>(value); });
      }
    return adapter;
  }

  /// Every adapted module with its weight in `base`, in order. Throws format_error for a module
  /// that the base lacks, or that target_modules does not select, or that it selects and that has
  /// no tensors; parameter_error for a wrong width.
  std::vector<AdaptedModule> match(const Checkpoint& base) const {
    check_selection(base);
    std::vector<AdaptedModule> matched;
    for (const auto& [name, tensors] : modules_) {
      const AdaptedModule module = find_weight(base, name, config_.fan_in_fan_out);
      for (const Side side : {Side::input, Side::output}) check_width(base, module, tensors, side);
      matched.push_back(module);
    }
    return matched;
  }

 private:
  using Tensors = std::array<std::array<const TensorInfo*, 2>, 2>;  // of side and term

  static AdapterFileConfig read_config(const fs::path& directory,
                                       std::vector<std::string>& warnings) {
    std::error_code ignored;
    if (fs::is_regular_file(directory, ignored))
      detail::fail<io_error>(detail::quoted(directory), " is a file; give the adapter's directory");
    if (fs::is_directory(directory, ignored) && !fs::exists(directory / config_name, ignored))
      detail::fail<io_error>(detail::quoted(directory), " is no adapter: it has no ", config_name);
    const MappedFile file(directory / config_name);
    return AdapterFileConfig::parse(file.text(), file.path().string(), warnings);
  }

  const Tensors& tensors_of(const std::string& module) const {
    const auto found = modules_.find(module);
    if (found != modules_.end()) return found->second;
    std::string some;
    std::size_t named = 0;
    for (const auto& [name, tensors] : modules_) {
      if (++named > 3) break;
      some += (named > 1 ? ", '" : " '") + name + "'";
    }
    detail::fail<format_error>(where(), " has no module '", module, "'; it has ", modules_.size(),
                               ", as", some);
  }

  void add(const TensorInfo& tensor) {
    static constexpr const char* prefix = "base_model.model.";
    std::string name = tensor.name;
    if (name.rfind(prefix, 0) == 0) name.erase(0, std::strlen(prefix));
    const std::size_t dot = name.rfind('.');
    const std::string parameter = dot == name.npos ? "" : name.substr(dot + 1);
    const bool output = parameter == "ether_u_out" || parameter == "ether_v_out";
    const bool second = parameter == "ether_v" || parameter == "ether_v_out";
    if (!output && !second && parameter != "ether_u")
      detail::fail<format_error>(
          where(), ": the tensor '", tensor.name,
          "' is none of <module>.ether_u, ether_v, ether_u_out, ether_v_out");
    const TensorInfo*& place = modules_[name.substr(0, dot)][output ? 1 : 0][second ? 1 : 0];
    if (place != nullptr)
      detail::fail<format_error>(where(), ": the tensors '", place->name, "' and '", tensor.name,
                                 "' are the same parameter");
    place = &tensor;
  }

  void check(const std::string& name, const Tensors& tensors) {
    const AdapterConfig module = config_.of_module(name);
    for (const Side side : {Side::input, Side::output})
      for (Index k = 0; k < 2; ++k) {
        const TensorInfo* const tensor =
            tensors[static_cast<std::size_t>(side)][static_cast<std::size_t>(k)];
        const bool expected = has_side(module.sides, side) && k < term_count(module.variant);
        const std::string parameter =
            std::string("ether_") + detail::term_name(k) + (side == Side::output ? "_out" : "");
        if ((tensor != nullptr) != expected)
          detail::fail<format_error>(where(), ": module '", name, "' ",
                                     expected ? "lacks " : "has ", parameter,
                                     ", but the variant is ", to_string(module.variant),
                                     " and sides is ", to_string(module.sides));
        if (tensor != nullptr) check_shape(*tensor, block_count(module, side));
      }
    for (const auto& side : tensors)
      if (side[0] != nullptr && side[1] != nullptr && side[0]->shape != side[1]->shape)
        detail::fail<format_error>(where(), ": '", side[0]->name, "' has shape ",
                                   shape_text(side[0]->shape), " and '", side[1]->name, "' ",
                                   shape_text(side[1]->shape), "; they must be alike");
    check_blocks(name);
  }

  void check_shape(const TensorInfo& tensor, Index blocks) const {
    if (!is_weight_dtype(tensor.dtype))
      detail::fail<format_error>(where(), ": '", tensor.name, "' has dtype ",
                                 to_string(tensor.dtype), "; it must be F64, F32, F16 or BF16");
    if (tensor.shape.size() != 2 || tensor.bytes() == 0)
      detail::fail<format_error>(where(), ": '", tensor.name, "' has shape ",
                                 shape_text(tensor.shape), "; it must be (blocks, block_size)");
    if (tensor.shape[0] != static_cast<std::uint64_t>(blocks))
      detail::fail<format_error>(where(), ": '", tensor.name, "' has ", tensor.shape[0],
                                 " blocks, but ", AdapterFile::config_name, " says ", blocks);
  }

  /// Zero and non-finite blocks, as every user of an Adapter checks them.
  void check_blocks(const std::string& module) const {
    const Index in = width(module, Side::input), out = width(module, Side::output);
    const Status status = check_adapter(adapter<double>(module, out ? out : 1, in ? in : 1));
    if (!status.ok())
      detail::fail<parameter_error>(where(), ": module '", module, "': ", status.sentence());
  }

  void check_selection(const Checkpoint& base) const {
    for (const auto& [name, tensors] : modules_)
      if (!config_.selects(name))
        detail::fail<format_error>(where(), ": module '", name,
                                   "' has tensors, but target_modules does not select it");
    if (!config_.target_modules || config_.target_modules->all_linear()) return;
    static const std::string ending = ".weight";
    for (const auto& [name, tensor] : base.tensors()) {
      if (tensor.info->shape.size() != 2 || name.size() <= ending.size() ||
          name.compare(name.size() - ending.size(), ending.size(), ending) != 0)
        continue;
      const std::string module = name.substr(0, name.size() - ending.size());
      if (config_.selects(module) && modules_.count(module) == 0)
        detail::fail<format_error>(
            where(), ": target_modules selects '", module,
            "', which has no tensors; train it or put it in exclude_modules");
    }
  }

  void check_width(const Checkpoint& base, const AdaptedModule& module, const Tensors& tensors,
                   Side side) const {
    const TensorInfo* const u = tensors[static_cast<std::size_t>(side)][0];
    const Index expected = side == Side::input ? module.in : module.out;
    if (u != nullptr && width(module.name, side) != expected)
      detail::fail<parameter_error>(
          where(), ": '", u->name, "' has shape ", shape_text(u->shape), ", ",
          width(module.name, side), " wide, but the weight in ", base.path().string(),
          " is (out, in) = (", module.out, ", ", module.in, "), ", to_string(side), " width ",
          expected,
          width(module.name, side) == module.in + module.out - expected
              ? "; is it stored as " + detail::other_order(config_.fan_in_fan_out)
              : std::string());
  }

  std::string where() const { return path_.string(); }

  fs::path path_;
  std::vector<std::string> warnings_;
  AdapterFileConfig config_;
  SafetensorsFile tensors_;
  std::map<std::string, Tensors> modules_;
};

ETHER_END_NAMESPACE
