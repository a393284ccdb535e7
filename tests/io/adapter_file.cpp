// The tensors of an adapter directory: names, shapes, dtypes, values. Each is refused by name.

#include "io/support/build_adapter.hpp"
#include "support/check_message.hpp"

#include <ether/io/adapter_file.hpp>

#include <cmath>

namespace fs = std::filesystem;
using ether::AdapterFile;
using ether::Side;
using test::adapter_config;
using test::bytes_of;
using test::SafetensorsBuilder;
using test::TemporaryDirectory;
using test::write_adapter;

namespace {

struct Setup {
  TemporaryDirectory dir;
  fs::path path = dir / "a";

  AdapterFile read(const std::string& config, const SafetensorsBuilder& tensors) const {
    write_adapter(path, config, tensors);
    return AdapterFile(path);
  }
};

using Tensors = SafetensorsBuilder;
const std::string ether_input = adapter_config("ether", "input", 4);
const std::string plus_both = adapter_config("ether_plus", "both", 4, "\"num_blocks_output\":2");

/// Both vectors of both sides of one module, without what is named.
Tensors plus_without(const std::string& left_out) {
  Tensors tensors;
  for (const char* parameter : {"ether_u", "ether_v"})
    if (parameter != left_out) tensors.ones(std::string("m.") + parameter, 4, 3);
  for (const char* parameter : {"ether_u_out", "ether_v_out"})
    if (parameter != left_out) tensors.ones(std::string("m.") + parameter, 2, 4);
  return tensors;
}

#define REFUSED(config, tensors, ...) \
  CHECK_REFUSED(s.read(config, tensors), ether::format_error, s.path.string(), __VA_ARGS__)

#define REFUSED_BY(call, ...) CHECK_REFUSED(call, ether::format_error, s.path.string(), __VA_ARGS__)

}  // namespace

TEST_CASE("a directory that is no adapter") {
  const Setup s;
  CHECK_REFUSED(AdapterFile(s.path), ether::io_error, "adapter_config.json", "No such file");
  write_adapter(s.path, ether_input, Tensors().ones("m.ether_u", 4, 3));
  CHECK_NOTHROW(AdapterFile(s.path));
  fs::remove(s.path / "adapter_config.json");
  CHECK_REFUSED(AdapterFile(s.path), ether::io_error,
                "'" + s.path.string() + "' is no adapter: it has no adapter_config.json");
  CHECK_REFUSED(AdapterFile(s.path / "adapter_model.safetensors"), ether::io_error,
                "is a file; give the adapter's directory");
  write_adapter(s.path, ether_input, Tensors());
  CHECK_REFUSED(AdapterFile(s.path), ether::format_error, "adapter_model.safetensors",
                "has no tensors");
  write_adapter(s.path, R"({"peft_type": "LORA", "r": 8})", Tensors());
  CHECK_REFUSED(AdapterFile(s.path), ether::format_error, "peft_type is \"LORA\"",
                "expected \"ETHER\": ether reads its own");
  fs::remove(s.path / "adapter_model.safetensors");
  write_adapter(s.path, ether_input, Tensors());
  fs::remove(s.path / "adapter_model.safetensors");
  CHECK_REFUSED(AdapterFile(s.path), ether::io_error, "adapter_model.safetensors", "No such file");
  test::write_file(s.path / "adapter_config.json", "");
  CHECK_REFUSED(AdapterFile(s.path), ether::format_error, "adapter_config.json", "not a JSON");
  write_adapter(s.path, ether_input, Tensors());
  fs::resize_file(s.path / "adapter_model.safetensors", 7);
  CHECK_REFUSED(AdapterFile(s.path), ether::format_error, "adapter_model.safetensors", "7 bytes");
  REFUSED(adapter_config("ether", "input", 0), Tensors(), "num_blocks is 0");
}

TEST_CASE("keys with and without PEFT's prefix") {
  const Setup s;
  const AdapterFile file =
      s.read(ether_input, Tensors()
                              .ones("base_model.model.h.0.q_proj.ether_u", 4, 3)
                              .ones("h.1.q_proj.ether_u", 4, 3)
                              .ones("fc.ether_u", 4, 1));
  CHECK(file.modules() == std::vector<std::string>{"fc", "h.0.q_proj", "h.1.q_proj"});
  CHECK(file.width("fc", Side::input) == 4);
  CHECK(file.width("h.0.q_proj", Side::input) == 12);
  CHECK(file.width("h.0.q_proj", Side::output) == 0);
  REFUSED(ether_input, Tensors().ones("base_model.model.m.ether_u", 4, 3).ones("m.ether_u", 4, 3),
          "'base_model.model.m.ether_u'", "'m.ether_u'", "same parameter");
}

