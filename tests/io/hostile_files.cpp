// What stands in a file's place: directories, pipes, nothing. And a file larger than 4 GiB.

#include "io/support/build_safetensors.hpp"
#include "io/support/temporary_directory.hpp"
#include "io/support/unprivileged.hpp"
#include "support/check_message.hpp"

#include <ether/io/safetensors.hpp>

namespace fs = std::filesystem;
using ether::MappedFile;
using ether::OutputFile;
using ether::SafetensorsFile;
using test::bytes_of;
using test::entry;
using test::file_of;
using test::SafetensorsBuilder;
using test::TemporaryDirectory;
using test::write_file;

#define NOT_OPENED(path, ...) \
  CHECK_REFUSED(SafetensorsFile(path), ether::io_error, "'" + (path).string() + "'", __VA_ARGS__)

TEST_CASE("what is not a regular file") {
  const TemporaryDirectory dir;
  NOT_OPENED(dir / "absent", "cannot open", "No such file");
  NOT_OPENED(dir.path(), "is not a regular file");
  NOT_OPENED(dir / "file/below", "cannot open");
  fs::create_directory(dir / "model.safetensors");
  NOT_OPENED(dir / "model.safetensors", "is not a regular file");
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  NOT_OPENED(dir / "pipe", "is not a regular file");
  NOT_OPENED(fs::path("/dev/null"), "is not a regular file");
  fs::create_symlink("absent", dir / "dangling");
  NOT_OPENED(dir / "dangling", "cannot open", "No such file");
  fs::create_symlink("circle", dir / "circle");
  NOT_OPENED(dir / "circle", "cannot open");
  fs::create_symlink(dir.path(), dir / "link to directory");
  NOT_OPENED(dir / "link to directory", "is not a regular file");
}

TEST_CASE("a file that must not be read") {
  const TemporaryDirectory dir;
  write_file(dir / "secret", file_of("{}"));
  CHECK_NOTHROW(SafetensorsFile(dir / "secret"));
  fs::permissions(dir / "secret", fs::perms::none);
  const test::Unprivileged user;
  if (!user) return;
  NOT_OPENED(dir / "secret", "cannot open", "Permission denied");
}

TEST_CASE("an empty file") {
  const TemporaryDirectory dir;
  write_file(dir / "empty", "");
  CHECK_REFUSED(SafetensorsFile(dir / "empty"), ether::format_error, (dir / "empty").string(),
                "has 0 bytes");
  const MappedFile empty(dir / "empty");
  CHECK(empty.size() == 0);
  CHECK(empty.text().empty());
}

TEST_CASE("names of any bytes but NUL and slash") {
  const TemporaryDirectory dir;
  for (const char* name : {"sp ace", "\xc3\xa9\xe2\x82\xac", "\xff\xfe", "new\nline", "-rf", "'"}) {
    write_file(dir / name, file_of("{" + entry("w", "U8", "[2]", "[0,2]") + "}", 2));
    const SafetensorsFile file(dir / name);
    REQUIRE(file.find("w") != nullptr);
    CHECK(file.data(*file.find("w"))[1] == std::byte{1});
    CHECK(file.path() == dir / name);
  }
}

