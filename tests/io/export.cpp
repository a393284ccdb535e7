// LoRA and HRA adapters against the dense H: W + B A, and W H_1 ... H_r.

#include "io/support/model.hpp"
#include "io/support/refused_unless.hpp"
#include "support/check_message.hpp"

using ether::BlockLayout;
using ether::Dtype;
using ether::Sides;
using ether::Variant;
namespace fs = std::filesystem;
using test::config;
using test::Index;
using test::Matrix;

namespace {

/// A base of two weights of different shapes, and one adapter for both.
struct Setup {
  test::TemporaryDirectory dir;
  ether::ExportOptions options;
  std::map<std::string, Matrix> weights;  // (out, in)
  std::map<std::string, ether::Adapter<double>> adapters;

  Setup(const test::AdapterConfig& c, bool fan_in_fan_out = false, Index second_blocks = 0) {
    test::SafetensorsBuilder file;
    std::vector<std::pair<std::string, ether::Adapter<double>>> modules;
    auto of_file = test::file_config(c, fan_in_fan_out);
    if (second_blocks != 0) of_file.num_blocks_pattern["k"] = second_blocks;
    std::uint64_t seed = 1;
    for (const auto& [name, out, in] : {std::tuple("a.q", 8, 12), std::tuple("a.k", 24, 16)}) {
      const Matrix weight = test::random_matrix<double>(out, in, ++seed);
      weights[name] = weight;
      test::add(file, std::string(name) + ".weight",
                test::Stored(Dtype::f64, fan_in_fan_out ? Matrix(weight.transpose()) : weight));
      const auto module = test::random_adapter<double>(
          second_blocks != 0 ? of_file.of_module(name) : c, out, in, ++seed);
      adapters.emplace(name, module);
      modules.emplace_back(name, module);
    }
    file.ones("b.q.bias", 1, 8).ones("b.v.weight", 4, 4);
    test::write_file(dir / "base.safetensors", file.file());
    ether::save_adapter<double>(dir / "adapter", of_file, modules);
    options.base = dir / "base.safetensors";
    options.adapter = dir / "adapter";
    options.output = dir / "out";
  }

  Matrix merged(const std::string& name) const {
    return test::Oracle(adapters.at(name), weights.at(name)).merged();
  }
  nlohmann::json written_config() const {
    return nlohmann::json::parse(test::read_file(options.output / "adapter_config.json"));
  }
};

}  // namespace

TEST_CASE("an exported LoRA is exact") {
  const auto plus = Variant::ether_plus;
  struct Case {
    test::AdapterConfig c;
    bool fan_in_fan_out;
    Index rank;
  };
  for (const Case& c : {Case{config(Variant::ether, Sides::input, 4, 1), false, 4},
                        Case{config(Variant::ether, Sides::output, 1, 8), false, 8},
                        Case{config(plus, Sides::both, 4, 2), false, 12},
                        Case{config(plus, Sides::both, 4, 2, BlockLayout::diagonal, 0.6), true, 12},
                        Case{config(plus, Sides::input, 4, 1), true, 8},
                        Case{config(plus, Sides::both, 1, 2, BlockLayout::row_chunk), false, 6},
                        Case{config(plus, Sides::both, 4, 2, BlockLayout::row_chunk), false, 36}}) {
    CAPTURE(to_string(c.c.variant), to_string(c.c.sides), c.rank, c.fan_in_fan_out);
    Setup s(c.c, c.fan_in_fan_out);
    if (c.rank > 32) {
      CHECK_REFUSED(ether::LoraExport(s.options), ether::parameter_error, "row_chunk",
                    "4 input blocks", "rank 36");  // 32 of the input side, 4 of the output side
      CHECK(test::refused_unless(ether::Refusal::Option::allow_large_rank,
                                 [&] { ether::LoraExport lora(s.options); }));
      s.options.allow_large_rank = true;
    }
    const ether::LoraExport lora(s.options);
    CHECK(lora.rank() == c.rank);
    CHECK(lora.modules() == 2);
    lora.write();
    const ether::Checkpoint written(s.options.output / "adapter_model.safetensors");
    CHECK(written.tensors().size() == 4);
    CHECK(lora.bytes() == fs::file_size(s.options.output / "adapter_model.safetensors"));
    for (const auto& [name, weight] : s.weights) {
      const Matrix a = test::read_matrix(written, "base_model.model." + name + ".lora_A.weight");
      const Matrix b = test::read_matrix(written, "base_model.model." + name + ".lora_B.weight");
      REQUIRE(a.rows() == c.rank);
      REQUIRE(b.cols() == c.rank);
      const Matrix merged = s.merged(name);
      // A and B are rounded to float.
      const double tolerance = test::unit_roundoff<float>() * b.norm() * a.norm() * 2;
      CHECK(test::difference(weight + b * a, merged, tolerance) == "");
      CHECK(test::difference(weight - b * a, merged, tolerance) != "");
    }
    const auto j = s.written_config();
    CHECK(j["peft_type"] == "LORA");
    CHECK(j["r"] == c.rank);
    CHECK(j["lora_alpha"] == c.rank);
    CHECK(j["fan_in_fan_out"] == c.fan_in_fan_out);
    CHECK(j["target_modules"] == nlohmann::json({"a.k", "a.q"}));  // there is a b.q too
  }
}

