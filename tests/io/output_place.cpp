// The place of an output is checked, and nothing is written to it.

#include "io/support/refused_unless.hpp"
#include "io/support/temporary_directory.hpp"
#include "io/support/unprivileged.hpp"
#include "support/check_message.hpp"

#include <ether/io/output_place.hpp>

namespace fs = std::filesystem;
using ether::OutputPlace;
using test::names_in;
using test::TemporaryDirectory;
using test::write_file;
using Kind = OutputPlace::Kind;

TEST_CASE("a place that is free, or may be replaced") {
  const TemporaryDirectory dir;
  write_file(dir / "file", "old");
  fs::create_directory(dir / "empty");
  fs::create_directory(dir / "base");
  write_file(dir / "base/model.safetensors", "old");
  const auto before = names_in(dir.path());
  const std::vector<fs::path> inputs{dir / "base"};
  CHECK_NOTHROW(OutputPlace(dir / "new", Kind::file, false, inputs).check());
  CHECK_NOTHROW(OutputPlace(dir / "new/", Kind::directory, true, inputs).check(1));
  CHECK_NOTHROW(OutputPlace(dir / "file", Kind::file, true, inputs).check());
  CHECK_NOTHROW(OutputPlace(dir / "empty", Kind::directory, true, inputs).check());
  CHECK_NOTHROW(OutputPlace(dir / "base", Kind::directory, true, {}).check());
  CHECK(OutputPlace(dir / "empty/../new/", Kind::file, false, {}).path() == dir / "new");
  CHECK(names_in(dir.path()) == before);
  CHECK(names_in(dir / "empty").empty());
  CHECK(test::read_file(dir / "file") == "old");
}

TEST_CASE("a place behind a link and '..' is where the system finds it") {
  const TemporaryDirectory dir;
  fs::create_directories(dir / "far/away");
  fs::create_directory_symlink(dir / "far/away", dir / "link");
  const auto path = [&](const fs::path& given) {
    return OutputPlace(given, Kind::directory, true, {}).path();
  };
  CHECK(path(dir / "link/../out") == dir / "far/out");
  CHECK(path(dir / "link/..") == dir / "far");
  CHECK(path(dir / "link/./out/") == dir / "far/away/out");
  CHECK(path(dir / "link") == dir / "link");  // check refuses it
  CHECK(path(dir / "none/../out") == dir / "out");
}

TEST_CASE("a place that is refused") {
  const TemporaryDirectory dir;
  write_file(dir / "file", "old");
  fs::create_symlink("file", dir / "link");
  fs::create_directory(dir / "mine");
  write_file(dir / "mine/thesis.tex", "years");
  const auto before = names_in(dir.path());
  const auto refused = [](const fs::path& path, Kind kind, bool replace, const char* part,
                          std::vector<fs::path> inputs = {}, std::uint64_t bytes = 0) {
    return test::refusal<ether::io_error>(
        [&] { OutputPlace(path, kind, replace, inputs).check(bytes); },
        {"'" + path.string() + "'", part});
  };
  CHECK(refused("", Kind::file, true, "path is ''") == "");
  CHECK(refused(dir / "absent/out", Kind::file, true, "does not exist") == "");
  CHECK(refused(dir / "file/out", Kind::file, true, "does not exist") == "");
  CHECK(refused(dir / "link", Kind::file, true, "symbolic link") == "");
  CHECK(refused(dir / "mine", Kind::directory, true, "is, holds or lies inside",
                {dir / "mine/thesis.tex"}) == "");
  CHECK(refused(dir / "mine/out", Kind::file, true, "is, holds or lies inside", {dir / "mine"}) ==
        "");
  CHECK(refused(dir / "file", Kind::file, false, "' exists") == "");
  CHECK(test::refused_unless(ether::Refusal::Option::replace,
                             [&] { OutputPlace(dir / "file", Kind::file, false, {}).check(); }));
  CHECK(refused(dir / "file", Kind::directory, true, "not replaced by a directory") == "");
  CHECK(refused(dir / "mine", Kind::file, true, "not replaced by a file") == "");
  CHECK(refused(dir / "mine", Kind::directory, true, "without a checkpoint or an adapter") == "");
  CHECK(refused(dir / "out", Kind::file, false, "needs 4611686018427387904 bytes", {},
                std::uint64_t{1} << 62) == "");
  CHECK(names_in(dir.path()) == before);
}

TEST_CASE("a place without permission") {
  const TemporaryDirectory dir;
  fs::create_directory(dir / "closed");
  fs::permissions(dir / "closed", fs::perms(0555));
  const test::Unprivileged user;
  if (!user) return;
  CHECK_REFUSED(OutputPlace(dir / "closed/out", Kind::file, false, {}).check(), ether::io_error,
                "cannot write to '" + (dir / "closed").string() + "'", "Permission denied");
}
