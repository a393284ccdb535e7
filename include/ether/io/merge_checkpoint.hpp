#pragma once

/// Adapters merged into a checkpoint on disk, and a merge undone.

#include <ether/io/adapter_file.hpp>
#include <ether/io/merge_options.hpp>
#include <ether/io/rewrite_checkpoint.hpp>
#include <ether/io/staged_output.hpp>
#include <ether/io/verify_merge.hpp>

ETHER_BEGIN_NAMESPACE

namespace detail {

enum class MergeDirection { merge, unmerge };

/// One run of merge or unmerge.
class CheckpointMerge {
 public:
  CheckpointMerge(const MergeOptions& options, MergeDirection direction)
      : options_(options), direction_(direction), base_(options.base) {
    if (options.adapters.empty()) fail<parameter_error>("no adapter is given");
    append(report_.warnings, base_.warnings());
    for (const fs::path& path : options.adapters) {
      adapters_.push_back(std::make_unique<AdapterFile>(path));
      AdapterFile& adapter = *adapters_.back();
      if (options.strength) adapter.set_strength(*options.strength);
      append(report_.warnings, adapter.warnings());
      const auto modules = adapter.match(base_);
      append(report_.warnings, storage_warnings(base_, modules, adapter.config().fan_in_fan_out));
      for (const AdaptedModule& module : modules) add(module, adapter);
    }
    if (!base_.is_file() && options_.output.extension() == ".safetensors")
      fail<parameter_error>("the output is '", options_.output.string(),
                            "', but the base is a directory, so the output is one too; give a "
                            "name without .safetensors");
    check_tied_head();
  }

  MergeReport run() {
    TransformedWeights weights;
    for (const auto& [name, merge] : merges_) {
      const Dtype own = merge.weight.info->dtype;
      weights[name] = {
          options_.dtype.value_or(own), [this, &m = merge] { return transform(m); }, {}};
    }
    CheckpointRewrite rewrite(base_, weights);
    append(report_.warnings, rewrite.warnings());
    report_.bytes = rewrite.bytes();
    if (options_.dry_run) {
      if (!options_.output.empty()) place().check(rewrite.bytes());
      rewrite.run({}, false, options_.threads, false, options_.progress);
      finish_report(weights);
      return report_;
    }
    StagedOutput output(place());
    output.fill(rewrite.bytes(), [&] {
      rewrite.run(output.staging(), to_file(), options_.threads, options_.flush, options_.progress);
    });
    finish_report(weights);
    if (options_.verify && direction_ == MergeDirection::merge)
      verify(Checkpoint(output.staging()));
    output.commit();
    return report_;
  }

 private:
  /// A weight and the adapters that change it, in order.
  struct Merge {
    Checkpoint::Tensor weight;
    std::vector<std::pair<AdaptedModule, const AdapterFile*>> adapters;
  };

  bool to_file() const { return base_.is_file() && options_.output.extension() == ".safetensors"; }

  OutputPlace place() const {
    std::vector<fs::path> inputs = base_.files();
    for (const auto& adapter : adapters_) {
      const auto files = adapter->files();
      inputs.insert(inputs.end(), files.begin(), files.end());
    }
    return {options_.output, to_file() ? OutputPlace::Kind::file : OutputPlace::Kind::directory,
            options_.replace, std::move(inputs)};
  }

