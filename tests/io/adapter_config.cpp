// adapter_config.json: fields, their defaults, what is refused and what only warned of.

#include "support/check_message.hpp"

#include <ether/io/adapter_config.hpp>

using Catch::Matchers::ContainsSubstring;
using ether::AdapterFileConfig;
using ether::BlockLayout;
using ether::Sides;
using ether::Variant;

namespace {

AdapterFileConfig parse(const std::string& text) {
  std::vector<std::string> warnings;
  const auto config = AdapterFileConfig::parse(text, "config", warnings);
  CHECK(warnings.empty());
  return config;
}
const std::string required =
    R"("peft_type":"ETHER","variant":"ether_plus","sides":"both","num_blocks":4)";

/// The required fields and these members.
std::string with(const std::string& members) { return "{" + required + "," + members + "}"; }

#define REFUSED(text, ...) CHECK_REFUSED(parse(text), ether::format_error, "config", __VA_ARGS__)
/// The field `name` with each of these values, as JSON.
#define REFUSED_VALUES(name, expected, ...)     \
  for (const std::string value : {__VA_ARGS__}) \
  REFUSED(with("\"" name "\":" + value), name " is ", expected)

}  // namespace

TEST_CASE("the required fields, and the defaults of the others") {
  const AdapterFileConfig c = parse("{" + required + "}");
  CHECK(c.variant == Variant::ether_plus);
  CHECK(c.sides == Sides::both);
  CHECK(c.num_blocks == 4);
  CHECK(!c.num_blocks_output);
  CHECK(c.num_blocks_pattern.empty());
  CHECK(c.block_layout == BlockLayout::diagonal);
  CHECK(c.strength == 1.0);
  CHECK(!c.target_modules);
  CHECK(!c.exclude_modules);
  CHECK(!c.fan_in_fan_out);
  CHECK(c.inference_mode);
  const std::vector<std::string> fields{R"("peft_type":"ETHER")", R"("variant":"ether")",
                                        R"("sides":"input")", R"("num_blocks":1)"};
  const std::vector<std::string> names{"peft_type", "variant", "sides", "num_blocks"};
  for (std::size_t missing = 0; missing < fields.size(); ++missing) {
    std::string text;
    for (std::size_t i = 0; i < fields.size(); ++i)
      if (i != missing) text += (text.empty() ? "" : ",") + fields[i];
    REFUSED("{" + text + "}", "lacks the field " + names[missing], "required");
  }
}

TEST_CASE("every field") {
  const AdapterFileConfig c = parse(
      R"({"peft_type":"ETHER","format_version":1,"base_model_name_or_path":"org/m\u00e9",
          "task_type":"CAUSAL_LM","variant":"ether","sides":"output","num_blocks":1073741824,
          "num_blocks_output":2,"num_blocks_pattern":{"q_proj":8},"block_layout":"row_chunk",
          "strength":-0.5,"target_modules":["q_proj","v_proj"],"exclude_modules":".*\\.0\\..*",
          "bias":"none","fan_in_fan_out":true,"modules_to_save":null,"inference_mode":false})");
  CHECK(c.base_model_name_or_path == "org/m\xc3\xa9");
  CHECK(c.task_type == "CAUSAL_LM");
  CHECK(c.variant == Variant::ether);
  CHECK(c.sides == Sides::output);
  CHECK(c.num_blocks == 1 << 30);
  CHECK(c.num_blocks_output == 2);
  CHECK(c.num_blocks_pattern == std::map<std::string, ether::Index>{{"q_proj", 8}});
  CHECK(c.block_layout == BlockLayout::row_chunk);
  CHECK(c.strength == -0.5);
  CHECK(c.fan_in_fan_out);
  CHECK(!c.inference_mode);
  CHECK(c.selects("model.layers.1.q_proj"));
  CHECK(!c.selects("model.layers.0.q_proj"));
  const std::string text = c.text();
  CHECK(parse(text).text() == text);
  CHECK_THAT(text, ContainsSubstring("\"exclude_modules\": \".*\\\\.0\\\\..*\""));
}