TEST_CASE("a tensor behind 4 GiB") {
  const TemporaryDirectory dir;
  const std::uint64_t large = (std::uint64_t{1} << 32) + 8;
  const std::vector<float> values{1.5f, -2.0f, 3.25f};
  const std::string begin = std::to_string(large), end = std::to_string(large + 12);
  const std::string start =
      file_of("{" + entry("behind", "F32", "[3]", "[" + begin + "," + end + "]") + "," +
              entry("large", "U8", "[" + begin + "]", "[0," + begin + "]") + "}");
  write_file(dir / "sparse", start);
  fs::resize_file(dir / "sparse", start.size() + large);  // a hole: takes no room on the disk
  std::ofstream(dir / "sparse", std::ios::binary | std::ios::app) << bytes_of(values);

  const SafetensorsFile file(dir / "sparse");
  const ether::TensorInfo* const behind = file.find("behind");
  REQUIRE(behind != nullptr);
  CHECK(behind->begin == large);
  CHECK(file.file().size() == start.size() + large + 12);
  CHECK(std::memcmp(file.data(*behind), values.data(), 12) == 0);
  CHECK(file.data(*file.find("large"))[large - 1] == std::byte{0});

  OutputFile copy(dir / "copy");
  copy.copy_from(file.file(), file.header().data_begin + large + 4, 8, large);
  CHECK(fs::file_size(dir / "copy") == large + 8);
  CHECK(std::memcmp(MappedFile(dir / "copy").bytes() + large, values.data() + 1, 8) == 0);

  // One byte less, and one more.
  fs::resize_file(dir / "sparse", start.size() + large + 11);
  CHECK_REFUSED(SafetensorsFile(dir / "sparse"), ether::format_error, "end at byte " + end,
                std::to_string(large + 11) + " bytes follow");
  fs::resize_file(dir / "sparse", start.size() + large + 13);
  CHECK_REFUSED(SafetensorsFile(dir / "sparse"), ether::format_error, "end at byte " + end,
                std::to_string(large + 13) + " bytes follow");
}

TEST_CASE("a tensor as a matrix, without a copy") {
  const TemporaryDirectory dir;
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const std::string bytes = bytes_of(values);
  std::string header =
      "{" + entry("w", "F32", "[2,3]", "[0,24]") + "," + entry("row", "F32", "[6]", "[24,48]") +
      "," + entry("byte", "U8", "[1]", "[48,49]") + "," + entry("odd", "F32", "[2,3]", "[49,73]") +
      "," + entry("cube", "F32", "[1,1,1]", "[73,77]") + "," +
      entry("scalar", "F32", "[]", "[77,81]") + "," + entry("none", "F32", "[0,3]", "[81,81]") +
      "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // then `w` is aligned and `odd` is not
  write_file(dir / "f", file_of(header) + bytes + bytes + "x" + bytes + std::string(8, '\0'));
  const SafetensorsFile file(dir / "f");
  const auto w = file.matrix<float>("w");
  CHECK(w.rows == 2);
  CHECK(w.cols == 3);
  CHECK(w(1, 2) == 6);
  CHECK(static_cast<const void*>(w.data) == file.data(*file.find("w")));
  CHECK(file.matrix<float>("row").rows == 1);
  CHECK(file.matrix<float>("row").cols == 6);

#define NO_MATRIX(T, name, ...)                                                                \
  CHECK_REFUSED(file.matrix<T>(name), ether::format_error, file.path().string(), "'" name "'", \
                __VA_ARGS__)
  NO_MATRIX(float, "absent", "has no tensor");
  NO_MATRIX(double, "w", "dtype F32, not F64");
  NO_MATRIX(Eigen::half, "w", "dtype F32, not F16");
  NO_MATRIX(Eigen::bfloat16, "w", "dtype F32, not BF16");
  NO_MATRIX(float, "byte", "dtype U8, not F32");
  NO_MATRIX(float, "cube", "(1, 1, 1)", "not that of a matrix");
  NO_MATRIX(float, "scalar", "()", "not that of a matrix");
  NO_MATRIX(float, "odd", std::to_string(8 + header.size() + 49), "not a multiple of 4");
}

TEST_CASE("an output file is new, and as long as what it is made from") {
  const TemporaryDirectory dir;
  write_file(dir / "there", "as it was");
  CHECK_REFUSED(OutputFile(dir / "there"), ether::io_error, "cannot create", "there", "exists");
  CHECK(test::read_file(dir / "there") == "as it was");
  CHECK_REFUSED(OutputFile(dir / "absent/f"), ether::io_error, "cannot create", "No such file");

  const MappedFile source(dir / "there");
  OutputFile file(dir / "new");
  file.copy_from(source, 3, 6, 2);
  file.write(0, "->", 2);
  file.start_flush();
  file.flush();
  CHECK(test::read_file(dir / "new") == "->it was");
  fs::resize_file(dir / "there", 5);
  CHECK_REFUSED(file.copy_from(source, 3, 6, 20), ether::io_error, "there' ends at byte 5",
                "longer when it was opened");
}
