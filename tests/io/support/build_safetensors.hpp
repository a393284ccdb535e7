#pragma once

/// Safetensors files byte by byte, legal and hostile; shares no code with the library.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace test {

inline std::string little_endian(std::uint64_t number) {
  std::string bytes(8, '\0');
  for (char& byte : bytes) byte = static_cast<char>(number & 0xff), number >>= 8;
  return bytes;
}

/// A file with this header and so many bytes of data: 0, 1, 2, ...
inline std::string file_of(const std::string& header, std::size_t data_bytes = 0) {
  std::string file = little_endian(header.size()) + header;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

/// "name":{"dtype":...,"shape":...,"data_offsets":...}; the values are JSON, but for the dtype.
inline std::string entry(const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

/// The bytes of values in memory.
template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (!values.empty())
    std::memcpy(bytes.data(), static_cast<const void*>(values.data()), bytes.size());
  return bytes;
}

/// A legal file, tensor by tensor: SafetensorsBuilder().add("w", "F32", {2, 3}, bytes).file()
class SafetensorsBuilder {
 public:
  SafetensorsBuilder& add(const std::string& name, const std::string& dtype,
                          const std::vector<std::uint64_t>& shape, const std::string& bytes) {
    std::string sizes;
    for (const std::uint64_t size : shape)
      sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    const std::string begin = std::to_string(data_.size());
    data_ += bytes;
    entries_ += (entries_.empty() ? "" : ",") +
                entry(name, dtype, "[" + sizes + "]",
                      "[" + begin + "," + std::to_string(data_.size()) + "]");
    return *this;
  }
  /// A matrix of F32, all 1.
  SafetensorsBuilder& ones(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    return add(name, "F32", {rows, cols}, bytes_of(std::vector<float>(rows * cols, 1.0f)));
  }
  std::string file() const {
    const std::string header = "{" + entries_ + "}";
    return little_endian(header.size()) + header + data_;
  }

 private:
  std::string entries_;
  std::string data_;
};

}  // namespace test