  static void append(std::vector<std::string>& to, const std::vector<std::string>& from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  void add(const AdaptedModule& module, const AdapterFile& adapter) {
    Merge& merge = merges_[module.weight.info->name];
    if (!merge.adapters.empty() &&
        merge.adapters[0].second->config().fan_in_fan_out != adapter.config().fan_in_fan_out)
      fail<format_error>("module '", module.name, "': ", merge.adapters[0].second->path().string(),
                         " and ", adapter.path().string(), " differ in fan_in_fan_out");
    merge.weight = module.weight;
    merge.adapters.push_back({module, &adapter});
  }

  std::unique_ptr<WeightTransform> transform(const Merge& merge) const {
    const auto& shape = merge.weight.info->shape;
    const std::string& name = merge.adapters[0].first.name;
    auto result = std::make_unique<WeightTransform>(
        static_cast<Index>(shape[0]), static_cast<Index>(shape[1]),
        merge.adapters[0].second->config().fan_in_fan_out);
    try {
      for (const auto& [module, file] : merge.adapters) {
        const auto adapter = file->adapter<double>(module.name, module.out, module.in);
        if (direction_ == MergeDirection::merge)
          result->apply(adapter);
        else
          result->apply_inverse(adapter, options_.max_condition);
      }
    } catch (const ill_conditioned& e) {
      fail<ill_conditioned>("module '", name, "': ", e.what());
    } catch (const parameter_error& e) {
      fail<parameter_error>("module '", name, "': ", e.what());
    }
    return result;
  }

  /// Where config.json ties the output head to the embeddings, a head merged here would be
  /// ignored by whoever loads the model.
  void check_tied_head() const {
    const fs::path path = base_.path() / "config.json";
    std::error_code ignored;
    if (base_.is_file() || !fs::exists(path, ignored)) return;
    for (const auto& [name, merge] : merges_) {
      const std::string& module = merge.adapters[0].first.name;
      if (module.substr(module.rfind('.') + 1) != "lm_head") continue;
      const MappedFile file(path);
      parse_json_object(file.text(), path.string(), [&](const std::string& key, const Json& value) {
        if (key == "tie_word_embeddings" && value == true)
          fail<format_error>("module '", module, "' is adapted, but ", path.string(),
                             " ties it to the embeddings (tie_word_embeddings), so the merged "
                             "weight would be ignored; set that to false first");
      });
    }
  }

  void finish_report(const TransformedWeights& weights) {
    for (const auto& [name, merge] : merges_) {
      const auto& [dtype, unused, change] = weights.at(name);
      const AdaptedModule& module = merge.adapters.back().first;
      ModuleReport report;
      report.name = module.name, report.out = module.out, report.in = module.in;
      report.dtype = dtype, report.overflowed = change.overflowed;
      for (const auto& [of, file] : merge.adapters) {
        report.adapters.push_back(file->path().string());
        const auto adapter = file->adapter<double>(of.name, of.out, of.in);
        report.input_distance = distance_to_identity(adapter, Side::input);
        report.output_distance = distance_to_identity(adapter, Side::output);
      }
      report.relative_change = Norm::ratio(change.change, change.weight);
      check(report, change);
      report_.modules.push_back(std::move(report));
    }
  }

  void check(const ModuleReport& module, const WeightChange& change) {
    if (change.nonfinite > 0) {
      const std::string sentence = "module '" + module.name +
                                   "': " + std::to_string(change.nonfinite) + " of " +
                                   std::to_string(module.out * module.in) +
                                   " elements are infinite or not a number before rounding, as the "
                                   "base's weight has such elements, or the strength is too large";
      if (!options_.allow_overflow) refuse<format_error>(Refusal::Option::allow_overflow, sentence);
      report_.warnings.push_back(sentence);
    }
    if (change.overflowed == 0) return;
    const std::string sentence = "module '" + module.name +
                                 "': " + std::to_string(change.overflowed) + " of " +
                                 std::to_string(module.out * module.in) +
                                 " elements are beyond the range of " + to_string(module.dtype);
    if (!options_.allow_overflow)
      refuse<parameter_error>(Refusal::Option::allow_overflow, sentence, "; choose a wider dtype");
    report_.warnings.push_back(sentence + (options_.dry_run ? " and become infinities"
                                                            : " and were written as infinities"));
  }

  void verify(const Checkpoint& merged) {
    Progress state{0, merged.total_size(), Progress::Stage::verify};
    for (const auto& [name, tensor] : base_.tensors()) {
      const Checkpoint::Tensor* const written = merged.find(name);
      const auto found = merges_.find(name);
      if (written == nullptr) fail<io_error>("verification: '", name, "' is missing");
      if (found == merges_.end())
        verify_copy(tensor, *written);
      else
        verify(found->second, *written);
      state.bytes_done += written->info->bytes();
      if (options_.progress) options_.progress(state);
    }
  }

  static void verify_copy(const Checkpoint::Tensor& tensor, const Checkpoint::Tensor& written) {
    if (written.info->bytes() != tensor.info->bytes() ||
        std::memcmp(written.data(), tensor.data(), tensor.info->bytes()) != 0)
      fail<io_error>("verification: '", tensor.info->name, "' is not what the base has");
  }

  void verify(const Merge& merge, const Checkpoint::Tensor& written) {
    std::vector<Adapter<double>> adapters;
    for (const auto& [module, file] : merge.adapters)
      adapters.push_back(file->adapter<double>(module.name, module.out, module.in));
    report_.verified += verify_merge(merge.weight, written, adapters,
                                     merge.adapters[0].second->config().fan_in_fan_out);
  }

  const MergeOptions& options_;
  MergeDirection direction_;
  Checkpoint base_;
  std::vector<std::unique_ptr<AdapterFile>> adapters_;
  std::map<std::string, Merge> merges_;  // by the tensor's name
  MergeReport report_;
};

}  // namespace detail

/// Writes the checkpoint `base` with W' = H_out W H_in in place of every adapted W: computed in
/// double, rounded once. Every other tensor and file is as it was. The output appears whole or not
/// at all. Throws io_error, format_error, parameter_error, shape_error before or after computing,
/// and what options.progress throws, up to the moment the output gets its name; the base and the
/// adapters are only read.
inline MergeReport merge_checkpoint(const MergeOptions& options) {
  return detail::CheckpointMerge(options, detail::MergeDirection::merge).run();
}

/// The inverse: W = H_out^-1 W' H_in^-1. Throws ill_conditioned, naming the module and the block,
/// where a block's condition number exceeds options.max_condition. In a 16-bit checkpoint this does
/// not restore every bit.
inline MergeReport unmerge_checkpoint(const MergeOptions& options) {
  return detail::CheckpointMerge(options, detail::MergeDirection::unmerge).run();
}

ETHER_END_NAMESPACE
