// A base model: one file, a directory with one file, shards with an index; and every index that
// does not describe its shards.

#include "io/support/build_safetensors.hpp"
#include "io/support/temporary_directory.hpp"
#include "support/check_message.hpp"

#include <ether/io/checkpoint.hpp>

namespace fs = std::filesystem;
using ether::Checkpoint;
using test::SafetensorsBuilder;
using test::TemporaryDirectory;
using test::write_file;

#define REFUSED(path, type, ...) CHECK_REFUSED(Checkpoint(path), type, (path).string(), __VA_ARGS__)

namespace {

const char* const single = "model.safetensors";
const char* const index_file = "model.safetensors.index.json";

/// Two shards, a and b in s1.safetensors (40 bytes), c in s2.safetensors (8 bytes).
const std::string weight_map = R"("a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors")";

/// Writes those shards and an index with this weight_map and these other members.
void write_sharded(const TemporaryDirectory& dir, const std::string& map = weight_map,
                   const std::string& members = R"(,"metadata":{"total_size":48})") {
  write_file(dir / "s1.safetensors", SafetensorsBuilder().ones("a", 2, 3).ones("b", 4, 1).file());
  write_file(dir / "s2.safetensors", SafetensorsBuilder().ones("c", 1, 2).file());
  write_file(dir / index_file, "{\"weight_map\":{" + map + "}" + members + "}");
}

std::vector<std::string> tensor_names(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : checkpoint.tensors()) names.push_back(name);
  return names;
}

}  // namespace

TEST_CASE("a checkpoint that is one file") {
  const TemporaryDirectory dir;
  write_file(dir / "any name.safetensors",
             SafetensorsBuilder().ones("b", 2, 3).ones("a", 1, 1).file());
  const Checkpoint file(dir / "any name.safetensors");
  CHECK(file.is_file());
  CHECK(tensor_names(file) == std::vector<std::string>{"a", "b"});
  CHECK(file.total_size() == 28);
  CHECK(file.warnings().empty());
  CHECK(file.index().is_null());
  CHECK(file.find("absent") == nullptr);
  REQUIRE(file.find("b") != nullptr);
  CHECK(file.find("b")->info->shape == std::vector<std::uint64_t>{2, 3});
  const float one = 1;
  CHECK(std::memcmp(file.find("a")->data(), &one, 4) == 0);
  REFUSED(dir / "absent.safetensors", ether::io_error, "cannot open", "No such file");
}

TEST_CASE("a directory with one file") {
  const TemporaryDirectory dir;
  REFUSED(dir.path(), ether::io_error, std::string("neither ") + single, index_file);
  write_file(dir / single, SafetensorsBuilder().ones("a", 1, 1).file());
  for (const fs::path& path : {dir.path(), dir.path() / ""}) {
    const Checkpoint checkpoint(path);
    CHECK(!checkpoint.is_file());
    CHECK(tensor_names(checkpoint) == std::vector<std::string>{"a"});
    CHECK(checkpoint.warnings().empty());
  }
  write_file(dir / single, "");
  REFUSED(dir.path(), ether::format_error, single, "has 0 bytes");
  fs::remove(dir / single);
  fs::create_directory(dir / single);
  REFUSED(dir.path(), ether::io_error, single, "is not a regular file");
}

TEST_CASE("a directory of shards") {
  const TemporaryDirectory dir;
  write_sharded(dir);
  write_file(dir / "not in the index.safetensors", "garbage");
  const Checkpoint checkpoint(dir.path());
  CHECK(!checkpoint.is_file());
  CHECK(checkpoint.shards().size() == 2);
  CHECK(tensor_names(checkpoint) == std::vector<std::string>{"a", "b", "c"});
  CHECK(checkpoint.find("c")->shard->path() == dir / "s2.safetensors");
  CHECK(checkpoint.find("b")->info->bytes() == 16);
  CHECK(checkpoint.total_size() == 48);
  CHECK(checkpoint.warnings().empty());
  CHECK(checkpoint.index()["weight_map"]["c"] == "s2.safetensors");
}

