#pragma once

/// A base model on disk: one .safetensors file, or a directory in the Hugging Face layout.

#include <ether/io/safetensors.hpp>

#include <memory>
#include <set>

ETHER_BEGIN_NAMESPACE

/// Reads model.safetensors, or the shards of model.safetensors.index.json. Tensors stay in their
/// files; nothing is copied.
class Checkpoint {
 public:
  struct Tensor {
    const SafetensorsFile* shard;
    const TensorInfo* info;
    const std::byte* data() const { return shard->data(*info); }
  };

  static constexpr const char* single_name = "model.safetensors";
  static constexpr const char* index_name = "model.safetensors.index.json";

  /// Throws io_error, format_error.
  explicit Checkpoint(const fs::path& path) : path_(path) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      add_shard(path);
      return;
    }
    const bool has_index = fs::exists(path / index_name, ignored);
    if (fs::exists(path / single_name, ignored)) {
      if (has_index)
        warnings_.push_back(path.string() + " has both " + single_name + " and " + index_name +
                            "; the first is read");
      add_shard(path / single_name);
    } else if (has_index) {
      read_index();
    } else {
      detail::fail<io_error>(detail::quoted(path), " has neither ", single_name, " nor ",
                             index_name);
    }
  }

  const fs::path& path() const { return path_; }
  bool is_file() const { return shards_.size() == 1 && shards_[0]->path() == path_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& shards() const { return shards_; }
  /// What must not be overwritten: the path given, and each shard, perhaps links to elsewhere.
  std::vector<fs::path> files() const {
    std::vector<fs::path> files{path_};
    for (const auto& shard : shards_) files.push_back(shard->path());
    return files;
  }
  /// Every tensor by name.
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const Tensor* find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  /// The index file as it was read; null where there is none.
  const detail::Json& index() const { return index_; }
  /// What is odd but can be read.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// Bytes of all tensors.
  std::uint64_t total_size() const {
    std::uint64_t size = 0;
    for (const auto& [name, tensor] : tensors_) size += tensor.info->bytes();
    return size;
  }

 private:
  void add_shard(const fs::path& path) {
    shards_.push_back(std::make_unique<SafetensorsFile>(path));
    const SafetensorsFile& shard = *shards_.back();
    for (const TensorInfo& info : shard.tensors()) {
      const auto [at, added] = tensors_.emplace(info.name, Tensor{&shard, &info});
      if (!added)
        detail::fail<format_error>("tensor '", info.name, "' is in two shards, ",
                                   at->second.shard->path().filename().string(), " and ",
                                   path.filename().string());
    }
  }

  void read_index() {
    using detail::fail;
    const MappedFile file(path_ / index_name);
    const std::string what = file.path().string();
    if (file.size() > detail::max_header_bytes)
      fail<format_error>(what, " has ", file.size(), " bytes; at most ", detail::max_header_bytes,
                         " are allowed");
    index_ = detail::Json::object();
    detail::parse_json_object(file.text(), what, [&](const std::string& key, detail::Json value) {
      index_[key] = std::move(value);
    });
    if (!index_.contains("weight_map") || !index_["weight_map"].is_object())
      fail<format_error>(what, " has no weight_map that is a JSON object");

    std::set<std::string> names;
    for (const auto& [tensor, shard] : index_["weight_map"].items()) {
      if (!shard.is_string() || !is_plain_name(shard.get<std::string>()))
        fail<format_error>(what, ": weight_map places '", tensor, "' in ",
                           shard.dump(-1, ' ', true), ", which is not a plain file name");
      names.insert(shard.get<std::string>());
    }
    for (const std::string& name : names) {
      if (std::error_code ignored; !fs::exists(path_ / name, ignored))
        fail<format_error>(what, ": weight_map names the shard '", name, "', which is missing");
      add_shard(path_ / name);
    }
    for (const auto& [tensor, shard] : index_["weight_map"].items()) {
      const Tensor* const found = find(tensor);
      if (found == nullptr || found->shard->path().filename() != shard.get<std::string>())
        fail<format_error>(what, ": weight_map places '", tensor, "' in ", shard.get<std::string>(),
                           ", which has no such tensor");
    }
    for (const auto& [name, tensor] : tensors_)
      if (!index_["weight_map"].contains(name))
        fail<format_error>(what, ": weight_map lacks '", name, "', which ",
                           tensor.shard->path().filename().string(), " has");
    check_total_size();
  }

  void check_total_size() {
    const detail::Json metadata = index_.value("metadata", detail::Json::object());
    if (!metadata.is_object())
      detail::fail<format_error>((path_ / index_name).string(), ": metadata is not a JSON object");
    const auto stated = metadata.find("total_size");
    if (stated == metadata.end() || *stated == total_size()) return;
    warnings_.push_back((path_ / index_name).string() + " says total_size " +
                        stated->dump(-1, ' ', true) + ", but the tensors have " +
                        std::to_string(total_size()) + " bytes");
  }

  static bool is_plain_name(const std::string& name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find_first_of(std::string("/\\\0", 3)) == name.npos;
  }

  fs::path path_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::map<std::string, Tensor> tensors_;
  detail::Json index_;
  std::vector<std::string> warnings_;
};

ETHER_END_NAMESPACE
