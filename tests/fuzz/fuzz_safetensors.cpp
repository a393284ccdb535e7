// Any bytes as a safetensors file: refused with a format_error, or a header whose tensors fill the
// file and that reads the same after it was written.

#include "require.hpp"

#include <ether/io/safetensors.hpp>

#include <tuple>

using ether::SafetensorsHeader;
using ether::TensorInfo;
using fuzz::require;

namespace {

/// Bits of a dtype by its name, F8_E4M3: the first number; not from the library's table.
unsigned bits_of(const std::string& name) {
  if (name == "BOOL") return 8;
  return static_cast<unsigned>(std::atoi(name.c_str() + name.find_first_of("0123456789")));
}

void check_tensors(const SafetensorsHeader& header, std::size_t file_size) {
  unsigned __int128 at = 0;
  for (const TensorInfo& tensor : header.tensors) {
    require(tensor.begin == at && tensor.begin <= tensor.end, "the tensors are packed");
    unsigned __int128 bits = bits_of(to_string(tensor.dtype));
    for (const std::uint64_t size : tensor.shape) bits *= size;  // below 2^64, or refused
    require(bits == static_cast<unsigned __int128>(tensor.bytes()) * 8, "shape and bytes agree");
    at = tensor.end;
  }
  require(header.data_begin + at == file_size, "the tensors end with the file");
  require(header.file_bytes() == file_size, "file_bytes is the size of the file");
}

/// Name to what a copy of the tensor must share with it.
auto contents(const SafetensorsHeader& header) {
  std::map<std::string, std::tuple<ether::Dtype, std::vector<std::uint64_t>, std::uint64_t>> all;
  for (const TensorInfo& t : header.tensors) all[t.name] = {t.dtype, t.shape, t.bytes()};
  return all;
}

void check_round_trip(const SafetensorsHeader& header) {
  const SafetensorsHeader packed = SafetensorsHeader::pack(header.tensors, header.metadata);
  std::string file = packed.text();
  require(file.size() % 8 == 0, "a written header has a multiple of 8 bytes");
  require(packed.data_begin == file.size(), "data_begin is the size of the text");
  file.resize(packed.file_bytes());
  const SafetensorsHeader again = SafetensorsHeader::parse(file, "again");
  check_tensors(again, file.size());
  require(contents(again) == contents(header), "the tensors are the same after a round trip");
  require(again.tensors.size() == header.tensors.size(), "no tensor is lost in a round trip");
  ether::Metadata metadata = header.metadata;
  metadata.emplace("format", "pt");
  require(again.metadata == metadata, "the metadata is the same after a round trip");
  require(SafetensorsHeader::pack(again.tensors, again.metadata).text() == packed.text(),
          "a second round trip changes nothing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  SafetensorsHeader header;
  try {
    header = SafetensorsHeader::parse(file, "file");
  } catch (const ether::format_error&) {
    return 0;
  }
  check_tensors(header, size);
  check_round_trip(header);
  return 0;
}