TEST_CASE("a LoRA in 16 bits") {
  Setup s(config(Variant::ether, Sides::input, 4, 1));
  s.options.dtype = Dtype::bf16;
  ether::LoraExport(s.options).write();
  const ether::Checkpoint written(s.options.output / "adapter_model.safetensors");
  for (const auto& [name, tensor] : written.tensors()) CHECK(tensor.info->dtype == Dtype::bf16);
}

TEST_CASE("a LoRA with values that its dtype cannot hold") {
  Setup s(config(Variant::ether, Sides::input, 4, 1));
  const auto before = test::names_in(s.dir.path());
  const auto write_base = [&](double value) {
    test::SafetensorsBuilder file;
    for (const auto& [name, weight] : s.weights) {
      Matrix changed = weight;
      if (name == "a.q") changed(3, 5) = value;
      test::add(file, name + ".weight", test::Stored(Dtype::f64, changed));
    }
    test::write_file(s.options.base, file.file());
  };
  write_base(1e6);
  s.options.dtype = Dtype::f16;
  CHECK_REFUSED(ether::LoraExport(s.options).write(), ether::parameter_error, "module 'a.q'",
                "beyond the range of F16", "choose a wider dtype");
  s.options.dtype = Dtype::f32;
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    write_base(value);
    CHECK_REFUSED(ether::LoraExport(s.options).write(), ether::parameter_error, "module 'a.q'",
                  "not finite in the base");
  }
  CHECK(test::names_in(s.dir.path()) == before);
  write_base(1e6);
  CHECK_NOTHROW(ether::LoraExport(s.options).write());
}

TEST_CASE("row_chunk on a weight stored as (in, out) is not exported") {
  Setup s(config(Variant::ether, Sides::input, 4, 1, BlockLayout::row_chunk), true);
  s.options.allow_large_rank = true;
  CHECK_REFUSED(ether::LoraExport(s.options), ether::parameter_error, "module 'a.k'", "row_chunk",
                "stored as (in, out)");
}

TEST_CASE("an exported HRA is exact") {
  Setup s(config(Variant::ether, Sides::input, 4, 1));
  const ether::HraExport hra(s.options);
  CHECK(hra.rank() == 4);
  CHECK(hra.modules() == 2);
  CHECK(test::names_in(s.dir.path()) == std::set<std::string>{"adapter", "base.safetensors"});
  hra.write();
  const fs::path file = s.options.output / "adapter_model.safetensors";
  CHECK(hra.bytes() == fs::file_size(file));
  const ether::Checkpoint written(file);
  CHECK(written.tensors().size() == 2);
  for (const auto& [name, weight] : s.weights) {
    const Matrix u = test::read_matrix(written, "base_model.model." + name + ".hra_u");
    REQUIRE(u.cols() == 4);
    REQUIRE(u.rows() == weight.cols());
    Matrix chain = weight;
    for (Index i = 0; i < u.cols(); ++i) {
      const Eigen::VectorXd unit = u.col(i).normalized();
      chain = chain * (Matrix::Identity(u.rows(), u.rows()) - 2 * unit * unit.transpose());
    }
    CHECK(test::difference(chain, s.merged(name), 1e-6 * weight.norm()) == "");
    CHECK(test::difference(weight, s.merged(name), 1e-6 * weight.norm()) != "");
  }
  CHECK(s.written_config()["peft_type"] == "HRA");
  CHECK(s.written_config()["r"] == 4);
}

