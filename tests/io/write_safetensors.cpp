// Headers that are written: order, packing, padding, metadata; and the file as a whole.

#include "io/support/build_safetensors.hpp"
#include "io/support/temporary_directory.hpp"
#include "support/check_message.hpp"

#include <ether/io/write_safetensors.hpp>

using ether::Dtype;
using ether::SafetensorsHeader;
using ether::TensorInfo;

namespace {

TensorInfo info(const std::string& name, Dtype dtype, std::vector<std::uint64_t> shape) {
  return {name, dtype, std::move(shape), 0, 0};
}

}  // namespace

TEST_CASE("tensors are written by dtype size, then name, packed") {
  const auto header = SafetensorsHeader::pack(
      {info("z", Dtype::u8, {3}), info("b", Dtype::bf16, {2, 2}), info("a", Dtype::f16, {1}),
       info("m", Dtype::f64, {2}), info("n", Dtype::f32, {0, 5}), info("l", Dtype::i32, {}),
       info("f", Dtype::f4, {4})},
      {});
  std::vector<std::string> names;
  std::uint64_t at = 0;
  for (const TensorInfo& tensor : header.tensors) {
    names.push_back(tensor.name);
    CHECK(tensor.begin == at);
    at = tensor.end;
  }
  CHECK(names == std::vector<std::string>{"m", "l", "n", "a", "b", "z", "f"});
  CHECK(at == 16 + 4 + 0 + 2 + 8 + 3 + 2);
  CHECK(header.file_bytes() == header.data_begin + at);
  CHECK(header.text().size() == header.data_begin);
}

TEST_CASE("a written header is padded with spaces to 8 bytes") {
  std::string name;
  for (int i = 0; i < 9; ++i, name += 'n') {
    const std::string text = SafetensorsHeader::pack({info(name, Dtype::u8, {1})}, {}).text();
    CHECK(text.size() % 8 == 0);
    CHECK(text.substr(0, 8) == test::little_endian(text.size() - 8));
    const std::size_t end = text.find_last_not_of(' ');
    CHECK(text[end] == '}');
    CHECK(text.size() - end <= 8);
    CHECK(SafetensorsHeader::parse(text + "x", "text").tensors.at(0).name == name);
  }
}

TEST_CASE("metadata is kept, and a format added where there is none") {
  const auto metadata = [](const ether::Metadata& given) {
    return SafetensorsHeader::parse(SafetensorsHeader::pack({}, given).text(), "text").metadata;
  };
  CHECK(metadata({}) == ether::Metadata{{"format", "pt"}});
  CHECK(metadata({{"format", "np"}}) == ether::Metadata{{"format", "np"}});
  CHECK(metadata({{"note", "\"\\\n\xc3\xa9"}}) ==
        ether::Metadata{{"format", "pt"}, {"note", "\"\\\n\xc3\xa9"}});
}

TEST_CASE("any name is written so that it reads the same") {
  for (const std::string& name :
       {std::string("\"quotes\""), std::string("back\\slash"), std::string("\xf0\x9f\x98\x80\n\t"),
        std::string("a\0b", 3), std::string(), std::string("\x7f"), std::string("a.b/c")}) {
    const std::string text = SafetensorsHeader::pack({info(name, Dtype::u8, {0})}, {}).text();
    CHECK(SafetensorsHeader::parse(text, "text").tensors.at(0).name == name);
  }
  const auto latin = SafetensorsHeader{{info("\xe9", Dtype::u8, {0})}, {}, 0};
  CHECK_REFUSED(latin.text(), ether::format_error, "UTF-8");
}

TEST_CASE("a header without tensors and metadata") {
  const SafetensorsHeader header = SafetensorsHeader::parse(test::file_of("{}"), "base");
  CHECK_NOTHROW(SafetensorsHeader::parse(header.text(), "again"));
}

TEST_CASE("what cannot be written") {
  CHECK_REFUSED(
      SafetensorsHeader::pack({info("w", Dtype::u8, {1}), info("w", Dtype::f32, {1})}, {}),
      ether::format_error, "two tensors", "'w'");
  CHECK_REFUSED(SafetensorsHeader::pack({info("w", Dtype::f32, {1ull << 32, 1ull << 32})}, {}),
                ether::format_error, "'w'", "(4294967296, 4294967296)");
  CHECK_REFUSED(SafetensorsHeader::pack({info("w", Dtype::f4, {3})}, {}), ether::format_error,
                "'w'", "(3)");
}

TEST_CASE("a file with its tensors' bytes") {
  const test::TemporaryDirectory dir;
  const std::vector<float> a{1, 2, 3};
  const std::vector<double> b{4};
  ether::write_safetensors(dir / "f",
                           {{info("a", Dtype::f32, {3, 1}), a.data()},
                            {info("none", Dtype::f32, {0}), nullptr},
                            {info("b", Dtype::f64, {}), b.data()}},
                           {{"note", "kept"}});
  const ether::SafetensorsFile file(dir / "f");
  CHECK(file.header().metadata == ether::Metadata{{"format", "pt"}, {"note", "kept"}});
  CHECK(file.tensors().size() == 3);
  CHECK(std::memcmp(file.data(*file.find("a")), a.data(), 12) == 0);
  CHECK(std::memcmp(file.data(*file.find("b")), b.data(), 8) == 0);
  CHECK_REFUSED(ether::write_safetensors(dir / "f", {}), ether::io_error, "f' exists");
  CHECK_REFUSED(ether::write_safetensors(dir / "absent/f", {}), ether::io_error, "does not exist");
}

TEST_CASE("a file that cannot be written to its end leaves none") {
  const test::TemporaryDirectory dir;
  const void* const not_memory = nullptr;  // the system refuses to read there, in the middle of it
  CHECK_REFUSED(ether::write_safetensors(dir / "f", {{info("w", Dtype::f32, {3}), not_memory}}),
                ether::io_error, "cannot write");
  CHECK(test::names_in(dir.path()).empty());
}
