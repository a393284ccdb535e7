#pragma once

/// Tensors in memory written to a safetensors file.

#include <ether/io/safetensors.hpp>
#include <ether/io/staged_output.hpp>

namespace ether {

/// A tensor to be written: what it is, and its bytes.
struct TensorData {
  TensorInfo info;  ///< offsets are not used
  const void* data;
};

namespace detail {

/// Writes a new file.
inline void write_tensors(const fs::path& path, const std::vector<TensorData>& tensors,
                          const Metadata& metadata) {
  std::vector<TensorInfo> infos;
  std::map<std::string, const void*> data;
  for (const TensorData& tensor : tensors) {
    infos.push_back(tensor.info);
    data[tensor.info.name] = tensor.data;
  }
  const auto header = SafetensorsHeader::pack(std::move(infos), metadata);
  const std::string text = header.text();
  OutputFile file(path);
  file.write(0, text.data(), text.size());
  for (const TensorInfo& tensor : header.tensors)
    file.write(header.data_begin + tensor.begin, data[tensor.name], tensor.bytes());
  file.flush();
}

}  // namespace detail

/// Writes a safetensors file whole or not at all. Throws io_error, also where it exists and
/// `replace` is not set; format_error for two tensors of one name.
inline void write_safetensors(const fs::path& path, const std::vector<TensorData>& tensors,
                              const Metadata& metadata = {}, bool replace = false) {
  StagedOutput output(path, StagedOutput::Kind::file, replace, {});
  detail::write_tensors(output.staging(), tensors, metadata);
  output.commit();
}

}  // namespace ether