TEST_CASE("adapters that HRA cannot express") {
  const auto refused = [](const Setup& s, std::initializer_list<std::string> parts) {
    const auto before = test::snapshot(s.dir.path());
    std::string result =
        test::refusal<ether::parameter_error>([&] { (void)ether::HraExport(s.options); }, parts);
    return test::snapshot(s.dir.path()) == before ? result : "files have changed";
  };
  CHECK(refused(Setup(config(Variant::ether_plus, Sides::input, 4, 1)),
                {"variant is ether_plus", "must be ether"}) == "");
  CHECK(refused(Setup(config(Variant::ether, Sides::both, 4, 4)), {"sides is both"}) == "");
  CHECK(refused(Setup(config(Variant::ether, Sides::input, 4, 1, BlockLayout::row_chunk)),
                {"block_layout is row_chunk", "diagonal"}) == "");
  CHECK(refused(Setup(config(Variant::ether, Sides::input, 4, 1, BlockLayout::diagonal, 0.5)),
                {"strength is 0.5", "1"}) == "");
  CHECK(refused(Setup(config(Variant::ether, Sides::input, 4, 1), true), {"fan_in_fan_out"}) == "");
  CHECK(refused(Setup(config(Variant::ether, Sides::input, 4, 1), false, 2),
                {"number of blocks", "4", "2"}) == "");
}

TEMPLATE_TEST_CASE("an export checks its place before it writes, and tells what is odd", "",
                   ether::LoraExport, ether::HraExport) {
  Setup s(config(Variant::ether, Sides::input, 4, 1));
  const fs::path json = s.options.adapter / "adapter_config.json";
  auto odd = nlohmann::json::parse(test::read_file(json));
  odd["colour"] = "red";
  test::write_file(json, odd.dump());
  const auto before = test::snapshot(s.dir.path());
  const TestType exported(s.options);
  REQUIRE(exported.warnings().size() == 1);
  CHECK_THAT(exported.warnings()[0], Catch::Matchers::ContainsSubstring("'colour'"));

  s.options.output = s.dir / "absent/out";
  CHECK_REFUSED(TestType(s.options), ether::io_error, "does not exist");
  s.options.output = s.options.adapter;
  s.options.replace = true;
  CHECK_REFUSED(TestType(s.options), ether::io_error, "is, holds or lies inside");
  s.options.output = "";
  CHECK(TestType(s.options).rank() == 4);
  CHECK_REFUSED(TestType(s.options).write(), ether::io_error, "path is ''");
  CHECK(test::snapshot(s.dir.path()) == before);
}

TEST_CASE("target_modules select the adapted modules and no others") {
  const auto target_modules = [](std::vector<std::string> others) {
    const test::TemporaryDirectory dir;
    test::SafetensorsBuilder file;
    file.ones("q.weight", 2, 2).ones("b.k+.weight", 2, 2);
    for (const std::string& other : others) file.ones(other + ".weight", 2, 2);
    test::write_file(dir / "base.safetensors", file.file());
    const ether::Checkpoint base(dir / "base.safetensors");
    return ether::detail::peft_target_modules(
        {{"q", *base.find("q.weight")}, {"b.k+", *base.find("b.k+.weight")}}, base);
  };
  using Json = nlohmann::json;
  CHECK(target_modules({"qq", "v"}) == Json({"k+", "q"}));
  CHECK(target_modules({"a.k+"}) == Json({"b.k+", "q"}));
  CHECK(target_modules({"a.q"}) == Json(R"(b\.k\+|q)"));
}