TEST_CASE("with a single file and an index, the file is read and a warning given") {
  const TemporaryDirectory dir;
  write_sharded(dir);
  write_file(dir / single, SafetensorsBuilder().ones("only", 1, 1).file());
  const Checkpoint checkpoint(dir.path());
  CHECK(tensor_names(checkpoint) == std::vector<std::string>{"only"});
  REQUIRE(checkpoint.warnings().size() == 1);
  CHECK_THAT(checkpoint.warnings()[0],
             Catch::Matchers::ContainsSubstring("both model.safetensors"));
  write_file(dir / index_file, "garbage");
  CHECK(Checkpoint(dir.path()).warnings().size() == 1);
}

TEST_CASE("a weight_map entry that is not a plain file name") {
  const TemporaryDirectory dir;
  for (const std::string name :
       {"\"../s2.safetensors\"", "\"./s2.safetensors\"", "\"/s2.safetensors\"", "\"sub/s2\"",
        "\"\"", "\".\"", "\"..\"", "\"s2.safetensors/\"", "\"s2.safe\\u0000tensors\"",
        "\"..\\\\s2\"", "\"\\u002e\\u002e\\u002fs2\"", "null", "2", "[\"s2.safetensors\"]", "{}",
        "true"}) {
    write_sharded(dir, R"("a":"s1.safetensors","b":"s1.safetensors","c":)" + name);
    REFUSED(dir.path(), ether::format_error, index_file, "places 'c'", "not a plain file name");
  }
  write_sharded(
      dir, R"("a":"s1.safetensors","b":"s1.safetensors","c":")" + (dir / "s2").string() + "\"");
  REFUSED(dir.path(), ether::format_error, "places 'c'", "not a plain file name");
  // Names that only look odd.
  for (const char* name : {"..s2", "...", " ", "s2", "\xc3\xa9"}) {
    write_sharded(dir,
                  R"("a":"s1.safetensors","b":"s1.safetensors","c":")" + std::string(name) + "\"");
    fs::rename(dir / "s2.safetensors", dir / name);
    CHECK(Checkpoint(dir.path()).find("c") != nullptr);
  }
}

TEST_CASE("an index that does not describe its shards") {
  const TemporaryDirectory dir;
  const std::string ab = R"("a":"s1.safetensors","b":"s1.safetensors")";
  write_sharded(dir, weight_map + R"(,"d":"s3.safetensors")");
  REFUSED(dir.path(), ether::format_error, index_file,
          "the shard 's3.safetensors', which is missing");
  write_sharded(dir, weight_map + R"(,"d":"s2.safetensors")");
  REFUSED(dir.path(), ether::format_error, index_file, "places 'd' in s2.safetensors",
          "has no such tensor");
  write_sharded(dir, R"("a":"s1.safetensors","b":"s2.safetensors","c":"s2.safetensors")");
  REFUSED(dir.path(), ether::format_error, index_file, "places 'b' in s2.safetensors",
          "has no such tensor");
  write_sharded(dir, R"("a":"s1.safetensors","c":"s2.safetensors")");
  REFUSED(dir.path(), ether::format_error, index_file,
          "weight_map lacks 'b', which s1.safetensors has");
  write_sharded(dir, ab);  // without its shard a tensor is not missed
  CHECK(tensor_names(Checkpoint(dir.path())) == std::vector<std::string>{"a", "b"});

  write_sharded(dir);
  write_file(dir / "s2.safetensors", SafetensorsBuilder().ones("c", 1, 2).ones("a", 2, 3).file());
  CHECK_REFUSED(Checkpoint(dir.path()), ether::format_error, "tensor 'a' is in two shards",
                "s1.safetensors", "s2.safetensors");
  write_sharded(dir);
  write_file(dir / "s2.safetensors", "");
  REFUSED(dir.path(), ether::format_error, "s2.safetensors", "has 0 bytes");
  fs::remove(dir / "s2.safetensors");
  fs::create_directory(dir / "s2.safetensors");
  REFUSED(dir.path(), ether::io_error, "s2.safetensors", "not a regular file");
}

