// Merged weights on disk against the dense H in double, rounded once.

#include "io/support/model.hpp"
#include "support/check_message.hpp"

using ether::BlockLayout;
using ether::Dtype;
using ether::Sides;
using ether::Variant;
using test::config;
using test::Index;
using test::Matrix;
using test::TemporaryDirectory;

namespace {

struct Case {
  const char* name;
  Dtype dtype;
  Index out, in;
  bool fan_in_fan_out;
  std::vector<test::AdapterConfig> adapters;
};

constexpr auto ether_ = Variant::ether, plus = Variant::ether_plus;
constexpr auto chunked = BlockLayout::row_chunk;

const Case cases[] = {
    {"input", Dtype::bf16, 24, 40, false, {config(ether_, Sides::input, 5, 1)}},
    {"output", Dtype::bf16, 24, 40, false, {config(plus, Sides::output, 1, 3)}},
    {"both", Dtype::bf16, 264, 40, false, {config(plus, Sides::both, 8, 3)}},
    {"both, half", Dtype::f16, 24, 1028, false, {config(plus, Sides::both, 4, 1)}},
    {"both, float", Dtype::f32, 24, 40, false, {config(plus, Sides::both, 4, 8)}},
    {"both, double", Dtype::f64, 24, 40, false, {config(plus, Sides::both, 4, 8)}},
    {"blocks of one row", Dtype::f16, 24, 7, false, {config(ether_, Sides::both, 7, 24)}},
    {"one by one", Dtype::bf16, 1, 1, false, {config(ether_, Sides::both, 1, 1)}},
    {"strength",
     Dtype::bf16,
     24,
     40,
     false,
     {config(plus, Sides::both, 4, 2, BlockLayout::diagonal, 0.37)}},
    {"row_chunk", Dtype::bf16, 24, 40, false, {config(plus, Sides::both, 4, 2, chunked)}},
    {"row_chunk, 5 in 24 rows",
     Dtype::f32,
     24,
     40,
     false,
     {config(plus, Sides::both, 5, 2, chunked)}},
    {"stored as (in, out), input", Dtype::bf16, 36, 40, true, {config(ether_, Sides::input, 5, 1)}},
    {"stored as (in, out), output", Dtype::f16, 36, 40, true, {config(plus, Sides::output, 1, 6)}},
    {"stored as (in, out), both", Dtype::bf16, 36, 40, true, {config(plus, Sides::both, 5, 6)}},
    {"two",
     Dtype::bf16,
     24,
     40,
     false,
     {config(plus, Sides::both, 4, 2), config(ether_, Sides::both, 5, 3)}},
    {"two, the second row_chunk",
     Dtype::f16,
     24,
     40,
     false,
     {config(plus, Sides::both, 4, 2), config(plus, Sides::both, 5, 3, chunked)}},
    {"three",
     Dtype::f32,
     24,
     40,
     false,
     {config(plus, Sides::output, 1, 12), config(ether_, Sides::input, 8, 1),
      config(plus, Sides::both, 2, 4, chunked)}},
    {"two, stored as (in, out)",
     Dtype::bf16,
     24,
     40,
     true,
     {config(plus, Sides::both, 4, 2), config(ether_, Sides::both, 5, 3)}},
};

/// The weight in a base file, and the adapters beside it.
struct Model {
  TemporaryDirectory dir;
  Matrix weight;  // (out, in)
  std::vector<ether::Adapter<double>> adapters;
  ether::MergeOptions options;

  explicit Model(const Case& c, std::uint64_t seed) {
    const Matrix exact = 0.02 * test::random_matrix<double>(c.out, c.in, seed);
    const test::Stored stored(c.dtype, c.fan_in_fan_out ? Matrix(exact.transpose()) : exact);
    weight = c.fan_in_fan_out ? Matrix(stored.values.transpose()) : stored.values;
    test::SafetensorsBuilder file;
    file.add("odd", "U8", {3}, "abc");  // so that the weight is not aligned
    test::add(file, "m.weight", stored)
        .add("empty", "F32", {0, 7}, "")
        .add("scalar", "I64", {}, "12345678");
    test::write_file(dir / "base.safetensors", file.file());
    options.base = dir / "base.safetensors";
    options.output = dir / "out.safetensors";
    for (const auto& of : c.adapters) {
      adapters.push_back(test::random_adapter<double>(of, c.out, c.in, ++seed));
      const auto path = dir / ("adapter " + std::to_string(seed));
      ether::save_adapter<double>(path, test::file_config(of, c.fan_in_fan_out),
                                  {{"m", adapters.back()}});
      options.adapters.push_back(path);
    }
  }

