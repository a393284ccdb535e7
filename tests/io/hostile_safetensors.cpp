// What is wrong with a safetensors file before its tensors: the length, the JSON, the metadata.
// Beside every file that is refused stands the nearest one that is read.

#include "io/support/build_safetensors.hpp"
#include "support/check_message.hpp"

#include <ether/io/safetensors.hpp>

using ether::SafetensorsHeader;
using test::entry;
using test::file_of;
using test::little_endian;

#define REFUSED(file, ...) \
  CHECK_REFUSED(SafetensorsHeader::parse(file, "base"), ether::format_error, "base", __VA_ARGS__)
#define READ(file) CHECK_NOTHROW(SafetensorsHeader::parse(file, "base"))

namespace {

const std::string byte = entry("w", "U8", "[1]", "[0,1]");

/// A file of one tensor, `w`, of one byte, with one more member in its entry.
std::string with_member(const std::string& member) {
  return file_of(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],)" + member + "}}", 1);
}

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

/// A file with so many brackets around `innermost`; the first two are the header's and the entry's.
std::string nested(int depth, const char* open, const char* innermost, const char* close) {
  return with_member("\"x\":" + repeat(open, depth - 2) + innermost + repeat(close, depth - 2));
}

}  // namespace

TEST_CASE("a file too short for the header's length") {
  for (std::size_t size = 0; size < 8; ++size)
    REFUSED(std::string(size, '\0'), "has " + std::to_string(size) + " bytes", "8 bytes");
  REFUSED(little_endian(0), "not a JSON object");
  READ(little_endian(2) + "{}");
}

TEST_CASE("a header longer than the file") {
  REFUSED(little_endian(3) + "{}", "3 bytes", "only 2 follow");
  REFUSED(little_endian(1), "1 bytes", "only 0 follow");
  REFUSED(little_endian(100'000'000) + "{}", "100000000 bytes", "only 2 follow");
  READ(little_endian(2) + "{}");
}

TEST_CASE("a header longer than the format allows") {
  REFUSED(little_endian(100'000'001) + "{}", "100000001 bytes", "at most 100000000");
  REFUSED(little_endian(~std::uint64_t{0}), "18446744073709551615 bytes", "at most 100000000");
  REFUSED(little_endian(std::uint64_t{1} << 63), "9223372036854775808", "at most 100000000");
  const std::string spaces(100'000'001, ' ');
  REFUSED(file_of("{}" + spaces.substr(3) + " "), "100000001 bytes", "at most 100000000");
  READ(file_of("{}" + spaces.substr(3)));
}

TEST_CASE("a header of any length, also not a multiple of 8") {
  for (std::size_t size = 0; size < 9; ++size) {
    const std::string file = file_of("{" + byte + "}" + std::string(size, ' '), 1);
    const SafetensorsHeader header = SafetensorsHeader::parse(file, "base");
    CHECK(header.data_begin == file.size() - 1);
    CHECK(header.file_bytes() == file.size());
  }
}