TEST_CASE("an index that is not one") {
  const TemporaryDirectory dir;
  write_sharded(dir);
  for (const char* text : {"", "[]", "null", "\xef\xbb\xbf{\"weight_map\":{}}"}) {
    write_file(dir / index_file, text);
    REFUSED(dir.path(), ether::format_error, index_file, "is not a JSON object");
  }
  for (const char* text : {"{", "{\"weight_map\":{}}x", "{\"weight_map\":{\"\xff\":\"s\"}}"}) {
    write_file(dir / index_file, text);
    REFUSED(dir.path(), ether::format_error, index_file, "is not JSON");
  }
  for (const char* text : {"{}", "{\"weight_map\":null}", "{\"weight_map\":[]}"}) {
    write_file(dir / index_file, text);
    REFUSED(dir.path(), ether::format_error, index_file, "no weight_map that is a JSON object");
  }
  write_sharded(dir, weight_map + R"(,"a":"s1.safetensors")");
  REFUSED(dir.path(), ether::format_error, index_file, "the key 'a' twice");
  write_sharded(dir, weight_map, R"(,"weight_map":{})");
  REFUSED(dir.path(), ether::format_error, index_file, "the key 'weight_map' twice");
  write_sharded(dir, weight_map, R"(,"metadata":[])");
  REFUSED(dir.path(), ether::format_error, index_file, "metadata is not a JSON object");
}

TEST_CASE("a wrong total_size is a warning") {
  const TemporaryDirectory dir;
  for (const char* size : {"47", "49", "0", "-48", "\"48\"", "null", "48.5"}) {
    write_sharded(dir, weight_map, std::string(",\"metadata\":{\"total_size\":") + size + "}");
    const Checkpoint checkpoint(dir.path());
    REQUIRE(checkpoint.warnings().size() == 1);
    for (const std::string& part :
         {std::string(index_file), "total_size " + std::string(size), std::string("48 bytes")})
      CHECK_THAT(checkpoint.warnings()[0], Catch::Matchers::ContainsSubstring(part));
    CHECK(checkpoint.total_size() == 48);
  }
  for (const char* members :
       {"", R"(,"metadata":{})", R"(,"metadata":{"total_size":48,"x":1},"y":0)"}) {
    write_sharded(dir, weight_map, members);
    CHECK(Checkpoint(dir.path()).warnings().empty());
  }
}

TEST_CASE("symbolic links are followed, as in the hub's cache") {
  const TemporaryDirectory dir;
  fs::create_directories(dir / "blobs");
  fs::create_directories(dir / "snapshots/0123abc");
  TemporaryDirectory built;
  write_sharded(built);
  int blob = 0;
  for (const std::string& name : test::names_in(built.path())) {
    const std::string hash = "e3b0c442" + std::to_string(blob++);
    fs::rename(built / name, dir / ("blobs/" + hash));
    fs::create_symlink("../../blobs/" + hash, dir / ("snapshots/0123abc/" + name));
  }
  const Checkpoint snapshot(dir / "snapshots/0123abc");
  CHECK(tensor_names(snapshot) == std::vector<std::string>{"a", "b", "c"});
  CHECK(snapshot.find("c")->shard->path() == dir / "snapshots/0123abc/s2.safetensors");
  CHECK(snapshot.warnings().empty());

  fs::create_directory_symlink("0123abc", dir / "snapshots/main");
  CHECK(Checkpoint(dir / "snapshots/main").tensors().size() == 3);
  fs::create_symlink("snapshots/main/s2.safetensors", dir / "link.safetensors");
  const Checkpoint file(dir / "link.safetensors");
  CHECK(file.is_file());
  CHECK(tensor_names(file) == std::vector<std::string>{"c"});

  fs::remove(dir / "snapshots/0123abc/s2.safetensors");
  fs::create_symlink("../../blobs/gone", dir / "snapshots/0123abc/s2.safetensors");
  REFUSED(dir / "snapshots/main", ether::format_error, "'s2.safetensors', which is missing");
}
