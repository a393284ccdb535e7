// Outputs and other processes: killed ones, and ones that write at the same time.

#include "io/support/temporary_directory.hpp"
#include "support/check_message.hpp"

#include <ether/io/staged_output.hpp>

#include <sys/wait.h>

#include <csignal>

namespace fs = std::filesystem;
using ether::StagedOutput;
using test::names_in;
using test::read_file;
using test::TemporaryDirectory;
using test::write_file;
using Kind = StagedOutput::Kind;
using Names = std::set<std::string>;

namespace {

/// Another process that has half written an output, until it is killed.
class OtherWriter {
 public:
  OtherWriter(const fs::path& path, Kind kind, bool replace) {
    int ready[2];
    if (::pipe(ready) != 0) throw std::runtime_error("no pipe");
    process_ = ::fork();
    if (process_ == 0) {
      try {
        const StagedOutput output(path, kind, replace, {});
        write_file(kind == Kind::file ? output.staging() : output.staging() / "f", "half");
        if (::write(ready[1], "r", 1) == 1)
          for (;;) ::pause();
      } catch (const std::exception&) {
      }
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte = 0;
    started_ = process_ > 0 && ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  OtherWriter(const OtherWriter&) = delete;
  OtherWriter& operator=(const OtherWriter&) = delete;
  ~OtherWriter() { kill(); }

  bool started() const { return started_; }
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
  }

 private:
  pid_t process_ = -1;
  bool started_ = false;
};

}  // namespace

TEST_CASE("what a killed process left is removed by the next output of that name") {
  const TemporaryDirectory dir;
  for (const Kind kind : {Kind::file, Kind::directory}) {
    OtherWriter killed(dir / "out", kind, false);
    REQUIRE(killed.started());
    killed.kill();
    CHECK(!fs::exists(dir / "out"));
    CHECK(!names_in(dir.path()).empty());
    { const StagedOutput unrelated(dir / "other", kind, false, {}); }
    CHECK(!names_in(dir.path()).empty());
    for (const Kind next : {Kind::directory, Kind::file}) {  // also one of the other kind
      {
        const StagedOutput output(dir / "out", next, false, {});
        CHECK((next == Kind::file ? !fs::exists(output.staging())
                                  : names_in(output.staging()).empty()));
      }
      CHECK(names_in(dir.path()).empty());
      OtherWriter again(dir / "out", kind, false);
      REQUIRE(again.started());
    }
    {
      StagedOutput output(dir / "out", kind, false, {});
      write_file(kind == Kind::file ? output.staging() : output.staging() / "f", "whole");
      output.commit();
    }
    CHECK(names_in(dir.path()) == Names{"out"});
    CHECK(read_file(kind == Kind::file ? dir / "out" : dir / "out/f") == "whole");
    fs::remove_all(dir / "out");
  }
}

TEST_CASE("a process killed while it replaces leaves the old output") {
  const TemporaryDirectory dir;
  write_file(dir / "out", "old");
  OtherWriter killed(dir / "out", Kind::file, true);
  REQUIRE(killed.started());
  killed.kill();
  CHECK(read_file(dir / "out") == "old");
  { const StagedOutput output(dir / "out", Kind::file, true, {}); }
  CHECK(read_file(dir / "out") == "old");
  CHECK(names_in(dir.path()) == Names{"out"});
}

TEST_CASE("an output set aside by a process killed between two renames comes back") {
  const TemporaryDirectory dir;
  fs::create_directory(dir / ".out.ether-replaced");
  write_file(dir / ".out.ether-replaced/model.safetensors", "old");
  fs::create_directory(dir / ".out.ether-partial");
  CHECK_REFUSED(StagedOutput(dir / "out", Kind::directory, false, {}), ether::io_error, "exists");
  CHECK(read_file(dir / "out/model.safetensors") == "old");
  CHECK(names_in(dir.path()) == Names{"out"});
}

TEST_CASE("two processes do not write one output") {
  const TemporaryDirectory dir;
  {
    OtherWriter other(dir / "out", Kind::directory, false);
    REQUIRE(other.started());
    const Names before = names_in(dir.path());
    for (const Kind kind : {Kind::file, Kind::directory})
      CHECK_REFUSED(StagedOutput(dir / "out", kind, true, {}), ether::io_error,
                    "another process is writing this output");
    CHECK(names_in(dir.path()) == before);
    CHECK(read_file(dir / ".out.ether-partial/f") == "half");
    CHECK_NOTHROW(StagedOutput(dir / "out2", Kind::directory, false, {}));
  }
  StagedOutput output(dir / "out", Kind::directory, false, {});
  CHECK_REFUSED(StagedOutput(dir / "out", Kind::directory, false, {}), ether::io_error,
                "another process");  // nor two of this one
  CHECK(!OtherWriter(dir / "out", Kind::directory, true).started());
  write_file(output.staging() / "f", "whole");
  output.commit();
  CHECK(read_file(dir / "out/f") == "whole");
}
