#pragma once

/// adapter_config.json, in the style of PEFT. The format is docs/adapter-format.md.

#include <ether/finite.hpp>
#include <ether/io/file.hpp>
#include <ether/io/json.hpp>
#include <ether/transform.hpp>

#include <cmath>
#include <initializer_list>
#include <map>
#include <optional>
#include <regex>
#include <string>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// Which modules: by exact names or dotted suffixes ("q_proj" is also "layers.0.q_proj"), by a
/// regular expression over the whole name, or "all-linear".
class ModulePattern {
 public:
  explicit ModulePattern(std::vector<std::string> names) : names_(std::move(names)) {}
  /// "all-linear", or an ECMAScript expression. Throws format_error for a wrong one.
  explicit ModulePattern(std::string expression) : expression_(std::move(expression)) {
    if (all_linear()) return;
    if (expression_.size() > longest)
      detail::fail<format_error>("the regular expression of module names has ", expression_.size(),
                                 " characters; at most ", longest, " are allowed");
    std::size_t digits = 0;
    for (const char c : expression_) {
      digits = c >= '0' && c <= '9' ? digits + 1 : 0;
      if (digits > 3)
        detail::fail<format_error>("'", expression_, "' has a number of more than 3 digits");
    }
    std::size_t looks = 0;
    for (const char* look : {"(?=", "(?!"})
      for (auto at = expression_.find(look); at != expression_.npos;
           at = expression_.find(look, at + 1))
        ++looks;
    if (looks > 1 || (looks == 1 && expression_.find('{') != expression_.npos))
      detail::fail<format_error>("'", expression_, "' looks ahead more than once");
    try {
      auto flags = std::regex::ECMAScript;
#if defined(__GLIBCXX__)
      flags |= std::regex_constants::__polynomial;  // never exponential time, no back-references
#endif
      regex_.assign(expression_, flags);
    } catch (const std::regex_error& e) {
      detail::fail<format_error>("'", expression_, "' is not a regular expression: ", e.what());
    }
  }

  const std::vector<std::string>& names() const { return names_; }
  const std::string& expression() const { return expression_; }
  bool is_list() const { return expression_.empty(); }
  bool all_linear() const { return expression_ == "all-linear"; }

  bool matches(const std::string& module) const {
    if (all_linear()) return !is_embedding_or_head(module);
    if (!is_list()) return module.size() <= longest && std::regex_match(module, regex_);
    return std::any_of(names_.begin(), names_.end(),
                       [&](const std::string& name) { return is_suffix(name, module); });
  }

  /// Whether `suffix` is `module` or what follows one of its dots.
  static bool is_suffix(const std::string& suffix, const std::string& module) {
    if (suffix.empty() || suffix.size() > module.size()) return false;
    const std::size_t start = module.size() - suffix.size();
    return module.compare(start, suffix.size(), suffix) == 0 &&
           (start == 0 || module[start - 1] == '.');
  }

 private:
  static constexpr std::size_t longest = 1000;

  /// By the last part of the name, as the models of transformers call them.
  static bool is_embedding_or_head(const std::string& module) {
    const std::string last = module.substr(module.rfind('.') + 1);
    for (const char* name : {"wte", "wpe", "shared", "relative_attention_bias", "lm_head",
                             "embed_out", "output", "head", "score", "classifier"})
      if (last == name) return true;
    return last.find("embed") != last.npos;
  }

  std::vector<std::string> names_;
  std::string expression_;
  std::regex regex_;
};

/// The fields of adapter_config.json with their defaults.
struct AdapterFileConfig {
  std::string base_model_name_or_path;
  std::string task_type;
  Variant variant = Variant::ether;
  Sides sides = Sides::input;
  Index num_blocks = 1;
  std::optional<Index> num_blocks_output;           ///< none: num_blocks
  std::map<std::string, Index> num_blocks_pattern;  ///< module suffix: number, on both sides
  BlockLayout block_layout = BlockLayout::diagonal;
  double strength = 1.0;
  std::optional<ModulePattern> target_modules;  ///< none: every module that has tensors
  std::optional<ModulePattern> exclude_modules;
  bool fan_in_fan_out = false;  ///< the base stores these weights as (in, out)
  bool inference_mode = true;

  /// What one module's Adapter has. Of several suffixes in the pattern the longest counts.
  AdapterConfig of_module(const std::string& module) const {
    AdapterConfig config;
    config.variant = variant, config.sides = sides;
    config.input_blocks = num_blocks;
    config.output_blocks = num_blocks_output.value_or(num_blocks);
    config.layout = block_layout, config.strength = strength;
    std::size_t longest = 0;
    for (const auto& [suffix, number] : num_blocks_pattern)
      if (suffix.size() > longest && ModulePattern::is_suffix(suffix, module)) {
        longest = suffix.size();
        config.input_blocks = config.output_blocks = number;
      }
    return config;
  }

  bool selects(const std::string& module) const {
    return (!target_modules || target_modules->matches(module)) &&
           (!exclude_modules || !exclude_modules->matches(module));
  }

  /// Reads the text of an adapter_config.json; `file` is for messages, `warnings` gets what is
  /// ignored. Throws format_error.
  static AdapterFileConfig parse(std::string_view text, const std::string& file,
                                 std::vector<std::string>& warnings);
  std::string text() const;
};

namespace detail {

/// One field of a JSON object, in its type or an error that names it.
struct Field {
  const std::string& file;
  const std::string& name;
  const Json& value;