TEST_CASE("a header that is not UTF-8") {
  const auto named = [](const std::string& name) {
    return file_of("{" + entry(name, "U8", "[1]", "[0,1]") + "}", 1);
  };
  for (const char* name : {"\xff", "\x80", "\xc0\xaf", "\xc3", "\xe2\x82", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "a\xc3(", "\xe9"})
    REFUSED(named(name), "the header is not JSON", "UTF-8");
  REFUSED(file_of("{\xff}"), "the header is not JSON");
  for (const char* name : {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf", ""})
    READ(named(name));
  for (const char* name : {R"(\ud800)", R"(\udc00)", R"(\ud800\u0041)", R"(\u12g4)", R"(\x41)"})
    REFUSED(named(name), "the header is not JSON");
  for (const char* name : {R"(\ud83d\ude00)", R"(\u00e9\n)", R"(\u0000)"}) READ(named(name));
  for (const char* name : {"a\nb", "a\tb", "a\x01"})
    REFUSED(named(name), "the header is not JSON", "control character");
}

TEST_CASE("a header that is not one JSON object") {
  for (const char* header : {"", "   ", "[]", "null", "1", "\"w\"", "w", "\xef\xbb\xbf{}", "/**/{}",
                             "\v{}", "\xc2\xa0{}", "[{}]"})
    REFUSED(file_of(header), "the header is not a JSON object", "does not begin with '{'");
  for (const char* header : {"{", "}{", "{\"w\"", "{\"w\":", "{\"w\":}", "{,}", "{w:1}", "{'w':1}",
                             "{/**/}", "{\"__metadata__\":{}", "{\"__metadata__\":{},}",
                             "{\"a\" 1}", "{\"__metadata__\":{\"a\":tru}}",
                             "{\"__metadata__\":{\"a\":01}}", "{\"__metadata__\":{\"a\":+1}}",
                             "{\"__metadata__\":{\"a\":.5}}", "{\"__metadata__\":{\"a\":NaN}}"})
    REFUSED(file_of(header), "the header is not");
  for (const char* header :
       {"{}{}", "{} {}", "{},", "{}x", "{}}", "{}]", "{}/**/", "{} \v", "{}0", "{}\xef\xbb\xbf"})
    REFUSED(file_of(header), "the header is not JSON");
  for (const char* header : {"{}", " {}", "{} ", "\t\r\n {\n}\t\r\n "}) READ(file_of(header));
}

TEST_CASE("a header with a NUL byte") {
  const std::string nul(1, '\0');
  REFUSED(file_of("{}" + nul), "byte 2 is NUL");
  REFUSED(file_of("{}" + nul + "garbage"), "byte 2 is NUL");
  REFUSED(file_of("{" + entry("a" + nul, "U8", "[1]", "[0,1]") + "}", 1), "is NUL");
  REFUSED(file_of(nul + "{}"), "not a JSON object");
  READ(file_of("{" + entry("a\\u0000", "U8", "[1]", "[0,1]") + "}", 1));
}

TEST_CASE("a key twice") {
  const std::string two = entry("w", "U8", "[1]", "[1,2]");
  REFUSED(file_of("{" + byte + "," + two + "}", 2), "the key 'w' twice");
  REFUSED(file_of("{" + byte + "," + byte + "}", 1), "the key 'w' twice");
  REFUSED(file_of("{" + byte + "," + entry("\\u0077", "U8", "[1]", "[1,2]") + "}", 2),
          "the key 'w' twice");
  REFUSED(file_of("{\"__metadata__\":{}," + byte + ",\"__metadata__\":{}}", 1),
          "the key '__metadata__' twice");
  REFUSED(file_of("{\"__metadata__\":{},\"_\\u005fmetadata__\":{}}"), "'__metadata__' twice");
  REFUSED(file_of(R"({"__metadata__":{"a":"1","\u0061":"1"}})"), "the key 'a' twice");
  REFUSED(with_member("\"dtype\":\"U8\""), "the key 'dtype' twice");
  REFUSED(with_member("\"shap\\u0065\":[1]"), "the key 'shape' twice");
  REFUSED(with_member("\"x\":[{\"y\":[{\"z\":1,\"z\":1}]}]"), "the key 'z' twice");

  READ(file_of("{" + byte + "," + entry("W", "U8", "[1]", "[1,2]") + "}", 2));
  READ(file_of("{" + entry("\\u00e9", "U8", "[1]", "[0,1]") + "," +  // one character, and two
                   entry("e\\u0301", "U8", "[1]", "[1,2]") + "}",
               2));
  READ(file_of("{\"__metadata__\":{\"w\":\"dtype\",\"__metadata__\":\"\"}," + byte + "}", 1));
  READ(with_member("\"x\":[{\"x\":1},{\"x\":1}],\"w\":{\"dtype\":{\"dtype\":0}}"));
}

TEST_CASE("brackets in brackets") {
  READ(nested(127, "[", "", "]"));
  READ(nested(127, "[", "1", "]"));
  READ(nested(127, "{\"\":", "1", "}"));
  for (const int depth : {130, 131, 1000, 100'000}) {
    REFUSED(nested(depth, "[", "", "]"), "nests deeper than");
    REFUSED(nested(depth, "[", "1", "]"), "nests deeper than");
    REFUSED(nested(depth, "{\"\":", "1", "}"), "nests deeper than");
  }
  for (const char* open : {"[", "{\"\":"}) {
    REFUSED(file_of("{\"w\":" + repeat(open, 100'000)), "nests deeper than");
    REFUSED(file_of(repeat("{\"\":", 100'000)), "nests deeper than");
  }
  REFUSED(file_of(repeat("[", 100'000)), "not a JSON object");
}

TEST_CASE("the reference implementation takes 127 brackets") {
  REFUSED(nested(128, "[", "", "]"), "nests deeper than");
  REFUSED(nested(128, "[", "1", "]"), "nests deeper than");
  REFUSED(nested(129, "[", "", "]"), "nests deeper than");
}

TEST_CASE("metadata other than strings") {
  for (const char* value : {"null", "[]", "\"pt\"", "1", "[[\"a\",\"b\"]]"})
    REFUSED(file_of(std::string("{\"__metadata__\":") + value + "}"),
            "__metadata__ is not a JSON object");
  for (const char* value : {"null", "1", "1.5", "true", "[\"pt\"]", "{}"})
    REFUSED(file_of(std::string(R"({"__metadata__":{"ok":"yes","format":)") + value + "}}"),
            "__metadata__ 'format' is not a string");
  READ(file_of("{" + byte + "}", 1));
  READ(file_of("{\"__metadata__\":{}}"));
  const auto header =
      SafetensorsHeader::parse(file_of(R"({"__metadata__":{"format":"pt","\u00e9":""}})"), "base");
  CHECK(header.metadata == ether::Metadata{{"format", "pt"}, {"\xc3\xa9", ""}});
  CHECK(header.tensors.empty());
}