TEST_CASE("a tensor that belongs to no adapter") {
  const Setup s;
  for (const char* name :
       {"m.lora_A.weight", "m.ether_w", "m.ether_u.default", "ether_u", "base_model.model.ether_u",
        "m.ether_u_in", "m.Ether_u", "m.ether_u ", "", "m.", "m.weight", "m.ether_uether_v"})
    REFUSED(ether_input, Tensors().ones("m.ether_u", 4, 3).ones(name, 4, 3),
            "the tensor '" + std::string(name) + "'", "none of <module>.ether_u");
}

TEST_CASE("a side's tensors are all there or all absent") {
  const Setup s;
  CHECK_NOTHROW(s.read(plus_both, plus_without("nothing")));
  for (const char* missing : {"ether_u", "ether_v", "ether_u_out", "ether_v_out"})
    REFUSED(plus_both, plus_without(missing), "module 'm' lacks " + std::string(missing) + ",",
            "variant is ether_plus", "sides is both");
  const Tensors u = Tensors().ones("m.ether_u", 4, 3), out = Tensors().ones("m.ether_u_out", 4, 3);
  REFUSED(ether_input, out, "module 'm' lacks ether_u,", "variant is ether ", "sides is input");
  REFUSED(adapter_config("ether", "output", 4), u, "module 'm' has ether_u,", "sides is output");
  REFUSED(adapter_config("ether", "both", 4), u, "module 'm' lacks ether_u_out,", "sides is both");
  REFUSED(ether_input, Tensors(u).ones("m.ether_v", 4, 3), "module 'm' has ether_v,", "is ether ");
  REFUSED(ether_input, Tensors(u).ones("m.ether_u_out", 4, 3), "'m' has ether_u_out,", "is input");
  REFUSED(adapter_config("ether_plus", "input", 4), u, "module 'm' lacks ether_v,", "ether_plus");
  CHECK_NOTHROW(s.read(adapter_config("ether", "output", 4), out));
}

TEST_CASE("the number of blocks is the configuration's") {
  const Setup s;
  REFUSED(ether_input, Tensors().ones("m.ether_u", 3, 4), "'m.ether_u' has 3 blocks", "says 4");
  REFUSED(plus_both,
          Tensors()
              .ones("m.ether_u", 4, 3)
              .ones("m.ether_v", 4, 3)
              .ones("m.ether_u_out", 4, 2)
              .ones("m.ether_v_out", 4, 2),
          "'m.ether_u_out' has 4 blocks", "says 2");
  const std::string pattern =
      adapter_config("ether", "both", 4, R"("num_blocks_output":2,"num_blocks_pattern":{"m":3})");
  const auto tensors = [](const std::string& module, std::uint64_t in, std::uint64_t out) {
    return Tensors().ones(module + ".ether_u", in, 2).ones(module + ".ether_u_out", out, 2);
  };
  CHECK_NOTHROW(s.read(pattern, tensors("h.m", 3, 3)));
  CHECK_NOTHROW(s.read(pattern, tensors("hm", 4, 2)));
  REFUSED(pattern, tensors("h.m", 4, 2), "'h.m.ether_u' has 4 blocks", "says 3");
  REFUSED(pattern, tensors("h.m", 3, 2), "'h.m.ether_u_out' has 2 blocks", "says 3");
}

TEST_CASE("shapes other than (blocks, block_size)") {
  const Setup s;
  const auto shaped = [](const std::vector<std::uint64_t>& shape) {
    std::uint64_t size = 1;
    for (const std::uint64_t n : shape) size *= n;
    return Tensors().add("m.ether_u", "F32", shape, bytes_of(std::vector<float>(size, 1.0f)));
  };
  CHECK_NOTHROW(s.read(ether_input, shaped({4, 3})));
  CHECK_NOTHROW(s.read(ether_input, shaped({4, 1})));
  for (const std::vector<std::uint64_t>& shape :
       {std::vector<std::uint64_t>{}, {4}, {12}, {4, 0}, {0, 4}, {0, 0}, {4, 3, 1}, {1, 4, 3}})
    REFUSED(ether_input, shaped(shape), "'m.ether_u' has shape " + ether::shape_text(shape),
            "(blocks, block_size)");
  REFUSED(adapter_config("ether_plus", "input", 4),
          Tensors().ones("m.ether_u", 4, 3).ones("m.ether_v", 4, 2), "'m.ether_u' has shape (4, 3)",
          "'m.ether_v' (4, 2)", "alike");
}

