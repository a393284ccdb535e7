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
                          Case{m.dir / "file", false, "' exists"},
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

TEST_CASE("the relative change of weights of any size") {
  struct Case {
    ether::Dtype dtype;
    double size;
  };
  for (const Case& c : {Case{ether::Dtype::bf16, 3e19}, Case{ether::Dtype::bf16, 1e-24},
                        Case{ether::Dtype::bf16, 1e-30}, Case{ether::Dtype::bf16, 1e36},
                        Case{ether::Dtype::f32, 1e36}, Case{ether::Dtype::f32, 1e-30},
                        Case{ether::Dtype::f64, 1e155}, Case{ether::Dtype::f64, 1e-200},
                        Case{ether::Dtype::f64, 1e300}, Case{ether::Dtype::bf16, 1.0}}) {
    CAPTURE(to_string(c.dtype), c.size);
    ShardedModel m;
    const test::Stored weight(c.dtype, test::random_matrix<double>(64, 48, 1) * c.size);
    test::SafetensorsBuilder file;
    test::add(file, "q.weight", weight);
    m.options.base = m.dir / "one.safetensors";
    test::write_file(m.options.base, file.file());
    m.save({{"q", 5}}, 64, 48);
    const auto report = ether::merge_checkpoint(m.options);
    const test::Matrix unit = weight.values / c.size;
    const test::Matrix merged =
        test::read_matrix(ether::Checkpoint(m.options.output), "q.weight") / c.size;
    const double change = (merged - unit).norm() / unit.norm();
    CHECK(std::fabs(report.modules[0].relative_change - change) <= 1e-5 * change);
  }
}

TEST_CASE("a strength that is too large is said to be") {
  ShardedModel m;
  m.options.strength = 8e307;
  CHECK(m.refused<ether::format_error>({"infinite or not a number", "strength is too large"}) ==
        "");
}

TEST_CASE("threads share the memory that a job may take") {
  using ether::detail::threads_in_memory;
  constexpr std::uint64_t mib = 1 << 20;
  CHECK(threads_in_memory(2, mib, 0) == 2);
  CHECK(threads_in_memory(1000, mib, 0) == 56);
  CHECK(threads_in_memory(1000, mib, 100 * mib) == 256);
  CHECK(threads_in_memory(16, 1000 * mib, 100 * mib) == 1);

  // Several adapters of small and large blocks: sums of many rows, which cannot be fewer.
  const ether::Index rows = 1024, cols = 1024;
  ether::WeightTransform small(rows, cols, false), both(rows, cols, false);
  const auto output = [&](ether::Index blocks) {
    return ether::Adapter<double>::random(
        test::config(ether::Variant::ether, ether::Sides::output, 1, blocks), rows, cols, 1);
  };
  small.apply(output(512));
  CHECK(small.thread_bytes() <= 2 * mib);
  both.apply(output(512));
  both.apply(output(1));
  CHECK(both.group_rows() == rows);
  CHECK(both.thread_bytes() >= (512 + 1) * 8 * std::uint64_t(cols));
}
