// An output appears whole or not at all, and nothing stays beside it.

#include "io/support/temporary_directory.hpp"
#include "io/support/unprivileged.hpp"
#include "support/check_message.hpp"

#include <ether/io/staged_output.hpp>

namespace fs = std::filesystem;
using ether::StagedOutput;
using test::names_in;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;
using Kind = StagedOutput::Kind;
using Names = std::set<std::string>;

namespace {

/// Writes an output of one file that holds `text`, and commits it.
void write_output(const fs::path& path, Kind kind, bool replace, const std::string& text) {
  StagedOutput output(path, kind, replace, {});
  write_file(kind == Kind::file ? output.staging() : output.staging() / "f", text);
  output.commit();
}

}  // namespace

TEST_CASE("an output appears with its commit") {
  const TemporaryDirectory dir;
  for (const Kind kind : {Kind::file, Kind::directory}) {
    const fs::path path = dir / "o \xc3\xbc t";
    {
      StagedOutput output(path, kind, false, {});
      CHECK(output.path() == path);
      CHECK(output.staging().parent_path() == dir.path());  // a rename is then enough
      CHECK(fs::is_directory(output.staging()) == (kind == Kind::directory));
      if (kind == Kind::directory) fs::create_directories(output.staging() / "a/b");
      write_file(kind == Kind::file ? output.staging() : output.staging() / "a/b/f", "text");
      CHECK(!fs::exists(path));
      output.commit();
      CHECK(fs::exists(path));
    }
    CHECK(read_file(kind == Kind::file ? path : path / "a/b/f") == "text");
    CHECK(names_in(dir.path()) == Names{"o \xc3\xbc t"});
    fs::remove_all(path);
  }
}

TEST_CASE("an output without a commit leaves nothing") {
  const TemporaryDirectory dir;
  for (const Kind kind : {Kind::file, Kind::directory}) {
    StagedOutput(dir / "out", kind, false, {});
    CHECK(names_in(dir.path()).empty());
    try {
      StagedOutput output(dir / "out", kind, false, {});
      write_file(kind == Kind::file ? output.staging() : output.staging() / "f", "half");
      throw std::runtime_error("in the middle");
    } catch (const std::runtime_error&) {
    }
    CHECK(names_in(dir.path()).empty());
  }
  write_file(dir / "out", "old");
  {
    const StagedOutput output(dir / "out", Kind::file, true, {});
    write_file(output.staging(), "half");
  }
  CHECK(read_file(dir / "out") == "old");
  CHECK(names_in(dir.path()) == Names{"out"});
}

TEST_CASE("an output of which nothing was written") {
  const TemporaryDirectory dir;
  {
    StagedOutput output(dir / "out", Kind::file, false, {});
    CHECK_REFUSED(output.commit(), ether::io_error, "cannot create", "out'");
  }
  CHECK(names_in(dir.path()).empty());
  write_file(dir / "out", "old");
  {
    StagedOutput output(dir / "out", Kind::file, true, {});
    CHECK_REFUSED(output.commit(), ether::io_error, "cannot replace", "out'");
  }
  CHECK(read_file(dir / "out") == "old");
  CHECK(names_in(dir.path()) == Names{"out"});
}

TEST_CASE("paths to the same output") {
  const TemporaryDirectory dir;
  fs::create_directory(dir / "sub");
  const fs::path working = fs::current_path();
  fs::current_path(dir.path());
  for (const fs::path& path : {fs::path("out"), fs::path("./out/"), fs::path("sub/../out"),
                               dir / "out/", dir / "out/.", dir / "sub/..//out"}) {
    write_output(path, Kind::directory, false, "text");
    CHECK(read_file(dir / "out/f") == "text");
    CHECK(names_in(dir.path()) == Names{"out", "sub"});
    fs::remove_all(dir / "out");
  }
  fs::current_path(working);
  const std::string longest(255, 'n');  // bytes that a name can have
  write_output(dir / longest, Kind::file, false, "text");
  CHECK(names_in(dir.path()) == Names{"sub", longest});
}

