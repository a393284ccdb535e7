#pragma once

/// Adapters of other methods as PEFT stores them: what their exports have in common.

#include <ether/io/adapter_file.hpp>
#include <ether/io/parallel.hpp>
#include <ether/io/progress.hpp>
#include <ether/io/staged_output.hpp>

namespace ether {

struct ExportOptions {
  fs::path base;
  fs::path adapter;
  fs::path output;
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

/// An adapter directory as PEFT reads it.
struct PeftAdapter {
  nlohmann::ordered_json config;
  std::vector<std::vector<TensorInfo>> tensors;  // of each module

  SafetensorsHeader header() const {
    std::vector<TensorInfo> all;
    for (const auto& module : tensors) all.insert(all.end(), module.begin(), module.end());
    return SafetensorsHeader::pack(std::move(all), {});
  }

  /// fill(m) gives the values of module m's tensors, in their order; it is called from several
  /// threads. Throws io_error.
  template <class Fill>
  void write(const ExportOptions& options, const Checkpoint& base, const AdapterFile& adapter,
             Fill&& fill) const {
    const SafetensorsHeader packed = header();
    std::map<std::string, std::uint64_t> places;
    for (const TensorInfo& t : packed.tensors) places[t.name] = packed.data_begin + t.begin;
    std::vector<fs::path> inputs = base.files();
    for (const fs::path& file : adapter.files()) inputs.push_back(file);
    StagedOutput output(options.output, StagedOutput::Kind::directory, options.replace, inputs);
    output.require_space(packed.file_bytes());
    try {
      OutputFile file(output.staging() / AdapterFile::tensors_name);
      const std::string text = packed.text();
      file.write(0, text.data(), text.size());
      std::mutex mutex;
      Progress state{0, packed.file_bytes() - packed.data_begin};
      for_each_task(thread_count(options.threads), tensors.size(), [&](std::size_t m, int) {
        const std::vector<DenseMatrix> values = fill(m);
        for (std::size_t t = 0; t < values.size(); ++t) {
          std::vector<std::byte> bytes(static_cast<std::size_t>(values[t].size()) *
                                       static_cast<std::size_t>(bit_size(options.dtype) / 8));
          narrow(options.dtype, values[t].data(), values[t].size(), bytes.data());
          file.write(places.at(tensors[m][t].name), bytes.data(), bytes.size());
          const std::lock_guard<std::mutex> lock(mutex);
          state.bytes_done += bytes.size();
          if (options.progress) options.progress(state);
        }
      });
      file.flush();
      const std::string json = config.dump(2) + "\n";
      OutputFile config_file(output.staging() / AdapterFile::config_name);
      config_file.write(0, json.data(), json.size());
      config_file.flush();
    } catch (const write_error& e) {
      fail<io_error>(e.what(), "; the output needs ", packed.file_bytes(), " bytes");
    }
    output.commit();
  }
};

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

/// The fields of adapter_config.json that every method has.
inline nlohmann::ordered_json peft_config(const char* peft_type, Index rank,
                                          const AdapterFileConfig& config, Json target_modules) {
  const auto or_null = [](const std::string& s) { return s.empty() ? Json() : Json(s); };
  return {{"peft_type", peft_type},
          {"base_model_name_or_path", or_null(config.base_model_name_or_path)},
          {"task_type", or_null(config.task_type)},
          {"inference_mode", true},
          {"r", rank},
          {"bias", "none"},
          {"target_modules", std::move(target_modules)},
          {"modules_to_save", nullptr}};
}

inline std::uint64_t size_of(Index n) { return static_cast<std::uint64_t>(n); }

}  // namespace detail

}  // namespace ether
