// Fresh adapters for a base, and two checkpoints compared.

#include "io/support/model.hpp"
#include "support/check_message.hpp"

using ether::Checkpoint;
using ether::Dtype;
using ether::ModulePattern;
using test::Matrix;
using test::Stored;
using test::TemporaryDirectory;

namespace {

const double not_a_number = std::nan(""), infinite = std::numeric_limits<double>::infinity();

ether::CheckpointDiff diff(const test::SafetensorsBuilder& a, const test::SafetensorsBuilder& b) {
  static const TemporaryDirectory dir;
  static std::vector<std::unique_ptr<Checkpoint>> open;  // the result refers to them
  for (const auto& file : {a, b}) {
    const auto path = dir / (std::to_string(open.size()) + ".safetensors");
    test::write_file(path, file.file());
    open.push_back(std::make_unique<Checkpoint>(path));
  }
  return ether::diff_checkpoints(*open[open.size() - 2], *open.back());
}

test::SafetensorsBuilder one(Dtype dtype, const Matrix& values) {
  test::SafetensorsBuilder builder;
  test::add(builder, "t", Stored(dtype, values));
  return builder;
}

}  // namespace

TEST_CASE("init writes an adapter for the selected modules") {
  const TemporaryDirectory dir;
  test::SafetensorsBuilder file;
  file.ones("model.embed_tokens.weight", 10, 8).ones("lm_head.weight", 10, 8);
  file.ones("layers.0.q_proj.weight", 8, 8).ones("layers.0.up_proj.weight", 16, 8);
  file.add("layers.0.norm.weight", "F32", {8}, std::string(32, 'x'))
      .ones("layers.0.q_proj.bias", 1, 8);
  test::write_file(dir / "base.safetensors", file.file());
  ether::InitOptions options;
  options.base = dir / "base.safetensors";
  options.output = dir / "adapter";
  options.config.variant = ether::Variant::ether_plus;
  options.config.sides = ether::Sides::both;
  options.config.num_blocks = 4;
  options.config.target_modules.emplace("all-linear");
  options.seed = 7;
  const auto report = ether::init_adapter(options);
  CHECK(report.modules == std::vector<std::string>{"layers.0.q_proj", "layers.0.up_proj"});
  CHECK(report.parameters == 2 * (8 + 8) + 2 * (16 + 8));

  const ether::AdapterFile adapter(options.output);
  CHECK(adapter.match(Checkpoint(options.base)).size() == 2);
  const auto up = adapter.adapter<float>("layers.0.up_proj", 16, 8);
  const auto expected = ether::Adapter<float>::random(options.config.of_module("layers.0.up_proj"),
                                                      16, 8, options.seed + 1);
  CHECK(std::memcmp(up.data(), expected.data(), 4 * static_cast<std::size_t>(up.size())) == 0);

  // ETHER+ starts at the identity: merging it changes nothing, to the last bit.
  ether::MergeOptions merge;
  merge.base = options.base, merge.adapters = {options.output};
  merge.output = dir / "merged.safetensors";
  CHECK(ether::merge_checkpoint(merge).modules[0].relative_change < 1e-15);
  CHECK_FALSE(ether::diff_checkpoints(Checkpoint(merge.base), Checkpoint(merge.output)).differs(0));

  CHECK_REFUSED(ether::init_adapter(options), ether::io_error, "exists");
  options.replace = true;
  options.config.num_blocks = 3;
  CHECK_REFUSED(ether::init_adapter(options), ether::parameter_error, "layers.0.q_proj",
                "input_blocks is 3", "input width is 8");
  options.config.target_modules.emplace(std::vector<std::string>{"o_proj"});
  CHECK_REFUSED(ether::init_adapter(options), ether::format_error, "selects none");
  options.config.target_modules.reset();
  CHECK_REFUSED(ether::init_adapter(options), ether::parameter_error, "target_modules");
  CHECK(ether::AdapterFile(options.output).modules().size() == 2);
}

TEST_CASE("a fresh ETHER+ adapter changes no bit, zeros neither") {
  const TemporaryDirectory dir;
  for (const bool fan_in_fan_out : {false, true})
    for (const Dtype dtype : {Dtype::f64, Dtype::bf16}) {
      CAPTURE(fan_in_fan_out, to_string(dtype));
      Matrix weight = test::random_matrix<double>(12, 20, 4);
      weight(3, 7) = 0, weight(4, 8) = -0.0, weight(5, 9) = 1e-300;
      test::SafetensorsBuilder file;
      test::add(file, "q.weight", Stored(dtype, weight));
      test::write_file(dir / "base.safetensors", file.file());
      ether::InitOptions options;
      options.base = dir / "base.safetensors", options.output = dir / "adapter";
      options.config.variant = ether::Variant::ether_plus;
      options.config.sides = ether::Sides::both;
      options.config.num_blocks = 2;
      options.config.fan_in_fan_out = fan_in_fan_out;
      options.config.target_modules.emplace(std::vector<std::string>{"q"});
      options.replace = true;
      ether::init_adapter(options);
      ether::MergeOptions merge;
      merge.base = options.base, merge.adapters = {options.output};
      merge.output = dir / "out.safetensors", merge.replace = merge.verify = true;
      const auto same = [&] {
        const Checkpoint a(merge.base), b(merge.output);
        return std::memcmp(a.find("q.weight")->data(), b.find("q.weight")->data(),
                           a.find("q.weight")->info->bytes()) == 0;
      };
      CHECK(ether::merge_checkpoint(merge).modules[0].relative_change == 0);
      CHECK(same());
      CHECK(ether::unmerge_checkpoint(merge).modules[0].relative_change == 0);
      CHECK(same());
      merge.adapters.push_back(options.output);
      ether::merge_checkpoint(merge);
      CHECK(same());
    }
}