  Matrix expected() const {
    Matrix w = weight;
    for (const auto& adapter : adapters) w = test::Oracle(adapter, w).merged();
    return w;
  }
  Matrix merged(const Case& c) const {
    const Matrix stored = test::read_matrix(ether::Checkpoint(options.output), "m.weight");
    return c.fan_in_fan_out ? Matrix(stored.transpose()) : stored;
  }
};

/// The largest condition number of a block of one side; 1 where it is not adapted.
double condition(const test::Oracle& oracle, const Matrix& raw, Index blocks) {
  double largest = 1;
  for (Index k = 0; k < blocks && raw.rows() != 0; ++k) {
    const auto values = Eigen::JacobiSVD<Matrix>(oracle.block(raw, blocks, k)).singularValues();
    largest = std::max(largest, values(0) / values(values.size() - 1));
  }
  return largest;
}

}  // namespace

TEST_CASE("a merged weight is the exact one, rounded once") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Model model(c, 100);
    model.options.verify = true;
    model.options.threads = 2;
    const auto report = ether::merge_checkpoint(model.options);
    const Matrix expected = model.expected();
    const test::Rounding rounding(model.merged(c), expected, c.dtype);
    CHECK(rounding.wrong == 0);
    CHECK(rounding.off_by_more_than_one == 0);

    REQUIRE(report.modules.size() == 1);
    const double change = (model.merged(c) - model.weight).norm() / model.weight.norm();
    CHECK(std::fabs(report.modules[0].relative_change - change) <= 1e-6 * change);
    CHECK(report.modules[0].out == c.out);
    CHECK(report.modules[0].in == c.in);
    CHECK(report.modules[0].adapters.size() == c.adapters.size());
    CHECK(report.verified == static_cast<std::uint64_t>(c.out * c.in));
    CHECK(report.warnings.empty());
    CHECK(report.bytes == std::filesystem::file_size(model.options.output));

    const ether::Checkpoint base(model.options.base), merged(model.options.output);
    CHECK(merged.tensors().size() == base.tensors().size());
    for (const auto& [name, tensor] : base.tensors()) {
      const auto* const other = merged.find(name);
      REQUIRE(other != nullptr);
      CHECK(other->info->shape == tensor.info->shape);
      CHECK(other->info->dtype == tensor.info->dtype);
      if (name != "m.weight" && tensor.info->bytes() > 0)
        CHECK(std::memcmp(other->data(), tensor.data(), tensor.info->bytes()) == 0);
    }
  }
}

TEST_CASE("a large merge: every element of 16 bits is nearest to the exact result") {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    const Case c{"large", dtype, 768, 1024, false, {config(plus, Sides::both, 8, 3)}};
    Model model(c, 7);
    ether::merge_checkpoint(model.options);
    const Matrix expected = model.expected(), merged = model.merged(c);
    const test::Rounding rounding(merged, expected, dtype);
    CHECK(rounding.wrong == 0);
    // The counting can fail: a weight computed in float and then rounded is sometimes wrong.
    const Matrix in_float = expected.cast<float>().cast<double>() * (1 + 3e-7);
    CHECK(test::Rounding(test::Stored(dtype, in_float).values, expected, dtype).wrong > 0);
    const Matrix zero = Matrix::Zero(768, 1024);
    CHECK(test::Rounding(zero, expected, dtype).off_by_more_than_one > 0);
    const Matrix nan = Matrix::Constant(768, 1024, std::nan(""));
    CHECK(test::Rounding(nan, expected, dtype).wrong == 768 * 1024);
  }
}

