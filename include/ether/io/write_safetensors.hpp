#pragma once

/// Tensors in memory written to a safetensors file.

#include <ether/io/progress.hpp>
#include <ether/io/safetensors.hpp>
#include <ether/io/staged_output.hpp>

ETHER_BEGIN_NAMESPACE

/// A tensor to be written: what it is, and its bytes.
struct TensorData {
  TensorInfo info;  ///< offsets are not used
  const void* data;
};

namespace detail {

/// Tensors with their places in a new file.
class PackedTensors {
 public:
  /// Throws format_error for two tensors of one name.
  PackedTensors(const std::vector<TensorData>& tensors, const Metadata& metadata) {
    std::vector<TensorInfo> infos;
    for (const TensorData& tensor : tensors) {
      infos.push_back(tensor.info);
      data_[tensor.info.name] = tensor.data;
    }
    header_ = SafetensorsHeader::pack(std::move(infos), metadata);
  }

  /// Of the file.
  std::uint64_t bytes() const { return header_.file_bytes(); }

  /// Throws io_error, and what `progress` throws.
  void write(const fs::path& path, const ProgressCallback& progress = {}) const {
    const std::string text = header_.text();
    OutputFile file(path);
    file.write(0, text.data(), text.size());
    Progress state{0, bytes() - header_.data_begin};
    for (const TensorInfo& tensor : header_.tensors) {
      file.write(header_.data_begin + tensor.begin, data_.at(tensor.name), tensor.bytes());
      state.bytes_done += tensor.bytes();
      if (progress) progress(state);
    }
    file.flush();
    if (progress) progress(state);
  }

 private:
  SafetensorsHeader header_;
  std::map<std::string, const void*> data_;
};

}  // namespace detail

/// Writes a safetensors file whole or not at all. Throws io_error, also where it exists and
/// `replace` is not set; format_error for two tensors of one name.
inline void write_safetensors(const fs::path& path, const std::vector<TensorData>& tensors,
                              const Metadata& metadata = {}, bool replace = false) {
  const detail::PackedTensors packed(tensors, metadata);
  StagedOutput output(path, StagedOutput::Kind::file, replace, {});
  output.fill(packed.bytes(), [&] { packed.write(output.staging()); });
  output.commit();
}

ETHER_END_NAMESPACE
