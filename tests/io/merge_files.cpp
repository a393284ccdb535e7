// What merging does to files: shards, everything beside them, and what is refused.

#include "io/support/refused_unless.hpp"
#include "io/support/sharded_model.hpp"

using ether::Dtype;
namespace fs = std::filesystem;
using test::Matrix;
using test::snapshot;
using test::Stored;
using test::TemporaryDirectory;
using test::write_file;

TEST_CASE("a sharded model keeps its files") {
  test::ShardedModel m;
  const auto base_before = snapshot(m.base);
  const auto report = ether::merge_checkpoint(m.options);
  CHECK(snapshot(m.base) == base_before);
  CHECK(test::names_in(m.dir.path()) == std::set<std::string>{"base model", "adapter", "out"});

  auto out = snapshot(m.options.output);
  CHECK(report.bytes == [&] {
    std::uint64_t bytes = 0;
    for (const auto& [name, content] : out) bytes += content.size();
    return bytes;
  }());
  for (const auto& [name, content] : base_before)
    if (name != "model-1.safetensors" && name != "model.safetensors.index.json")
      CHECK(out[name] == content);
  CHECK(out.size() == base_before.size());
  const auto index = nlohmann::json::parse(out["model.safetensors.index.json"]);
  CHECK(index == nlohmann::json::parse(base_before.at("model.safetensors.index.json")));

  const ether::Checkpoint merged(m.options.output);
  CHECK(test::Rounding(test::read_matrix(merged, "layers.0.q.weight"), m.expected(m.q, 5),
                       Dtype::bf16)
            .wrong == 0);
  CHECK(
      test::Rounding(test::read_matrix(merged, "layers.0.k.weight"), m.expected(m.k, 6), Dtype::f16)
          .wrong == 0);
  const auto& header = merged.find("norm.weight")->shard->header();
  CHECK(header.metadata == ether::Metadata{{"format", "pt"}});
  CHECK(header.data_begin % 8 == 0);
  CHECK(report.modules.size() == 2);
  CHECK(report.modules[0].name == "layers.0.k");
  CHECK(report.verified == 192);
}

TEST_CASE("total_size is written right") {
  test::ShardedModel m;
  m.write_index(17);
  m.options.dtype = Dtype::f32;
  const auto report = ether::merge_checkpoint(m.options);
  REQUIRE(report.warnings.size() == 1);
  CHECK_THAT(report.warnings[0], Catch::Matchers::ContainsSubstring("total_size 17"));
  const auto index =
      nlohmann::json::parse(test::read_file(m.options.output / "model.safetensors.index.json"));
  CHECK(index["metadata"]["total_size"] == 2 * 96 * 4 + 5 * 4 + 16 * 4);
  CHECK(index["metadata"]["by"] == "hand");
  CHECK(ether::Checkpoint(m.options.output).warnings().empty());
}

TEST_CASE("links in a base become files") {
  test::ShardedModel m;
  const fs::path blobs = m.dir / "blobs";
  fs::create_directory(blobs);
  for (const char* name : {"model-1.safetensors", "config.json"}) {
    fs::rename(m.base / name, blobs / name);
    fs::create_symlink(blobs / name, m.base / name);
  }
  fs::rename(m.base / "assets", blobs / "assets");
  fs::create_directory_symlink(blobs / "assets", m.base / "assets");
  ether::merge_checkpoint(m.options);
  for (const auto& entry : fs::recursive_directory_iterator(m.options.output))
    CHECK_FALSE(entry.is_symlink());
  CHECK(test::read_file(m.options.output / "assets" / "t\xc3\xb6kens.txt") == "a\nb\n");
  CHECK(test::read_file(m.options.output / "config.json") ==
        test::read_file(m.base / "config.json"));

  m.options.output = blobs / "out";  // beside what the base's links point to: allowed
  CHECK_NOTHROW(ether::merge_checkpoint(m.options));
  fs::create_directory_symlink(m.base, m.base / "loop");
  m.options.output = m.dir / "other";
  CHECK(m.refused<ether::io_error>({"loop", "link to a directory that holds it"}) == "");
}

TEST_CASE("other weight files are copied and warned of") {
  test::ShardedModel m;
  write_file(m.base / "pytorch_model.bin", "old");
  const auto report = ether::merge_checkpoint(m.options);
  REQUIRE(report.warnings.size() == 1);
  CHECK_THAT(report.warnings[0], Catch::Matchers::ContainsSubstring("pytorch_model.bin"));
  CHECK(test::read_file(m.options.output / "pytorch_model.bin") == "old");
}

