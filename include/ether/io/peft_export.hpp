#pragma once

/// An adapter as one of another method, as PEFT stores it: what the exports have in common.

#include <ether/io/adapter_file.hpp>
#include <ether/io/parallel.hpp>
#include <ether/io/progress.hpp>
#include <ether/io/staged_output.hpp>

ETHER_BEGIN_NAMESPACE

struct ExportOptions {
  fs::path base;
  fs::path adapter;
  fs::path output;                 ///< empty: for the rank and the size alone
  std::optional<double> strength;  ///< in place of the adapter's own
  Dtype dtype = Dtype::f32;        ///< f32, bf16 or f16
  bool allow_large_rank =
      false;  ///< LoRA of row_chunk with several input blocks: rank grows as n^2
  bool replace = false;
  int threads = 0;
  ProgressCallback progress;
};

namespace detail {

using DenseMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// target_modules that select just these modules: the last parts of their names where these do,
/// else the whole names, else, as PEFT takes names for suffixes, an expression.
inline Json peft_target_modules(const std::vector<AdaptedModule>& modules, const Checkpoint& base) {
  std::set<std::string> names, suffixes;
  for (const AdaptedModule& module : modules) {
    names.insert(module.name);
    suffixes.insert(module.name.substr(module.name.rfind('.') + 1));
  }
  const auto select_others = [&](const std::set<std::string>& chosen) {
    const ModulePattern pattern(std::vector<std::string>(chosen.begin(), chosen.end()));
    return std::any_of(base.tensors().begin(), base.tensors().end(), [&](const auto& tensor) {
      const std::string module = tensor.first.substr(0, tensor.first.rfind('.'));
      return pattern.matches(module) && names.count(module) == 0;
    });
  };
  if (!select_others(suffixes)) return suffixes;
  if (!select_others(names)) return names;
  std::string expression;
  for (const std::string& name : names) {
    expression += expression.empty() ? "" : "|";
    for (const char c : name) {
      if (std::strchr(R"(\.^$|()[]{}*+?)", c) != nullptr) expression += '\\';
      expression += c;
    }
  }
  return expression;
}

/// An adapter of another method for modules of a base; each method derives its class from this.
class PeftExport {
 public:
  Index rank() const { return rank_; }
  std::size_t modules() const { return modules_.size(); }
  /// Of the tensor file.
  std::uint64_t bytes() const { return header().file_bytes(); }
  /// What is odd in the base and the adapter but can be read.
  const std::vector<std::string>& warnings() const { return warnings_; }

 protected:
  explicit PeftExport(const ExportOptions& options)
      : options_(options), base_(options.base), file_(options.adapter) {
    for (const auto* some : {&base_.warnings(), &file_.warnings()})
      warnings_.insert(warnings_.end(), some->begin(), some->end());
    if (options.strength) file_.set_strength(*options.strength);
    modules_ = file_.match(base_);
    const bool transposed = file_.config().fan_in_fan_out;
    for (std::string& warning : storage_warnings(base_, modules_, transposed))
      warnings_.push_back(std::move(warning));
    if (!options.output.empty()) place().check();
  }

  Adapter<double> adapter(const AdaptedModule& module) const {
    return file_.adapter<double>(module.name, module.out, module.in);
  }

  TensorInfo tensor(const AdaptedModule& module, const char* name, Index rows, Index cols) const {
    return {"base_model.model." + module.name + "." + name,
            options_.dtype,
            {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)},
            0,
            0};
  }

  /// The fields of adapter_config.json that every method has.
  nlohmann::ordered_json common_config(const char* peft_type) const {
    const auto or_null = [](const std::string& s) { return s.empty() ? Json() : Json(s); };
    return {{"peft_type", peft_type},
            {"base_model_name_or_path", or_null(file_.config().base_model_name_or_path)},
            {"task_type", or_null(file_.config().task_type)},
            {"inference_mode", true},
            {"r", rank_},
            {"bias", "none"},
            {"target_modules", peft_target_modules(modules_, base_)},
            {"modules_to_save", nullptr}};
  }

  /// fill(module) gives the values of the module's tensors, in their order; it is called from
  /// several threads. Throws io_error; parameter_error for values that the dtype cannot hold.
  template <class Fill>
  void write(Fill&& fill) const {
    const SafetensorsHeader packed = header();
    const std::string json = config_.dump(2) + "\n";
    StagedOutput output(place());
    output.fill(packed.file_bytes() + json.size(), [&] {
      write_tensors(output.staging() / AdapterFile::tensors_name, packed, fill);
      OutputFile config_file(output.staging() / AdapterFile::config_name);
      config_file.write(0, json.data(), json.size());
      config_file.flush();
    });
    output.commit();
  }

  ExportOptions options_;
  Checkpoint base_;
  AdapterFile file_;
  std::vector<AdaptedModule> modules_;
  std::vector<std::string> warnings_;
  // A derived class's constructor sets these.
  Index rank_ = 0;
  std::vector<std::vector<TensorInfo>> tensors_;  // of each module
  nlohmann::ordered_json config_;

 private:
  SafetensorsHeader header() const {
    std::vector<TensorInfo> all;
    for (const auto& module : tensors_) all.insert(all.end(), module.begin(), module.end());
    return SafetensorsHeader::pack(std::move(all), {});
  }

  OutputPlace place() const {
    std::vector<fs::path> inputs = base_.files();
    for (const fs::path& file : file_.files()) inputs.push_back(file);
    return {options_.output, OutputPlace::Kind::directory, options_.replace, std::move(inputs)};
  }

  /// As many as can hold a module's factors at once, in double and as written.
  int threads() const {
    std::uint64_t factors = 0, largest = 0;
    for (std::size_t m = 0; m < modules_.size(); ++m) {
      std::uint64_t bytes = 0;
      for (const TensorInfo& t : tensors_[m])
        bytes += t.shape[0] * t.shape[1] * (8 + std::uint64_t(bit_size(options_.dtype)) / 8);
      factors = (std::max)(factors, bytes);
      largest = (std::max)(largest, modules_[m].weight.info->bytes());
    }
    return threads_in_memory(options_.threads, factors, largest);
  }

  template <class Fill>
  void write_tensors(const fs::path& path, const SafetensorsHeader& packed, Fill&& fill) const {
    std::map<std::string, std::uint64_t> places;
    for (const TensorInfo& t : packed.tensors) places[t.name] = packed.data_begin + t.begin;
    OutputFile file(path);
    const std::string text = packed.text();
    file.write(0, text.data(), text.size());
    std::mutex mutex;
    Progress state{0, packed.file_bytes() - packed.data_begin};
    for_each_task(threads(), modules_.size(), [&](std::size_t m, int) {
      const std::vector<DenseMatrix> values = fill(modules_[m]);
      for (std::size_t t = 0; t < values.size(); ++t) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(values[t].size()) *
                                     static_cast<std::size_t>(bit_size(options_.dtype) / 8));
        if (!narrow(options_.dtype, values[t].data(), values[t].size(), bytes.data()))
          fail<parameter_error>("module '", modules_[m].name, "': values beyond the range of ",
                                to_string(options_.dtype),
                                ", or not finite in the base; choose a wider dtype");
        file.write(places.at(tensors_[m][t].name), bytes.data(), bytes.size());
        const std::lock_guard<std::mutex> lock(mutex);
        state.bytes_done += bytes.size();
        if (options_.progress) options_.progress(state);
      }
    });
    file.flush();
    if (options_.progress) options_.progress(state);
  }
};

}  // namespace detail

ETHER_END_NAMESPACE