TEST_CASE("blocks of a trained ETHER+ adapter that stayed the identity") {
  const TemporaryDirectory dir;
  Matrix weight = test::random_matrix<double>(8, 12, 4);
  weight(2, 3) = weight(2, 9) = 0;
  test::SafetensorsBuilder file;
  test::add(file, "q.weight", Stored(Dtype::f64, weight));
  test::write_file(dir / "base.safetensors", file.file());
  auto config = test::config(ether::Variant::ether_plus, ether::Sides::input, 2, 1);
  auto adapter = ether::Adapter<float>::random(config, 8, 12, 5);
  adapter.parameters(ether::Side::input)(1, 8) += 0.1f;  // of the second block
  ether::save_adapter<float>(dir / "adapter", test::file_config(config), {{"q", adapter}});
  ether::MergeOptions merge;
  merge.base = dir / "base.safetensors", merge.adapters = {dir / "adapter"};
  merge.output = dir / "out.safetensors";
  ether::merge_checkpoint(merge);
  const Matrix merged = test::read_matrix(Checkpoint(merge.output), "q.weight");
  CHECK((merged.leftCols(6).array() == weight.leftCols(6).array()).all());
  CHECK((merged.rightCols(6).array() != weight.rightCols(6).array()).any());
}

TEST_CASE("init refuses names that fit nothing, and a layout that merge refuses") {
  const TemporaryDirectory dir;
  test::SafetensorsBuilder file;
  file.ones("l.q_proj.weight", 4, 8).ones("l.v_proj.weight", 4, 8);
  file.add("l.q_proj.bias", "F32", {8}, std::string(32, '\0'));
  test::write_file(dir / "base.safetensors", file.file());
  ether::InitOptions options;
  options.base = dir / "base.safetensors", options.output = dir / "adapter";
  const auto target = [&](std::vector<std::string> names) {
    options.config.target_modules.emplace(std::move(names));
  };
  const auto before = test::names_in(dir.path());
  target({"q_proj", "v_prj"});
  CHECK_REFUSED(ether::init_adapter(options), ether::format_error, "'v_prj'", "selects none");
  target({"lm_head"});
  CHECK_REFUSED(ether::init_adapter(options), ether::format_error, "'lm_head'", "tied");
  target({"q_proj"});
  options.config.num_blocks_pattern["v_proj"] = 2;
  CHECK_REFUSED(ether::init_adapter(options), ether::format_error, "num_blocks_pattern",
                "'v_proj'");
  options.config.num_blocks_pattern.clear();
  options.config.num_blocks = 2, options.config.fan_in_fan_out = true;
  options.config.block_layout = ether::BlockLayout::row_chunk;
  CHECK_REFUSED(ether::init_adapter(options), ether::parameter_error, "module 'l.q_proj'",
                "row_chunk with 2 input blocks", "stored as (in, out)");
  options.config.fan_in_fan_out = false;
  int calls = 0;
  for (int end = 1; end <= 3; ++end) {  // before it computes, while it writes, before its name
    options.progress = [&](const ether::Progress&) {
      if (++calls == end) throw ether::io_error("enough");
    };
    calls = 0;
    CHECK_REFUSED(ether::init_adapter(options), ether::io_error, "enough");
  }
  CHECK(test::names_in(dir.path()) == before);
  options.progress = {};
  const auto report = ether::init_adapter(options);
  REQUIRE(report.warnings.size() == 1);
  CHECK_THAT(report.warnings[0], Catch::Matchers::ContainsSubstring("'l.q_proj.bias'"));
}

TEST_CASE("init tells what is odd in the base") {
  const TemporaryDirectory dir;
  test::SafetensorsBuilder file;
  file.ones("q.weight", 4, 4);
  test::write_file(dir / "model.safetensors", file.file());
  test::write_file(dir / "model.safetensors.index.json", "{}");  // the single file is read
  const TemporaryDirectory out;
  ether::InitOptions options;
  options.base = dir.path(), options.output = out / "adapter";
  options.config.target_modules.emplace("all-linear");
  const auto report = ether::init_adapter(options);
  REQUIRE(report.warnings.size() == 1);
  CHECK_THAT(report.warnings[0], Catch::Matchers::ContainsSubstring("index.json"));
}

