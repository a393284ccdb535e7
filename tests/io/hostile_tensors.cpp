// What is wrong with a tensor's entry, and with where the tensors lie. Beside every file that is
// refused stands the nearest one that is read.

#include "io/support/build_safetensors.hpp"
#include "support/check_message.hpp"

#include <ether/io/safetensors.hpp>

using ether::SafetensorsHeader;
using test::entry;
using test::file_of;

#define REFUSED(file, ...) \
  CHECK_REFUSED(SafetensorsHeader::parse(file, "base"), ether::format_error, "base", __VA_ARGS__)
#define READ(file) CHECK_NOTHROW(SafetensorsHeader::parse(file, "base"))

namespace {

/// A file with the one tensor `w`.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                std::size_t data_bytes) {
  return file_of("{" + entry("w", dtype, shape, offsets) + "}", data_bytes);
}
/// A file with the one member `w`, whatever it is.
std::string member(const std::string& json) { return file_of("{\"w\":" + json + "}", 1); }

/// A file of U8 vectors a, b, c, ... at [begin, end), in this order in the header.
std::string placed(const std::vector<std::pair<int, int>>& places, std::size_t data_bytes) {
  std::string entries;
  char name = 'a';
  for (const auto& [begin, end] : places) {
    entries += entries.empty() ? "" : ",";
    entries += entry(std::string(1, name++), "U8", "[" + std::to_string(end - begin) + "]",
                     "[" + std::to_string(begin) + "," + std::to_string(end) + "]");
  }
  return file_of("{" + entries + "}", data_bytes);
}

/// Not the library's table.
const std::vector<std::pair<std::string, std::uint64_t>> all_dtypes{
    {"F64", 64},    {"F32", 32},    {"F16", 16},        {"BF16", 16},       {"I64", 64},
    {"U64", 64},    {"C64", 64},    {"I32", 32},        {"U32", 32},        {"I16", 16},
    {"U16", 16},    {"I8", 8},      {"U8", 8},          {"BOOL", 8},        {"F8_E5M2", 8},
    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4}};

const char* const not_counts[] = {"-1",
                                  "-0",
                                  "0.0",
                                  "1.0",
                                  "1.5",
                                  "1e0",
                                  "1e3",
                                  "18446744073709551616",
                                  "1e100",
                                  "\"1\"",
                                  "null",
                                  "true",
                                  "[1]",
                                  "{}",
                                  "-9223372036854775809"};

}  // namespace

TEST_CASE("an entry that does not describe a tensor") {
  for (const char* value : {"null", "1", "[]", "\"F32\"", "[[\"dtype\",\"F32\"]]"})
    REFUSED(member(value), "tensor 'w' is not described by a JSON object");
  REFUSED(member(R"({"shape":[1],"data_offsets":[0,1]})"), "tensor 'w' has no dtype");
  REFUSED(member(R"({"dtype":"U8","data_offsets":[0,1]})"), "tensor 'w' has no shape");
  REFUSED(member(R"({"dtype":"U8","shape":[1]})"), "tensor 'w' has no data_offsets");
  REFUSED(member(R"({"Dtype":"U8","shape":[1],"data_offsets":[0,1]})"), "tensor 'w' has no dtype");
  READ(member(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})"));
  READ(member(R"({"data_offsets":[0,1],"shape":[1],"dtype":"U8"})"));
  READ(member(R"({"dtype":"U8","shape":[1],"x":null,"data_offsets":[0,1],"y":[{"dtype":-0.5}]})"));
}

TEST_CASE("an unknown dtype") {
  for (const char* dtype : {"", "f32", "F32 ", "F128", "FLOAT", "F8", "bfloat16", "U1"})
    REFUSED(one(dtype, "[1]", "[0,1]", 1),
            "tensor 'w' has the unknown dtype '" + std::string(dtype) + "'");
  for (const char* dtype : {"32", "null", "[\"U8\"]"})
    REFUSED(member(std::string("{\"dtype\":") + dtype + R"(,"shape":[1],"data_offsets":[0,1]})"),
            "tensor 'w' has a dtype that is not a string");
}