TEST_CASE("an output that exists needs to be replaced on purpose") {
  const TemporaryDirectory dir;
  write_file(dir / "file", "old");
  fs::create_directory(dir / "empty");
  const Names before = names_in(dir.path());
  for (const Kind kind : {Kind::file, Kind::directory})
    for (const char* name : {"file", "empty"})
      CHECK_REFUSED(StagedOutput(dir / name, kind, false, {}), ether::io_error,
                    "'" + (dir / name).string() + "' exists");
  CHECK(names_in(dir.path()) == before);
  CHECK(read_file(dir / "file") == "old");

  write_output(dir / "file", Kind::file, true, "new");
  write_output(dir / "empty", Kind::directory, true, "new");
  CHECK(read_file(dir / "file") == "new");
  CHECK(read_file(dir / "empty/f") == "new");
  CHECK(names_in(dir.path()) == before);
}

TEST_CASE("a directory is replaced when it is a checkpoint or an adapter, as a whole") {
  const TemporaryDirectory dir;
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "adapter_config.json"}) {
    fs::create_directories(dir / "out/sub");
    write_file(dir / "out" / name, "old");
    write_file(dir / "out/sub/other", "old");
    write_output(dir / "out", Kind::directory, true, "new");
    CHECK(names_in(dir / "out") == Names{"f"});
    CHECK(names_in(dir.path()) == Names{"out"});
    fs::remove_all(dir / "out");
  }
}

TEST_CASE("a directory of other things, or of another kind, is not replaced") {
  const TemporaryDirectory dir;
  fs::create_directories(dir / "mine/model.safetensors.d");
  write_file(dir / "mine/thesis.tex", "years");
  write_file(dir / "file", "old");
  fs::create_directory(dir / "base");
  write_file(dir / "base/model.safetensors", "old");
  CHECK_REFUSED(StagedOutput(dir / "mine", Kind::directory, true, {}), ether::io_error, "mine'",
                "without a checkpoint or an adapter");
  CHECK_REFUSED(StagedOutput(dir / "mine", Kind::file, true, {}), ether::io_error, "mine'",
                "is a directory", "not replaced by a file");
  CHECK_REFUSED(StagedOutput(dir / "base", Kind::file, true, {}), ether::io_error, "base'",
                "is a directory", "not replaced by a file");
  CHECK_REFUSED(StagedOutput(dir / "file", Kind::directory, true, {}), ether::io_error, "file'",
                "is not a directory", "not replaced by a directory");
  CHECK(names_in(dir.path()) == Names{"base", "file", "mine"});
  CHECK(read_file(dir / "mine/thesis.tex") == "years");
}

TEST_CASE("what appears under the name meanwhile is not replaced") {
  const TemporaryDirectory dir;
  for (const Kind kind : {Kind::file, Kind::directory}) {
    StagedOutput output(dir / "out", kind, false, {});
    write_file(kind == Kind::file ? output.staging() : output.staging() / "f", "text");
    fs::create_directory(dir / "out");
    write_file(dir / "out/thesis.tex", "years");
    CHECK_REFUSED(output.commit(), ether::io_error, "out'");
    CHECK(names_in(dir / "out") == Names{"thesis.tex"});
    fs::remove_all(dir / "out");
  }
  CHECK(names_in(dir.path()).empty());
}

