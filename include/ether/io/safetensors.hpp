#pragma once

/// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes.
/// https://github.com/huggingface/safetensors. Read as strictly as its reference implementation,
/// and a little more: what is wrong in a file gets a sentence, before any tensor is touched.

#include <ether/io/dtype.hpp>
#include <ether/io/file.hpp>
#include <ether/io/json.hpp>

#include <limits>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// One tensor as a header describes it.
struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< bytes from the end of the header, [begin, end)
  std::uint64_t end = 0;

  std::uint64_t bytes() const { return end - begin; }
};

/// "(4096, 11008)"
inline std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

using Metadata = std::map<std::string, std::string>;

namespace detail {

inline constexpr std::uint64_t max_header_bytes = 100'000'000;

/// Bytes of a tensor; nothing where the number overflows 64 bits or ends within a byte.
inline std::optional<std::uint64_t> tensor_bytes(Dtype dtype,
                                                 const std::vector<std::uint64_t>& shape) {
  std::uint64_t bits = 1;
  const auto multiply = [&](std::uint64_t factor) {
    if (factor != 0 && bits > (std::numeric_limits<std::uint64_t>::max)() / factor) return false;
    bits *= factor;
    return true;
  };
  for (const std::uint64_t size : shape)
    if (!multiply(size)) return std::nullopt;
  if (!multiply(static_cast<std::uint64_t>(bit_size(dtype))) || bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

/// A list of whole numbers, 0 or more.
inline std::vector<std::uint64_t> parse_numbers(const Json& list, const std::string& what) {
  if (!list.is_array()) fail<format_error>(what, " is not a list of numbers");
  std::vector<std::uint64_t> numbers;
  for (const Json& number : list) {
    if (!number.is_number_unsigned())  // a negative, fractional or overlarge one has another type
      fail<format_error>(what, " holds ", number.dump(-1, ' ', true),
                         "; a whole number from 0 to 2^64 - 1 is needed");
    numbers.push_back(number.get<std::uint64_t>());
  }
  return numbers;
}

inline TensorInfo parse_tensor(const std::string& name, const Json& entry,
                               const std::string& file) {
  const std::string what = file + ": tensor '" + name + "'";
  if (!entry.is_object()) fail<format_error>(what, " is not described by a JSON object");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(key)) fail<format_error>(what, " has no ", key);
  if (!entry["dtype"].is_string()) fail<format_error>(what, " has a dtype that is not a string");
  const auto& dtype_name = entry["dtype"].get_ref<const std::string&>();
  const auto dtype = parse_dtype(dtype_name);
  if (!dtype) fail<format_error>(what, " has the unknown dtype '", dtype_name, "'");

  TensorInfo tensor{name, *dtype, parse_numbers(entry["shape"], what + ": shape"), 0, 0};
  const auto offsets = parse_numbers(entry["data_offsets"], what + ": data_offsets");
  if (offsets.size() != 2)
    fail<format_error>(what, " has ", offsets.size(), " data_offsets; it needs 2, begin and end");
  tensor.begin = offsets[0], tensor.end = offsets[1];
  if (tensor.begin > tensor.end)
    fail<format_error>(what, " has data_offsets that run backwards, from ", tensor.begin, " to ",
                       tensor.end);
  const auto bytes = tensor_bytes(*dtype, tensor.shape);
  if (!bytes)
    fail<format_error>(what, ": shape ", shape_text(tensor.shape), " of ", dtype_name,
                       " is no whole number of bytes below 2^61");
  if (*bytes != tensor.bytes())
    fail<format_error>(what, ": shape ", shape_text(tensor.shape), " of ", dtype_name, " takes ",
                       *bytes, " bytes, but its data_offsets span ", tensor.bytes());
  return tensor;
}

inline Metadata parse_metadata(const Json& entry, const std::string& file) {
  if (!entry.is_object()) fail<format_error>(file, ": __metadata__ is not a JSON object");
  Metadata metadata;
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) fail<format_error>(file, ": __metadata__ '", key, "' is not a string");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace detail

/// A header: what is where in a file.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< by place in the file
  Metadata metadata;
  std::uint64_t data_begin = 0;  ///< of the tensors, in bytes from the start of the file

  /// Reads and checks the header of a file that is `file` as a whole. `name` is for messages.
  /// Throws format_error.
  static SafetensorsHeader parse(std::string_view file, const std::string& name) {
    using detail::fail;
    constexpr std::uint64_t length_bytes = 8;
    if (file.size() < length_bytes)
      fail<format_error>(name, " has ", file.size(),
                         " bytes; a safetensors file begins with 8 bytes of header length");
    std::uint64_t length = 0;
    for (std::size_t i = length_bytes; i-- > 0;)  // little-endian
      length = length << 8 | static_cast<unsigned char>(file[i]);
    if (length > detail::max_header_bytes)
      fail<format_error>(name, " says its header has ", length, " bytes; at most ",
                         detail::max_header_bytes, " are allowed");
    if (length > file.size() - length_bytes)
      fail<format_error>(name, " says its header has ", length, " bytes, but only ",
                         file.size() - length_bytes, " follow");

    SafetensorsHeader header;
    header.data_begin = length_bytes + length;
    detail::parse_json_object(file.substr(length_bytes, length), name + ": the header",
                              [&](const std::string& key, const detail::Json& entry) {
                                if (key == "__metadata__")
                                  header.metadata = detail::parse_metadata(entry, name);
                                else
                                  header.tensors.push_back(detail::parse_tensor(key, entry, name));
                              });
    header.check_coverage(file.size() - header.data_begin, name);
    return header;
  }

  /// The header of a file with these tensors, which get their places: sorted by dtype size, largest
  /// first, then name, and packed. `metadata` gets "format": "pt" where it has no format.
  /// Throws format_error for two tensors of one name.
  static SafetensorsHeader pack(std::vector<TensorInfo> tensors, Metadata metadata) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      const int a_bits = bit_size(a.dtype), b_bits = bit_size(b.dtype);
      return a_bits != b_bits ? a_bits > b_bits : a.name < b.name;
    });
    metadata.emplace("format", "pt");
    std::uint64_t at = 0;
    for (TensorInfo& tensor : tensors) {
      const auto bytes = detail::tensor_bytes(tensor.dtype, tensor.shape);
      if (!bytes)
        detail::fail<format_error>("tensor '", tensor.name, "': shape ", shape_text(tensor.shape),
                                   " is too large");
      tensor.begin = at, tensor.end = at += *bytes;
    }
    SafetensorsHeader header{std::move(tensors), std::move(metadata), 0};
    header.data_begin = header.text().size();
    return header;
  }

  /// The file up to the first tensor: length, JSON, spaces up to a multiple of 8 bytes.
  std::string text() const {
    std::set<std::string> names;
    std::string header = "{";
    const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
      if (!names.insert(name).second)
        detail::fail<format_error>("two tensors are called '", name, "'");
      header += (header.size() == 1 ? "" : ",") +
                detail::json_text(detail::Json(name), "the header") + ":" +
                detail::json_text(value, "the header");
    };
    if (!metadata.empty()) add("__metadata__", metadata);
    for (const TensorInfo& t : tensors)
      add(t.name,
          {{"dtype", to_string(t.dtype)}, {"shape", t.shape}, {"data_offsets", {t.begin, t.end}}});
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
    return length + header;
  }

  std::uint64_t file_bytes() const {
    return data_begin + (tensors.empty() ? 0 : tensors.back().end);
  }

 private:
  /// Sorts the tensors; throws format_error unless they fill `bytes` without holes or overlaps.
  void check_coverage(std::uint64_t bytes, const std::string& name) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::uint64_t at = 0;
    for (const TensorInfo& tensor : tensors) {
      if (tensor.begin != at)
        detail::fail<format_error>(name, ": tensor '", tensor.name, "' begins at byte ",
                                   tensor.begin, tensor.begin < at ? ", within" : ", behind",
                                   " the tensors before it, which end at byte ", at,
                                   tensor.begin < at ? "" : "; holes are not allowed");
      at = tensor.end;
    }
    if (at != bytes)
      detail::fail<format_error>(name, ": the tensors end at byte ", at, " behind the header, but ",
                                 bytes, " bytes follow it");
  }
};