  [[noreturn]] void fail_expected(const std::string& expected) const {
    std::string given = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (given.size() > 60) given = given.substr(0, 57) + "...";
    fail<format_error>(file, ": ", name, " is ", given, "; expected ", expected);
  }
  const std::string& string() const {
    if (!value.is_string()) fail_expected("a string");
    return value.get_ref<const std::string&>();
  }
  std::string optional_string() const { return value.is_null() ? std::string() : string(); }
  bool boolean() const {
    if (!value.is_boolean()) fail_expected("true or false");
    return value.get<bool>();
  }
  Index count() const { return count_of(value); }
  std::map<std::string, Index> counts() const {
    if (!value.is_object()) fail_expected("an object of numbers of blocks");
    std::map<std::string, Index> numbers;
    for (const auto& [key, number] : value.items()) numbers[key] = count_of(number);
    return numbers;
  }
  double number() const {
    if (!value.is_number() || !detail::is_finite(value.get<double>()))
      fail_expected("a finite number");
    return value.get<double>();
  }
  std::optional<ModulePattern> modules() const {
    if (value.is_null()) return std::nullopt;
    if (value.is_string()) return ModulePattern(string());
    const char* const expected = "a list of names, a regular expression, \"all-linear\" or null";
    if (!value.is_array()) fail_expected(expected);
    std::vector<std::string> names;
    for (const Json& entry : value) {
      if (!entry.is_string()) fail_expected(expected);
      names.push_back(entry.get<std::string>());
    }
    return ModulePattern(std::move(names));
  }
  /// The one of `values` whose to_string is this field.
  template <class Enum>
  Enum one_of(std::initializer_list<Enum> values) const {
    std::string expected;
    for (const Enum v : values) {
      if (value.is_string() && string() == to_string(v)) return v;
      expected += (expected.empty() ? "\"" : " or \"") + std::string(to_string(v)) + "\"";
    }
    fail_expected(expected);
  }

 private:
  Index count_of(const Json& number) const {
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() < 1 ||
        number.get<std::uint64_t>() > 1u << 30)
      fail_expected("a whole number from 1 to 2^30");
    return number.get<Index>();
  }
};

inline constexpr auto variants = {Variant::ether, Variant::ether_plus};
inline constexpr auto all_sides = {Sides::input, Sides::output, Sides::both};
inline constexpr auto layouts = {BlockLayout::diagonal, BlockLayout::row_chunk};

}  // namespace detail

inline AdapterFileConfig AdapterFileConfig::parse(std::string_view text, const std::string& file,
                                                  std::vector<std::string>& warnings) {
  AdapterFileConfig c;
  std::set<std::string> seen;
  const auto read = [&](const std::string& name, const detail::Json& value) {
    const detail::Field field{file, name, value};
    seen.insert(name);
    if (name == "peft_type") {
      if (!value.is_string() || field.string() != "ETHER")
        field.fail_expected("\"ETHER\": ether reads its own adapters only");
    } else if (name == "format_version") {
      if (value != 1) field.fail_expected("1, the version that this program knows");
    } else if (name == "base_model_name_or_path") {
      c.base_model_name_or_path = field.optional_string();
    } else if (name == "task_type") {
      c.task_type = field.optional_string();
    } else if (name == "variant") {
      c.variant = field.one_of(detail::variants);
    } else if (name == "sides") {
      c.sides = field.one_of(detail::all_sides);
    } else if (name == "num_blocks") {
      c.num_blocks = field.count();
    } else if (name == "num_blocks_output") {
      if (!value.is_null()) c.num_blocks_output = field.count();
    } else if (name == "num_blocks_pattern") {
      if (!value.is_null()) c.num_blocks_pattern = field.counts();
    } else if (name == "block_layout") {
      c.block_layout = field.one_of(detail::layouts);
    } else if (name == "strength") {
      c.strength = field.number();
    } else if (name == "target_modules") {
      c.target_modules = field.modules();
    } else if (name == "exclude_modules") {
      c.exclude_modules = field.modules();
    } else if (name == "bias") {
      if (value != "none") field.fail_expected("\"none\": trained biases are not supported");
    } else if (name == "fan_in_fan_out") {
      c.fan_in_fan_out = field.boolean();
    } else if (name == "modules_to_save") {
      if (!value.is_null()) field.fail_expected("null: whole saved modules are not supported");
    } else if (name == "inference_mode") {
      c.inference_mode = field.boolean();
    } else {
      warnings.push_back(file + ": the unknown field '" + name + "' is ignored");
    }
  };
  detail::parse_json_object(text, file, read);
  for (const char* name : {"peft_type", "variant", "sides", "num_blocks"})
    if (seen.count(name) == 0)
      detail::fail<format_error>(file, " lacks the field ", name, ", which is required");
  return c;
}

inline std::string AdapterFileConfig::text() const {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::string& s) { return s.empty() ? Json() : Json(s); };
  const auto modules = [](const std::optional<ModulePattern>& pattern) {
    if (!pattern) return Json();
    return pattern->is_list() ? Json(pattern->names()) : Json(pattern->expression());
  };
  Json j;
  j["peft_type"] = "ETHER";
  j["format_version"] = 1;
  j["base_model_name_or_path"] = or_null(base_model_name_or_path);
  j["task_type"] = or_null(task_type);
  j["variant"] = to_string(variant);
  j["sides"] = to_string(sides);
  j["num_blocks"] = num_blocks;
  j["num_blocks_output"] = num_blocks_output ? Json(*num_blocks_output) : Json();
  j["num_blocks_pattern"] = num_blocks_pattern;
  j["block_layout"] = to_string(block_layout);
  j["strength"] = strength;
  j["target_modules"] = modules(target_modules);
  j["exclude_modules"] = modules(exclude_modules);
  j["bias"] = "none";
  j["fan_in_fan_out"] = fan_in_fan_out;
  j["modules_to_save"] = Json();
  j["inference_mode"] = inference_mode;
  return detail::json_text(j, "the adapter's configuration", 2) + "\n";
}

ETHER_END_NAMESPACE
