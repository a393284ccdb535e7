// An adapter and its base: which modules are adapted, and whether they fit.

#include "io/support/build_adapter.hpp"
#include "support/check_message.hpp"

#include <ether/io/adapter_file.hpp>

using ether::AdapterFile;
using ether::Checkpoint;
using test::adapter_config;
using test::TemporaryDirectory;
using Tensors = test::SafetensorsBuilder;

namespace {

/// A base of two layers with q_proj (8, 12) and v_proj (6, 12), and what is no linear layer.
Tensors small_base() {
  return Tensors()
      .ones("model.embed_tokens.weight", 20, 12)
      .ones("l.0.q_proj.weight", 8, 12)
      .ones("l.0.v_proj.weight", 6, 12)
      .ones("l.1.q_proj.weight", 8, 12)
      .ones("l.1.v_proj.weight", 6, 12)
      .ones("l.1.v_proj.bias", 1, 6)
      .add("norm.q_proj.weight", "F32", {1}, std::string(4, '\0'))
      .add("counts.weight", "I32", {8, 12}, std::string(8 * 12 * 4, '\1'))
      .add("cube.weight", "F32", {8, 12, 1}, std::string(8 * 12 * 4, '\1'))
      .add("none.weight", "F32", {0, 12}, "")
      .ones("lm_head.weight", 20, 12);
}

struct Setup {
  TemporaryDirectory dir;
  explicit Setup(const Tensors& base = small_base()) {
    test::write_file(dir / "base.safetensors", base.file());
  }
  /// "l.0.q_proj (8, 12), ..." of an input-side adapter of 4 blocks on these modules.
  std::string match(const std::string& members, const std::vector<std::string>& modules,
                    const std::string& sides = "input", std::uint64_t in = 12,
                    std::uint64_t out = 8) const {
    Tensors tensors;
    for (const std::string& module : modules) {
      if (sides != "output") tensors.ones(module + ".ether_u", 4, in / 4);
      if (sides != "input") tensors.ones(module + ".ether_u_out", 4, out / 4);
    }
    test::write_adapter(dir / "a", adapter_config("ether", sides, 4, members), tensors);
    const Checkpoint base(dir / "base.safetensors");
    std::string found;
    for (const ether::AdaptedModule& m : AdapterFile(dir / "a").match(base)) {
      CHECK(m.weight.info->name == m.name + ".weight");
      found += (found.empty() ? "" : ", ") + m.name + " (" + std::to_string(m.out) + ", " +
               std::to_string(m.in) + ")";
    }
    return found;
  }
};

const std::string every_q = R"("target_modules":["q_proj"])";

#define REFUSED(call, ...) \
  CHECK_REFUSED(call, ether::format_error, s.dir.path().string(), __VA_ARGS__)

}  // namespace

TEST_CASE("modules are found with their weights, whatever the order of the tensors") {
  const Setup s;
  CHECK(s.match("", {"l.1.q_proj", "l.0.v_proj"}) == "l.0.v_proj (6, 12), l.1.q_proj (8, 12)");
  CHECK(s.match("\"target_modules\":null", {"lm_head", "model.embed_tokens"}) ==
        "lm_head (20, 12), model.embed_tokens (20, 12)");
  CHECK(s.match(every_q, {"l.0.q_proj", "l.1.q_proj"}) == "l.0.q_proj (8, 12), l.1.q_proj (8, 12)");
  CHECK(s.match("", {"l.0.q_proj"}, "output") == "l.0.q_proj (8, 12)");
  CHECK(s.match("", {"l.0.q_proj"}, "both") == "l.0.q_proj (8, 12)");
}

TEST_CASE("a module that the base lacks") {
  const Setup s;
  REFUSED(s.match("", {"l.0.q_proj", "l.2.q_proj"}), "no tensor 'l.2.q_proj.weight'",
          "base.safetensors");
  REFUSED(s.match("", {"q_proj"}), "no tensor 'q_proj.weight'");
  REFUSED(s.match("", {"model.l.0.q_proj"}), "no tensor 'model.l.0.q_proj.weight'");
  const Setup tied(Tensors().ones("model.embed_tokens.weight", 20, 12));
  CHECK_REFUSED(tied.match("", {"lm_head"}), ether::format_error, "no tensor 'lm_head.weight'",
                "tied to the embeddings");
}

TEST_CASE("a weight that is no matrix of floats") {
  const Setup s;
  REFUSED(s.match("", {"counts"}), "'counts.weight' is I32 (8, 12)", "F64, F32, F16 or BF16");
  REFUSED(s.match("", {"cube"}), "'cube.weight' is F32 (8, 12, 1)", "a matrix");
  REFUSED(s.match("", {"norm.q_proj"}), "'norm.q_proj.weight' is F32 (1)", "a matrix");
  REFUSED(s.match("", {"none"}), "'none.weight' is F32 (0, 12)", "a matrix");
}

TEST_CASE("a width that is not the weight's") {
  const Setup s;
  CHECK_REFUSED(s.match("", {"l.0.q_proj"}, "input", 8), ether::parameter_error,
                "'l.0.q_proj.ether_u' has shape (4, 2), 8 wide", "(8, 12), input width 12",
                "fan_in_fan_out must be true");
  CHECK_REFUSED(s.match("", {"l.0.v_proj"}, "output"), ether::parameter_error,
                "'l.0.v_proj.ether_u_out' has shape (4, 2), 8 wide", "(6, 12), output width 6");
  CHECK_REFUSED(s.match("", {"l.0.q_proj"}, "both", 12, 12), ether::parameter_error,
                "'l.0.q_proj.ether_u_out'", "12 wide", "output width 8");
}