TEST_CASE("every dtype of the format") {
  CHECK(ether::detail::dtypes.size() == all_dtypes.size());
  for (const auto& known : all_dtypes) {
    const std::string& dtype = known.first;
    const std::uint64_t bits = known.second;
    const std::uint64_t bytes = 8 * bits / 8;  // of 8 elements
    const std::string end = std::to_string(bytes);
    const auto header =
        SafetensorsHeader::parse(one(dtype, "[4,2]", "[0," + end + "]", bytes), "base");
    CHECK(header.tensors.at(0).bytes() == bytes);
    CHECK(to_string(header.tensors[0].dtype) == dtype);
    CHECK(static_cast<std::uint64_t>(bit_size(header.tensors[0].dtype)) == bits);
    REFUSED(one(dtype, "[4,2]", "[0," + std::to_string(bytes + 1) + "]", bytes + 1),
            "(4, 2) of " + dtype, "takes " + end, "span " + std::to_string(bytes + 1));
    READ(one(dtype, "[0]", "[0,0]", 0));
  }
}

TEST_CASE("elements smaller than a byte fill whole bytes") {
  READ(one("F4", "[2]", "[0,1]", 1));
  READ(one("F4", "[3,2]", "[0,3]", 3));
  READ(one("F6_E2M3", "[4]", "[0,3]", 3));
  REFUSED(one("F4", "[1]", "[0,1]", 1), "(1) of F4", "no whole number of bytes");
  REFUSED(one("F4", "[3,3]", "[0,5]", 5), "(3, 3) of F4", "no whole number of bytes");
  REFUSED(one("F4", "[]", "[0,1]", 1), "() of F4", "no whole number of bytes");
  REFUSED(one("F6_E3M2", "[2]", "[0,2]", 2), "(2) of F6_E3M2", "no whole number of bytes");
}

TEST_CASE("numbers that count nothing") {
  for (const std::string number : not_counts) {
    REFUSED(one("U8", "[" + number + "]", "[0,1]", 1), "tensor 'w': shape holds ",
            "from 0 to 2^64 - 1");
    REFUSED(one("U8", "[1]", "[" + number + ",1]", 1), "tensor 'w': data_offsets holds ");
    REFUSED(one("U8", "[1]", "[0," + number + "]", 1), "tensor 'w': data_offsets holds ");
  }
  REFUSED(one("U8", "[-7]", "[0,1]", 1), "shape holds -7;");
  REFUSED(one("U8", "[1e400]", "[0,1]", 1), "the header is not JSON");
  for (const char* list : {"1", "null", "{}", "\"[1]\""}) {
    REFUSED(one("U8", list, "[0,1]", 1), "tensor 'w': shape is not a list of numbers");
    REFUSED(one("U8", "[1]", list, 1), "tensor 'w': data_offsets is not a list of numbers");
  }
  READ(one("U8", "[1]", "[0,1]", 1));
}

TEST_CASE("data_offsets are begin and end") {
  REFUSED(one("U8", "[0]", "[]", 0), "has 0 data_offsets; it needs 2");
  REFUSED(one("U8", "[0]", "[0]", 0), "has 1 data_offsets; it needs 2");
  REFUSED(one("U8", "[1]", "[0,1,1]", 1), "has 3 data_offsets; it needs 2");
  REFUSED(one("U8", "[1]", "[1,0]", 1), "run backwards, from 1 to 0");
  REFUSED(one("U8", "[1]", "[18446744073709551615,0]", 1), "from 18446744073709551615 to 0");
  READ(one("U8", "[1]", "[0,1]", 1));
}

TEST_CASE("a shape that does not take the bytes") {
  REFUSED(one("F32", "[2,2]", "[0,12]", 12), "(2, 2) of F32 takes 16 bytes", "span 12");
  REFUSED(one("F32", "[]", "[0,8]", 8), "() of F32 takes 4 bytes", "span 8");
  REFUSED(one("F32", "[]", "[0,0]", 0), "() of F32 takes 4 bytes", "span 0");
  REFUSED(one("F32", "[0]", "[0,4]", 4), "(0) of F32 takes 0 bytes", "span 4");
  READ(one("F32", "[2,2]", "[0,16]", 16));
  READ(one("F32", "[]", "[0,4]", 4));
  READ(one("F32", "[1,1,1,1,1,1,1,1]", "[0,4]", 4));
}