TEST_CASE("an output that is, holds or lies inside an input") {
  const TemporaryDirectory dir;
  fs::create_directories(dir / "models/base/sub");
  write_file(dir / "models/base/model.safetensors", "base");
  write_file(dir / "models/adapter_config.json", "{}");
  fs::create_directory_symlink("models", dir / "link");
  fs::create_directory_symlink("base", dir / "models/latest");
  const Names before = names_in(dir.path()), models = names_in(dir / "models"),
              base = names_in(dir / "models/base");
  for (const char* input : {"models/base", "models/base/", "link/base", "models/latest",
                            "link/latest/", "models/../link/base/sub/.."})
    for (const char* path :
         {"models/base", "models/base/", "link/base", "models", "models/base/out",
          "models/base/sub/out", "link/latest/out", "models/base/sub"})
      for (const bool replace : {false, true})
        CHECK_REFUSED(StagedOutput(dir / path, Kind::directory, replace, {dir / input}),
                      ether::io_error, "is, holds or lies inside '" + (dir / input).string() + "'");
  const fs::path file = dir / "models/base/model.safetensors";
  CHECK_REFUSED(StagedOutput(file, Kind::file, true, {file}), ether::io_error, "is, holds");
  CHECK_REFUSED(StagedOutput(dir / "models", Kind::directory, true, {file}), ether::io_error,
                "is, holds");
  CHECK_REFUSED(StagedOutput(dir / "new", Kind::directory, true, {dir / "link", dir.path()}),
                ether::io_error, "lies inside '" + dir.path().string() + "'");
  CHECK(names_in(dir.path()) == before);
  CHECK(names_in(dir / "models") == models);
  CHECK(names_in(dir / "models/base") == base);

  for (const char* path : {"models/base2", "models/bas", "base", "models/base.out"})  // beside it
    CHECK_NOTHROW(StagedOutput(dir / path, Kind::directory, false, {dir / "models/base"}));
  CHECK_NOTHROW(StagedOutput(dir / "models/base/other", Kind::file, false, {file}));
}

TEST_CASE("a place where nothing can be written") {
  const TemporaryDirectory dir;
  write_file(dir / "file", "");
  fs::create_symlink("nowhere", dir / "dangling");
  fs::create_symlink("file", dir / "link");
  fs::create_directory(dir / "closed");
  const Names before = names_in(dir.path());
  for (const char* path : {"absent/out", "absent/deep/out", "file/out", "dangling/out"})
    CHECK_REFUSED(StagedOutput(dir / path, Kind::directory, false, {}), ether::io_error,
                  "'" + (dir / path).string() + "'", "does not exist");
  for (const char* path : {"dangling", "link", "link/"})
    for (const Kind kind : {Kind::file, Kind::directory})
      CHECK_REFUSED(StagedOutput(dir / path, kind, true, {}), ether::io_error, "symbolic link");
  CHECK_REFUSED(StagedOutput("/", Kind::directory, true, {}), ether::io_error, "'/'");
  CHECK(names_in(dir.path()) == before);

  fs::permissions(dir / "closed", fs::perms(0555));
  const test::Unprivileged user;
  if (!user) return;
  CHECK_REFUSED(StagedOutput(dir / "closed/out", Kind::file, false, {}), ether::io_error,
                "cannot write to", "Permission denied");
  CHECK(names_in(dir / "closed").empty());
}

TEST_CASE("an output without a name") {
  CHECK_REFUSED(StagedOutput("", Kind::file, false, {}), ether::io_error, "''");
}

TEST_CASE("more bytes than the disk has") {
  const TemporaryDirectory dir;
  {
    const StagedOutput output(dir / "out", Kind::directory, false, {});
    CHECK_NOTHROW(output.fill(0, [] {}));
    CHECK_NOTHROW(output.fill(1, [] {}));
    CHECK_REFUSED(output.fill(std::uint64_t{1} << 62, [] {}), ether::io_error, "out'",
                  "4611686018427387904 bytes", "free");
  }
  CHECK(names_in(dir.path()).empty());
}

TEST_CASE("an output in a directory that may be written but not read") {
  const TemporaryDirectory dir;
  fs::create_directory(dir / "drop box");
  fs::permissions(dir.path(), fs::perms(0755));
  fs::permissions(dir / "drop box", fs::perms(0333));
  {
    const test::Unprivileged user;
    if (!user) return;
    for (const Kind kind : {Kind::file, Kind::directory})
      CHECK_NOTHROW(
          write_output(dir / "drop box" / (kind == Kind::file ? "f" : "d"), kind, false, "text"));
  }
  fs::permissions(dir / "drop box", fs::perms(0777));
  CHECK(names_in(dir / "drop box") == Names{"d", "f"});
}