TEST_CASE("a comparison tells how far it is, and can be ended") {
  const TemporaryDirectory dir;
  test::SafetensorsBuilder file;
  file.ones("a", 2, 3).ones("b", 1, 1).add("none", "F32", {0}, "");
  test::write_file(dir / "a.safetensors", file.file());
  const Checkpoint a(dir / "a.safetensors");
  std::vector<std::uint64_t> done;
  ether::diff_checkpoints(a, a, 1, [&](const ether::Progress& p) {
    CHECK(p.bytes_total == 28);
    done.push_back(p.bytes_done);
  });
  CHECK(done == std::vector<std::uint64_t>{24, 28, 28});
  int calls = 0;
  const auto end = [&](const ether::Progress&) {
    ++calls;
    throw ether::io_error("enough");
  };
  CHECK_REFUSED(ether::diff_checkpoints(a, a, 1, end), ether::io_error, "enough");
  CHECK(calls == 1);
}

TEST_CASE("checkpoints that are the same") {
  test::SafetensorsBuilder a, b;
  a.ones("x", 2, 3).add("i", "I32", {2}, "12345678").add("none", "F32", {0}, "");
  b.add("none", "F32", {0}, "").add("i", "I32", {2}, "12345678").ones("x", 2, 3);
  const auto same = diff(a, b);
  CHECK_FALSE(same.differs(0));
  CHECK(same.tensors.size() == 3);
  for (const auto& tensor : same.tensors) CHECK(tensor.same_bytes);
  const Matrix nan = Matrix::Constant(2, 2, not_a_number);
  CHECK_FALSE(diff(one(Dtype::f32, nan), one(Dtype::f32, nan)).differs(0));
}

TEST_CASE("differences of numbers of any size") {
  const Matrix ones = test::random_matrix<double>(7, 5, 1);
  for (const double size : {1e-300, 1e-162, 1e-100, 1.0, 1e100, 1e155, 1e300}) {
    CAPTURE(size);
    const Matrix a = ones * size;
    for (const double change : {1e-5, 1.0, 1e5}) {
      const auto found = diff(one(Dtype::f64, a), one(Dtype::f64, a * (1 + change))).tensors[0];
      CHECK(std::fabs(found.relative - change) <= 1e-9 * change);
    }
  }
  // All sizes in one tensor: the largest counts.
  Matrix a(1, 3), b(1, 3);
  a << 1e-200, 1, 1e200;
  b << 1e-200, 2, 1.5e200;
  CHECK(std::fabs(diff(one(Dtype::f64, a), one(Dtype::f64, b)).tensors[0].relative - 0.5) < 1e-9);
}

TEST_CASE("checkpoints that differ") {
  test::SafetensorsBuilder more;
  more.ones("t", 2, 2).ones("extra", 1, 1);
  const auto missing = diff(more, one(Dtype::f32, Matrix::Constant(2, 2, 1)));
  CHECK(missing.only_in_a == std::vector<std::string>{"extra"});
  CHECK(missing.only_in_b.empty());
  CHECK(missing.differs(1e300));

  Matrix a = test::random_matrix<double>(40, 30, 1), b = a;
  b(39, 29) += 0.5, b(3, 4) -= 0.25;
  const auto values = diff(one(Dtype::f64, a), one(Dtype::f64, b));
  CHECK(std::fabs(values.tensors[0].max_absolute - 0.5) < 1e-12);
  const double relative = (b - a).norm() / a.norm();
  CHECK(std::fabs(values.tensors[0].relative - relative) < 1e-12 * relative);
  CHECK(values.differs(0));
  CHECK(values.differs(relative * 0.99));
  CHECK_FALSE(values.differs(relative * 1.01));

  const Matrix ones = Matrix::Constant(2, 2, 1);
  const auto dtypes = diff(one(Dtype::f32, ones), one(Dtype::bf16, ones));
  CHECK(dtypes.tensors[0].max_absolute == 0);
  CHECK(dtypes.differs(0));
  CHECK_FALSE(dtypes.differs(1e-9));
  CHECK(diff(one(Dtype::f32, ones), one(Dtype::f32, Matrix::Constant(1, 4, 1))).differs(1e300));

  Matrix nan = ones, inf = ones;
  nan(0, 1) = not_a_number, inf(0, 1) = infinite;
  for (const Matrix& odd : {nan, inf}) {
    CHECK(diff(one(Dtype::f32, ones), one(Dtype::f32, odd)).differs(1e300));
    CHECK(diff(one(Dtype::f32, odd), one(Dtype::f32, ones)).differs(1e300));
    CHECK(diff(one(Dtype::f32, odd), one(Dtype::f32, ones)).tensors[0].max_absolute == infinite);
  }
  const Matrix zero = Matrix::Zero(2, 2);
  CHECK(diff(one(Dtype::f32, zero), one(Dtype::f32, ones)).differs(1e300));

  test::SafetensorsBuilder i, j;
  i.add("i", "I32", {2}, "12345678");
  j.add("i", "I32", {2}, "12345679");
  CHECK(diff(i, j).differs(1e300));
  CHECK_FALSE(diff(i, j).tensors[0].comparable);
}