/// A safetensors file, memory-mapped; tensors are views of the mapping.
class SafetensorsFile {
 public:
  /// Throws io_error, format_error.
  explicit SafetensorsFile(fs::path path)
      : file_(std::move(path)),
        header_(SafetensorsHeader::parse(file_.text(), file_.path().string())) {
    for (const TensorInfo& tensor : header_.tensors) by_name_.emplace(tensor.name, &tensor);
  }

  const fs::path& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  const SafetensorsHeader& header() const { return header_; }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }

  /// Null where there is no such tensor.
  const TensorInfo* find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }
  /// The tensor's first byte, of any alignment.
  const std::byte* data(const TensorInfo& tensor) const {
    return file_.bytes() + header_.data_begin + tensor.begin;
  }

  /// A tensor of rank 2, or of rank 1 as one row, without a copy: for an EtherLinear, as long as
  /// this file lives. T: float, double, Eigen::half, Eigen::bfloat16. Throws format_error where
  /// there is no such tensor, or its dtype or rank is another, or its bytes are not aligned.
  template <class T>
  MatrixView<const T> matrix(const std::string& name) const {
    using detail::fail;
    const std::string where = path().string();
    const TensorInfo* const tensor = find(name);
    if (tensor == nullptr) fail<format_error>(where, " has no tensor '", name, "'");
    if (tensor->dtype != dtype_of<T>)
      fail<format_error>(where, ": tensor '", name, "' has dtype ", to_string(tensor->dtype),
                         ", not ", to_string(dtype_of<T>));
    const auto& shape = tensor->shape;
    if (shape.size() != 1 && shape.size() != 2)
      fail<format_error>(where, ": tensor '", name, "' has shape ", shape_text(shape),
                         ", not that of a matrix");
    for (const std::uint64_t size : shape)
      if (size > static_cast<std::uint64_t>((std::numeric_limits<Index>::max)()))
        fail<format_error>(where, ": tensor '", name, "' has shape ", shape_text(shape),
                           ", beyond 2^63 - 1");
    if (reinterpret_cast<std::uintptr_t>(data(*tensor)) % alignof(T) != 0)
      fail<format_error>(where, ": tensor '", name, "' begins at byte ",
                         header_.data_begin + tensor->begin, ", not a multiple of ", alignof(T),
                         "; copy its bytes to aligned memory");
    return {reinterpret_cast<const T*>(data(*tensor)),
            shape.size() == 2 ? static_cast<Index>(shape[0]) : 1, static_cast<Index>(shape.back())};
  }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, const TensorInfo*> by_name_;
};

ETHER_END_NAMESPACE