TEST_CASE("null is what a field that may be absent can have") {
  const AdapterFileConfig c = parse(with(
      R"("base_model_name_or_path":null,"task_type":null,"num_blocks_output":null,
         "num_blocks_pattern":null,"target_modules":null,"exclude_modules":null,
         "modules_to_save":null)"));
  CHECK(c.text() == parse("{" + required + "}").text());
}

TEST_CASE("values that a field cannot have") {
  REFUSED(R"({"peft_type":"LORA","variant":"ether","sides":"input","num_blocks":1})",
          "peft_type is \"LORA\"", "\"ETHER\"");
  const auto replaced = [](const std::string& from, const std::string& to) {
    std::string text = "{" + required + "}";
    return text.replace(text.find(from), from.size(), to);
  };
  for (const char* value : {"\"lora\"", "\"ETHER\"", "\"\"", "null", "1", "[\"ether\"]"})
    REFUSED(replaced("\"ether_plus\"", value), "variant is ", "\"ether\" or \"ether_plus\"");
  for (const char* value : {"\"left\"", "null", "2"})
    REFUSED(replaced("\"both\"", value), "sides is ", "\"input\" or \"output\" or \"both\"");
  for (const char* value : {"0", "-1", "4.0", "\"4\"", "null", "1073741825", "1e2", "true", "[4]",
                            "18446744073709551616"})
    REFUSED(replaced(":4", std::string(":") + value), "num_blocks is ", "from 1 to 2^30");
  REFUSED_VALUES("num_blocks_output", "from 1 to 2^30", "0", "-1", "1.5", "\"2\"", "1073741825");
  REFUSED_VALUES("num_blocks_pattern", "from 1 to 2^30", "{\"q\":0}", "{\"q\":null}", "{\"q\":-1}");
  REFUSED_VALUES("num_blocks_pattern", "an object", "[]", "4", "\"q\"");
  REFUSED_VALUES("block_layout", "\"diagonal\" or \"row_chunk\"", "\"rows\"", "null", "0");
  REFUSED_VALUES("strength", "a finite number", "null", "\"1\"", "true", "[1]");
  REFUSED_VALUES("target_modules", "a list of names", "1", "{}", "[1]", "[\"q\",null]", "true");
  REFUSED_VALUES("exclude_modules", "a list of names", "1", "{}", "[[\"q\"]]");
  REFUSED_VALUES("fan_in_fan_out", "true or false", "null", "0", "\"true\"");
  REFUSED_VALUES("inference_mode", "true or false", "null", "1");
  REFUSED_VALUES("base_model_name_or_path", "a string", "1", "[]");
  REFUSED_VALUES("task_type", "a string", "false", "{}");
}

TEST_CASE("what is not supported") {
  REFUSED_VALUES("bias", "not supported", "\"all\"", "\"ether_only\"", "null", "true");
  REFUSED_VALUES("modules_to_save", "not supported", "[\"lm_head\"]", "[]", "\"lm_head\"", "{}");
  REFUSED_VALUES("format_version", "1, the version", "0", "2", "\"1\"", "null", "1.5", "true");
  CHECK_NOTHROW(parse(with(R"("bias":"none","modules_to_save":null,"format_version":1)")));
}

TEST_CASE("unknown fields are ignored with a warning") {
  std::vector<std::string> warnings;
  const auto c = AdapterFileConfig::parse(
      with(R"("Variant":"lora","alpha":[1,{"num_blocks":0}],"strength":2)"), "config", warnings);
  CHECK(c.strength == 2);
  CHECK(c.variant == Variant::ether_plus);
  REQUIRE(warnings.size() == 2);
  CHECK_THAT(warnings[0], ContainsSubstring("config") && ContainsSubstring("'Variant'"));
  CHECK_THAT(warnings[1], ContainsSubstring("config") && ContainsSubstring("'alpha'"));
  CHECK(c.text().find("alpha") == std::string::npos);
}

TEST_CASE("a configuration that is not one JSON object") {
  for (const char* text : {"", "[]", "null", "\xef\xbb\xbf{}"}) REFUSED(text, "not a JSON object");
  for (const std::string& text :
       {std::string("{"), "{" + required, "{" + required + ",}", "{" + required + "}x",
        with("\"x\":\"\xff\""), with("\"x\":1e999")})
    REFUSED(text, "is not JSON");
  REFUSED("{" + required + "}" + std::string(1, '\0'), "NUL");
  REFUSED(with(R"("sides":"both")"), "the key 'sides' twice");
  REFUSED(with(R"("sid\u0065s":"both")"), "the key 'sides' twice");
  REFUSED(with(R"("num_blocks_pattern":{"q":1,"q":2})"), "the key 'q' twice");
  REFUSED(with(R"("x":{"y":1,"y":2})"), "the key 'y' twice");
  REFUSED(with("\"x\":" + std::string(100'000, '[')), "nests deeper than");
}

TEST_CASE("the number of blocks of a module: the longest suffix counts, on both sides") {
  const auto c = parse(with(R"("num_blocks_output":2,
      "num_blocks_pattern":{"q_proj":8,"0.q_proj":16,"attn.0.q_proj":32,"proj":64,"":128})"));
  const auto blocks = [&](const std::string& module) {
    const ether::AdapterConfig a = c.of_module(module);
    return std::make_pair(a.input_blocks, a.output_blocks);
  };
  using Pair = std::pair<ether::Index, ether::Index>;
  CHECK(blocks("k_proj") == Pair(4, 2));
  CHECK(blocks("q_proj") == Pair(8, 8));
  CHECK(blocks("1.q_proj") == Pair(8, 8));
  CHECK(blocks("10.q_proj") == Pair(8, 8));  // "0.q_proj" begins after no dot
  CHECK(blocks("mlp.0.q_proj") == Pair(16, 16));
  CHECK(blocks("attn.0.q_proj") == Pair(32, 32));
  CHECK(blocks("attn.0.q_proj.base") == Pair(4, 2));
  CHECK(c.of_module("q_proj").variant == Variant::ether_plus);
}

TEST_CASE("any text in a configuration is written so that it reads the same") {
  AdapterFileConfig c;
  c.base_model_name_or_path = "/models/\"a\\b\"\n\xf0\x9f\x98\x80";
  c.strength = 0.1;
  c.num_blocks_pattern["\xc3\xa9"] = 3;
  const AdapterFileConfig again = parse(c.text());
  CHECK(again.base_model_name_or_path == c.base_model_name_or_path);
  CHECK(again.strength == c.strength);
  CHECK(again.num_blocks_pattern == c.num_blocks_pattern);
  c.base_model_name_or_path = "/models/caf\xe9";  // a path need not be UTF-8, JSON must be
  CHECK_REFUSED(c.text(), ether::format_error, "UTF-8");
}