TEST_CASE("the bytes do not depend on the number of threads") {
  // Several groups of rows, a thread each, of blocks within a panel; in layout row_chunk; for two
  // adapters; and a block of several panels.
  auto row_chunk = config(plus, Sides::both, 8, 128);
  row_chunk.layout = ether::BlockLayout::row_chunk;
  const auto diagonal = config(plus, Sides::both, 8, 128);
  const std::vector<std::vector<ether::AdapterConfig>> several = {
      {diagonal},
      {row_chunk},
      {diagonal, config(ether_, Sides::output, 1, 64)},
      {config(plus, Sides::both, 8, 1)}};
  for (const auto& adapters : several) {
    Model model({"threads", Dtype::bf16, 2048, 1024, false, adapters}, 3);
    std::string first;
    for (const int threads : {1, 2, 5}) {
      model.options.threads = threads;
      model.options.verify = threads == 1;  // by plain loops
      model.options.replace = true;
      const auto report = ether::merge_checkpoint(model.options);
      const std::string bytes = test::read_file(model.options.output) + " " +
                                std::to_string(report.modules[0].relative_change);
      if (first.empty()) first = bytes;
      CHECK((bytes == first));
      CHECK((report.verified > 0) == (threads == 1));
    }
  }
}

TEST_CASE("unmerge undoes merge") {
  for (const Case& c : cases) {
    if (c.adapters.size() != 1 || c.adapters[0].strength != 1) continue;
    CAPTURE(c.name);
    Model model(c, 200);
    model.options.dtype = Dtype::f64;  // so that only the arithmetic shows
    ether::merge_checkpoint(model.options);
    ether::MergeOptions undo = model.options;
    undo.base = model.options.output;
    undo.output = model.options.output = model.dir / "undone.safetensors";
    undo.max_condition = 1e9;
    ether::unmerge_checkpoint(undo);
    // The errors of the merge are magnified by at most the condition of both sides.
    const test::Oracle oracle(model.adapters[0], model.weight);
    const double tolerance = 64 * test::unit_roundoff<double>() * model.weight.norm() *
                             condition(oracle, oracle.input, oracle.input_blocks()) *
                             condition(oracle, oracle.output, oracle.config.output_blocks);
    CHECK(test::difference(model.merged(c), model.weight, tolerance) == "");
    undo.max_condition = 1.0 + 1e-9;
    undo.replace = true;
    if (c.adapters[0].variant == plus)
      CHECK_REFUSED(ether::unmerge_checkpoint(undo), ether::ill_conditioned, "module 'm'",
                    "block 0 of", "condition number", "above 1");
  }
}

TEST_CASE("strength and dtype in place of the files' own") {
  const Case c{"", Dtype::bf16, 24, 40, false, {config(plus, Sides::both, 4, 2)}};
  Model model(c, 9);
  model.options.strength = -0.25;
  model.adapters[0].set_strength(-0.25);
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64}) {
    model.options.dtype = dtype;
    model.options.replace = model.options.verify = true;
    ether::merge_checkpoint(model.options);
    CHECK(ether::Checkpoint(model.options.output).find("m.weight")->info->dtype == dtype);
    CHECK(test::Rounding(model.merged(c), model.expected(), dtype).wrong == 0);
  }
}

TEST_CASE("verification finds an element that is wrong") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Model model(c, 300);
    ether::merge_checkpoint(model.options);
    const ether::Checkpoint base(model.options.base);
    std::string bytes = test::read_file(model.options.output);
    const auto verify = [&] {
      test::write_file(model.options.output, bytes);
      const ether::Checkpoint merged(model.options.output);
      return ether::detail::verify_merge(*base.find("m.weight"), *merged.find("m.weight"),
                                         model.adapters, c.fan_in_fan_out);
    };
    CHECK_NOTHROW(verify());
    const auto file = ether::Checkpoint(model.options.output);
    const auto& tensor = *file.find("m.weight");
    const auto middle = static_cast<std::size_t>(tensor.data() - tensor.shard->file().bytes()) +
                        tensor.info->bytes() / 2 / 8 * 8;
    bytes[middle + (c.dtype == Dtype::f64 ? 4 : c.dtype == Dtype::f32 ? 1 : 0)] ^= 4;
    CHECK_REFUSED(verify(), ether::io_error, "'m.weight' element (", "must be");
  }
}