TEST_CASE("a shape beyond 64 bits") {
  for (const char* shape :
       {"[18446744073709551615]", "[4294967296,4294967296]", "[2305843009213693952]",
        "[9223372036854775808,4,0]", "[3,6148914691236517206]"})
    REFUSED(one("U8", shape, "[0,0]", 0), "tensor 'w': shape (", "below 2^61");
  REFUSED(one("F64", "[288230376151711744]", "[0,0]", 0), "(288230376151711744)", "below 2^61");
  // Just below, and behind a 0: whole numbers again.
  REFUSED(one("U8", "[2305843009213693951]", "[0,4]", 4), "takes 2305843009213693951", "span 4");
  REFUSED(one("F64", "[288230376151711743]", "[0,4]", 4), "takes 2305843009213693944", "span 4");
  READ(one("U8", "[0,18446744073709551615]", "[0,0]", 0));
  READ(one("F64", "[0,9223372036854775808,4]", "[0,0]", 0));
}

TEST_CASE("tensors with holes or overlaps") {
  REFUSED(placed({{1, 2}}, 2), "'a' begins at byte 1", "end at byte 0", "holes");
  REFUSED(placed({{0, 1}, {2, 3}}, 3), "'b' begins at byte 2", "end at byte 1", "holes");
  REFUSED(placed({{0, 2}, {1, 3}}, 3), "'b' begins at byte 1, within", "end at byte 2");
  REFUSED(placed({{0, 3}, {1, 2}}, 3), "'b' begins at byte 1, within", "end at byte 3");
  REFUSED(placed({{0, 2}, {0, 2}}, 2), "'b' begins at byte 0, within", "end at byte 2");
  REFUSED(placed({{0, 2}, {0, 1}}, 2), "'a' begins at byte 0, within", "end at byte 1");
  REFUSED(placed({{2, 3}, {0, 1}}, 3), "'a' begins at byte 2", "end at byte 1");
  REFUSED(placed({{0, 10}, {5, 5}}, 10), "'b' begins at byte 5, within", "end at byte 10");
  REFUSED(placed({{0, 1}, {9, 9}}, 1), "'b' begins at byte 9", "end at byte 1");
  REFUSED(placed({{3, 3}}, 0), "'a' begins at byte 3", "end at byte 0");
  READ(placed({{0, 1}, {1, 3}}, 3));
}

TEST_CASE("tensors that do not end with the file") {
  REFUSED(placed({{0, 2}}, 3), "end at byte 2", "3 bytes follow");
  REFUSED(placed({{0, 2}}, 1), "end at byte 2", "1 bytes follow");
  REFUSED(placed({{0, 2}}, 0), "end at byte 2", "0 bytes follow");
  REFUSED(file_of("{}", 1), "end at byte 0", "1 bytes follow");
  REFUSED(one("U8", "[0]", "[18446744073709551615,18446744073709551615]", 0),
          "18446744073709551615", "end at byte 0");
  REFUSED(file_of("{" + entry("a", "U8", "[1152921504606846976]", "[0,1152921504606846976]") + "}"),
          "end at byte 1152921504606846976", "0 bytes follow");
  READ(placed({{0, 2}}, 2));
  READ(file_of("{}"));
}

TEST_CASE("tensors in any order, unaligned, empty or without rank") {
  const std::string file = file_of(
      "{" + entry("z", "F32", "[1]", "[1,5]") + "," + entry("none", "F64", "[0,3]", "[5,5]") + "," +
          entry("a", "U8", "[1]", "[0,1]") + "," + entry("also none", "F4", "[0]", "[0,0]") + "," +
          entry("scalar", "F16", "[]", "[5,7]") + "}",
      7);
  const SafetensorsHeader header = SafetensorsHeader::parse(file, "base");
  std::vector<std::string> names;
  for (const ether::TensorInfo& tensor : header.tensors) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"also none", "a", "z", "none", "scalar"});
  CHECK(header.tensors[2].begin == 1);
  CHECK(header.tensors[2].end == 5);
  CHECK(header.tensors[3].shape == std::vector<std::uint64_t>{0, 3});
  CHECK(header.tensors[4].shape.empty());
  READ(placed({{0, 0}, {0, 0}, {0, 2}, {2, 2}, {2, 2}}, 2));
}
