// Fresh adapters for a base, and two checkpoints compared.

#include "io/support/check_message.hpp"
#include "io/support/model.hpp"

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