TEST_CASE("elements beyond the range of the dtype") {
  test::ShardedModel m;
  m.k = Stored(Dtype::f16, Matrix::Constant(8, 12, 60000));
  test::SafetensorsBuilder first;
  test::add(first, "layers.0.q.weight", m.q);
  test::add(first, "layers.0.k.weight", m.k);
  write_file(m.base / "model-1.safetensors", first.ones("norm.weight", 1, 5).file());
  const Matrix expected = m.expected(m.k, 6);
  const auto beyond = (expected.array().abs() >= 65520).count();  // rounds to 65536
  REQUIRE(beyond > 0);
  CHECK(m.refused<ether::parameter_error>({"layers.0.k", std::to_string(beyond) + " of 96",
                                           "range of F16", "choose a wider dtype"}) == "");
  CHECK(test::refused_unless(ether::Refusal::Option::allow_overflow,
                             [&] { ether::merge_checkpoint(m.options); }));
  m.options.dry_run = true;
  CHECK(m.refused<ether::parameter_error>({"range of F16"}) == "");
  m.options.dry_run = false;
  m.options.dtype = Dtype::bf16;
  CHECK_NOTHROW(ether::merge_checkpoint(m.options));
  m.options.dtype = {};
  m.options.allow_overflow = m.options.replace = true;
  const auto report = ether::merge_checkpoint(m.options);
  CHECK(report.modules[0].overflowed == static_cast<std::uint64_t>(beyond));
  REQUIRE(report.warnings.size() == 1);
  CHECK_THAT(report.warnings[0], Catch::Matchers::ContainsSubstring("were written as infinities"));
  m.options.dry_run = true;
  CHECK_THAT(ether::merge_checkpoint(m.options).warnings.at(0),
             Catch::Matchers::ContainsSubstring("become infinities"));
  m.options.dry_run = false;
  const Matrix merged = test::read_matrix(ether::Checkpoint(m.options.output), "layers.0.k.weight");
  CHECK(merged.array().isInf().count() == beyond);

  m.options.allow_overflow = false;
  m.k.values(0, 0) = std::nan("");
  test::SafetensorsBuilder with_nan;
  test::add(with_nan, "layers.0.q.weight", Stored(Dtype::bf16, m.k.values));
  test::add(with_nan, "layers.0.k.weight", Stored(Dtype::bf16, m.q.values));
  write_file(m.base / "model-1.safetensors", with_nan.ones("norm.weight", 1, 5).file());
  CHECK(m.refused<ether::format_error>({"layers.0.q", "not a number", "base"}) == "");
}

TEST_CASE("a tied output head is not adapted in vain") {
  test::ShardedModel m;
  m.save({{"lm_head", 5}}, 4, 4);
  CHECK_NOTHROW(ether::merge_checkpoint(m.options));
  m.options.replace = true;
  write_file(m.base / "config.json", R"({"tie_word_embeddings": true})");
  CHECK(m.refused<ether::format_error>({"lm_head", "tie_word_embeddings"}) == "");
  m.save({{"model.lm_head", 5}}, 4, 4);
  CHECK(m.refused<ether::format_error>({"'model.lm_head.weight'", "tied"}) == "");
}

TEST_CASE("outputs and adapters that are refused") {
  test::ShardedModel m;
  for (const fs::path& output :
       {m.base, m.base / "out", m.dir.path(), m.adapter / "out", m.adapter})
    for (const bool replace : {false, true}) {
      m.options.output = output;
      m.options.replace = replace;
      CHECK(m.refused<ether::io_error>({"is, holds or lies inside"}) == "");
    }
  m.options.replace = false;
  m.options.output = m.dir / "absent" / "out";
  CHECK(m.refused<ether::io_error>({"absent", "does not exist"}) == "");
  m.options.output = m.dir / "out";
  m.save({{"layers.0.q", 5}, {"layers.1.q", 6}});
  CHECK(m.refused<ether::format_error>({"'layers.1.q.weight'"}) == "");
  m.save({{"layers.0.q", 5}}, 8, 16);
  CHECK(m.refused<ether::parameter_error>({"16 wide", "(8, 12)", "input width 12"}) == "");
  m.options.adapters = {};
  CHECK(m.refused<ether::parameter_error>({"no adapter"}) == "");
  m.options.adapters = {m.dir / "absent"};
  CHECK(m.refused<ether::io_error>({"cannot open", "absent"}) == "");
  m.options.adapters = {m.base};
  CHECK(m.refused<ether::io_error>({m.base.string(), "no adapter", "adapter_config.json"}) == "");
  m.options.adapters = {m.base / "config.json"};
  CHECK(m.refused<ether::io_error>({"is a file; give the adapter's directory"}) == "");
  m.save({{"layers.0.q", 5}});
  m.options.adapters = {m.adapter};
  m.options.output = m.dir / "out.safetensors";
  CHECK(m.refused<ether::parameter_error>({"the base is a directory", "out.safetensors"}) == "");
}

TEST_CASE("a single file gives a file or a directory") {
  test::ShardedModel m;
  test::SafetensorsBuilder builder;
  test::add(builder, "layers.0.q.weight", m.q);
  m.options.base = m.dir / "one.safetensors";
  write_file(m.options.base, builder.file());
  m.save({{"layers.0.q", 5}});
  m.options.output = m.dir / "merged";
  ether::merge_checkpoint(m.options);
  CHECK(test::names_in(m.options.output) == std::set<std::string>{"model.safetensors"});
  m.options.output = m.dir / "merged.safetensors";
  ether::merge_checkpoint(m.options);
  CHECK(fs::is_regular_file(m.options.output));
  CHECK(test::read_file(m.options.output) ==
        test::read_file(m.dir / "merged" / "model.safetensors"));
}