TEST_CASE("fan_in_fan_out: the weight is stored as (in, out)") {
  const Setup s(Tensors().ones("c_attn.weight", 12, 8));
  const std::string swapped = "\"fan_in_fan_out\":true";
  CHECK(s.match(swapped, {"c_attn"}) == "c_attn (8, 12)");
  CHECK(s.match(swapped, {"c_attn"}, "both") == "c_attn (8, 12)");
  CHECK_REFUSED(s.match("", {"c_attn"}), ether::parameter_error, "12 wide",
                "(12, 8), input width 8", "fan_in_fan_out must be true");
  CHECK_REFUSED(s.match(swapped, {"c_attn"}, "both", 8, 12), ether::parameter_error, "8 wide",
                "input width 12", "fan_in_fan_out must be false");
  for (const std::string& members : {std::string(), swapped})  // which does not help here
    CHECK(test::refusal<ether::parameter_error>([&] { s.match(members, {"c_attn"}, "input", 16); },
                                                {"fan_in_fan_out"}) != "");
}

TEST_CASE("a bias tells when a weight is stored the other way round") {
  const test::TemporaryDirectory dir;
  Tensors base;
  base.ones("a.weight", 4, 6).add("a.bias", "F32", {6}, std::string(24, '\0'));
  base.ones("b.weight", 4, 6).add("b.bias", "F32", {6}, std::string(24, '\0'));
  base.ones("right.weight", 4, 6).add("right.bias", "F32", {4}, std::string(16, '\0'));
  base.ones("square.weight", 4, 4).add("square.bias", "F32", {4}, std::string(16, '\0'));
  test::write_file(dir / "base.safetensors", base.file());
  const ether::Checkpoint checkpoint(dir / "base.safetensors");
  const auto warnings = [&](std::vector<std::string> names, bool fan_in_fan_out) {
    std::vector<ether::AdaptedModule> modules;
    for (const std::string& name : names)
      modules.push_back(ether::find_weight(checkpoint, name, fan_in_fan_out));
    return ether::detail::storage_warnings(checkpoint, modules, fan_in_fan_out);
  };
  using Texts = std::vector<std::string>;
  CHECK(warnings({"right", "square"}, false) == Texts{});
  CHECK(warnings({"a", "b", "square"}, true) == Texts{});
  CHECK(warnings({"a", "right"}, false) ==
        Texts{"'a.bias' has 6 elements, but the weight is (4, 6), out 4: is it stored as (in, "
              "out)? Then fan_in_fan_out must be true"});
  CHECK(warnings({"b", "a"}, false) ==
        Texts{"'b.bias' has 6 elements, but the weight is (4, 6), out 4, and 1 other likewise: is "
              "it stored as (in, out)? Then fan_in_fan_out must be true"});
  CHECK(warnings({"right"}, true) ==
        Texts{"'right.bias' has 4 elements, but the weight is (4, 6), out 6: is it stored as (out, "
              "in)? Then fan_in_fan_out must be false"});
}

TEST_CASE("a module with tensors that target_modules does not select") {
  const Setup s;
  for (const char* members :
       {R"("target_modules":["v_proj"])", R"("target_modules":["proj"])", R"("target_modules":[])",
        R"("target_modules":["0.q"])", R"("target_modules":"q_proj")",
        R"("target_modules":"l\\.0\\.q")", R"("exclude_modules":["q_proj"])",
        R"("target_modules":"all-linear","exclude_modules":".*\\.0\\..*")"})
    REFUSED(s.match(members, {"l.0.q_proj"}), "module 'l.0.q_proj' has tensors",
            "does not select it");
  for (const char* members :
       {R"("target_modules":["l.0.q_proj"])", R"("target_modules":["0.q_proj"])",
        R"("target_modules":"l\\.0\\.q_proj")", R"("target_modules":"all-linear")",
        R"("target_modules":["q_proj"],"exclude_modules":["1.q_proj"])",
        R"("target_modules":"l\\..*","exclude_modules":"(?!.*0\\.q).*")"})
    CHECK(s.match(members, {"l.0.q_proj"}) == "l.0.q_proj (8, 12)");
}

TEST_CASE("a module that target_modules selects and that has no tensors") {
  const Setup s;
  REFUSED(s.match(every_q, {"l.0.q_proj"}), "selects 'l.1.q_proj'", "no tensors");
  REFUSED(s.match(R"("target_modules":["q_proj","v_proj"])", {"l.0.q_proj", "l.1.q_proj"}),
          "selects 'l.0.v_proj'", "no tensors");
  REFUSED(s.match(R"("target_modules":".*proj","exclude_modules":["v_proj"])", {"l.0.q_proj"}),
          "selects 'l.1.q_proj'", "no tensors");
  REFUSED(s.match(R"("target_modules":["q_proj","lm_head"])", {"l.0.q_proj", "l.1.q_proj"}),
          "selects 'lm_head'", "no tensors");
  // Neither a bias nor a vector is a module; a name that the base lacks selects nothing.
  CHECK(s.match(R"("target_modules":["q_proj","gate_proj"])", {"l.0.q_proj", "l.1.q_proj"}) ==
        "l.0.q_proj (8, 12), l.1.q_proj (8, 12)");
}

TEST_CASE("all-linear may leave modules without tensors, and adapts no embedding or head") {
  const Setup s;
  const std::string all = R"("target_modules":"all-linear")";
  CHECK(s.match(all, {"l.0.q_proj"}) == "l.0.q_proj (8, 12)");
  for (const char* module : {"model.embed_tokens", "lm_head"})
    REFUSED(s.match(all, {module}), "module '" + std::string(module) + "' has tensors",
            "does not select it");
}