TEST_CASE("parameters in any float dtype, exactly") {
  const Setup s;
  // -2, 1.5, 2^-14 and 3 fit each of them.
  const std::vector<double> values{-2, 1.5, 0x1p-14, 3};
  const std::vector<std::pair<std::string, std::string>> stored{
      {"F64", bytes_of(values)},
      {"F32", bytes_of(std::vector<float>{-2, 1.5f, 0x1p-14f, 3})},
      {"F16", bytes_of(std::vector<std::uint16_t>{0xc000, 0x3e00, 0x0400, 0x4200})},
      {"BF16", bytes_of(std::vector<std::uint16_t>{0xc000, 0x3fc0, 0x3880, 0x4040})}};
  for (const auto& [dtype, bytes] : stored) {
    const AdapterFile file = s.read(adapter_config("ether", "input", 2),
                                    Tensors().add("m.ether_u", dtype, {2, 2}, bytes));
    const auto wide = file.adapter<double>("m", 5, 4);
    const auto single = file.adapter<float>("m", 5, 4);
    CHECK(std::equal(values.begin(), values.end(), wide.data()));
    CHECK(std::equal(values.begin(), values.end(), single.data()));
  }
  using Other = std::pair<std::string, std::size_t>;  // and its bits
  for (const Other& other : {Other("I32", 32), Other("U8", 8), Other("BOOL", 8),
                             Other("F8_E4M3", 8), Other("C64", 64), Other("F4", 4)}) {
    const std::string bytes(4 * other.second / 8, '\1');
    REFUSED(adapter_config("ether", "input", 2),
            Tensors().add("m.ether_u", other.first, {2, 2}, bytes),
            "'m.ether_u' has dtype " + other.first, "F64, F32, F16 or BF16");
  }
  // 1 + 2^-52 is not a float: the nearest is read.
  const AdapterFile file =
      s.read(adapter_config("ether", "input", 1),
             Tensors().add("m.ether_u", "F64", {1, 1}, bytes_of(std::vector<double>{1 + 0x1p-52})));
  CHECK(file.adapter<double>("m", 1, 1).data()[0] == 1 + 0x1p-52);
  CHECK(file.adapter<float>("m", 1, 1).data()[0] == 1.0f);
}

TEST_CASE("a zero or non-finite block is refused by name") {
  const Setup s;
  const double inf = HUGE_VAL, nan = std::nan("");
  for (const double bad : {0.0, -0.0, nan, inf, -inf})
    for (const char* parameter : {"ether_u", "ether_v", "ether_u_out", "ether_v_out"}) {
      std::vector<double> values{1, 2, 3, 4, 5, 6};  // blocks of 2; block 1 is the bad one
      values[2] = bad, values[3] = bad == 0 ? 0 : 4;
      Tensors tensors;
      for (const char* name : {"ether_u", "ether_v", "ether_u_out", "ether_v_out"})
        tensors.add(
            std::string("h.m.") + name, "F64", {3, 2},
            bytes_of(std::string(name) == parameter ? values : std::vector<double>(6, 1.0)));
      CHECK_REFUSED(s.read(adapter_config("ether_plus", "both", 3), tensors),
                    ether::parameter_error, s.path.string(), "module 'h.m'", "block 1",
                    std::string(parameter).find("_out") == std::string::npos ? "input" : "output",
                    std::string(1, parameter[6]));
    }
  const std::string one = adapter_config("ether", "input", 1);  // a zero in a block is no harm
  CHECK_NOTHROW(s.read(
      one, Tensors().add("m.ether_u", "F64", {1, 2}, bytes_of(std::vector<double>{0, 1e-300}))));
}

TEST_CASE("warnings of the configuration are the adapter's, and its strength can be set") {
  const Setup s;
  AdapterFile file = s.read(adapter_config("ether", "input", 4, "\"strength\":0.5,\"alpha\":8"),
                            Tensors().ones("m.ether_u", 4, 3));
  REQUIRE(file.warnings().size() == 1);
  CHECK_THAT(file.warnings()[0], Catch::Matchers::ContainsSubstring("'alpha'"));
  CHECK(file.adapter<double>("m", 8, 12).config().strength == 0.5);
  file.set_strength(2);
  CHECK(file.adapter<double>("m", 8, 12).config().strength == 2);
  CHECK_REFUSED(file.adapter<double>("m", 8, 16), ether::parameter_error, "module 'm'", "(4, 3)",
                "12 wide", "input width is 16");
}

TEST_CASE("a module that the adapter lacks") {
  const Setup s;
  Tensors tensors;
  for (const char* name : {"a", "b", "c", "d"}) tensors.ones(std::string(name) + ".ether_u", 4, 3);
  const AdapterFile file = s.read(ether_input, tensors);
  REFUSED_BY(file.adapter<float>("nosuch", 12, 12), "no module 'nosuch'", "4, as 'a', 'b', 'c'");
  REFUSED_BY(file.width("nosuch", Side::input), "no module 'nosuch'");
}

TEST_CASE("a suffix in num_blocks_pattern that fits no module is told") {
  const Setup s;
  const auto warnings = [&](const std::string& pattern) {
    return s
        .read(adapter_config("ether", "input", 4, "\"num_blocks_pattern\":" + pattern),
              Tensors().ones("l.m.ether_u", 4, 3))
        .warnings();
  };
  CHECK(warnings(R"({"m": 4})").empty());
  CHECK(warnings("null").empty());
  const auto told = warnings(R"({"m": 4, "q_prj": 2})");
  REQUIRE(told.size() == 1);
  CHECK_THAT(told[0], Catch::Matchers::ContainsSubstring("'q_prj'"));
}
