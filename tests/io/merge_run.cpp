// Merges that do not write, or do not end.

#include "io/support/sharded_model.hpp"

namespace fs = std::filesystem;
using ether::Progress;
using test::ShardedModel;
using test::snapshot;

TEST_CASE("a dry run writes nothing and reports the same") {
  ShardedModel m;
  const auto wet = ether::merge_checkpoint(m.options);
  const auto before = snapshot(m.dir.path());
  m.options.dry_run = true;
  for (const fs::path& output : {fs::path(), m.dir / "other"}) {
    m.options.output = output;
    const auto dry = ether::merge_checkpoint(m.options);
    CHECK(snapshot(m.dir.path()) == before);
    REQUIRE(dry.modules.size() == 2);
    CHECK(dry.modules[0].relative_change == wet.modules[0].relative_change);
    CHECK(dry.bytes == wet.bytes);
    CHECK(dry.verified == 0);
  }
  CHECK(test::names_in(m.dir.path()) == std::set<std::string>{"base model", "adapter", "out"});
  m.options.dry_run = false;
  m.options.output = "";
  CHECK(m.refused<ether::io_error>({"the output's path is ''"}) == "");
}

TEST_CASE("a dry run refuses the places that a merge refuses") {
  ShardedModel m;
  fs::create_directory(m.dir / "mine");
  test::write_file(m.dir / "mine/thesis.tex", "years");
  test::write_file(m.dir / "file", "old");
  fs::create_symlink("nowhere", m.dir / "link");
  struct Case {
    fs::path output;
    bool replace;
    const char* sentence;
  };
  for (const bool dry_run : {true, false})
    for (const Case& c : {Case{m.dir / "absent/out", false, "does not exist"},
                          Case{m.dir / "link", true, "symbolic link"},
                          Case{m.base / "out", true, "is, holds or lies inside"},
                          Case{m.adapter, true, "is, holds or lies inside"},
                          Case{m.dir / "file", false, "exists; --force replaces it"},
                          Case{m.dir / "file", true, "is not replaced by a directory"},
                          Case{m.dir / "mine", true, "without a checkpoint or an adapter"}}) {
      m.options.output = c.output, m.options.replace = c.replace, m.options.dry_run = dry_run;
      CAPTURE(c.output, dry_run);
      CHECK(m.refused<ether::io_error>({c.sentence}) == "");
    }
  // A file for a base that is one: its kind is then a file's.
  test::SafetensorsBuilder builder;
  test::add(builder, "layers.0.q.weight", m.q);
  m.options.base = m.dir / "one.safetensors";
  test::write_file(m.options.base, builder.file());
  m.save({{"layers.0.q", 5}});
  m.options.dry_run = true;
  m.options.output = m.dir / "new.safetensors";
  m.options.replace = true;
  CHECK_NOTHROW(ether::merge_checkpoint(m.options));
  fs::create_directory(m.options.output);
  CHECK(m.refused<ether::io_error>({"is not replaced by a file"}) == "");
}

TEST_CASE("a merge ended by its progress callback leaves nothing") {
  ShardedModel m;
  m.options.threads = 1;  // others may still finish a task and say so
  std::vector<Progress> seen;
  m.options.progress = [&](const Progress& p) { seen.push_back(p); };
  ether::merge_checkpoint(m.options);
  fs::remove_all(m.options.output);

  // Each weight, each stretch of other tensors, the disk; then each tensor that is verified.
  REQUIRE(seen.size() > 6);
  std::size_t verifying = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].bytes_done <= seen[i].bytes_total);
    if (seen[i].stage == Progress::Stage::verify) ++verifying;
    if (i > 0) CHECK(seen[i].stage >= seen[i - 1].stage);
  }
  CHECK(verifying == 4);
  CHECK(seen.back().bytes_done == 2 * 96 * 2 + 5 * 4 + 16 * 4);
  CHECK(seen.back().bytes_total == seen.back().bytes_done);
  const Progress &last = seen[seen.size() - 5], &before = seen[seen.size() - 6];
  CHECK(last.bytes_done == last.bytes_total);  // once for the last piece, once for the disk
  CHECK(before.bytes_done == last.bytes_done);

  for (std::size_t end = 1; end <= seen.size(); ++end) {
    CAPTURE(end);
    std::size_t calls = 0;
    m.options.progress = [&](const Progress&) {
      if (++calls == end) throw ether::io_error("enough");
    };
    CHECK(m.refused<ether::io_error>({"enough"}) == "");
    CHECK(calls == end);
    CHECK(test::names_in(m.dir.path()) == std::set<std::string>{"base model", "adapter"});
  }
}
