#include "report.hpp"
#include "verbs.hpp"

#include <ether/io/init_adapter.hpp>

#include <algorithm>
#include <memory>

namespace ether::tool {

namespace {

struct InitVerb {
  InitOptions job;
  CommonOptions common;
  std::string base, output;
  std::string variant = "ether", sides = "input", layout = "diagonal", dtype = "f32";
  Index output_blocks = 0;
  std::vector<std::string> pattern, targets, excluded;
  std::string target_regex, excluded_regex;
};

/// SUFFIX=N, which pattern_value has checked.
std::pair<std::string, Index> parse_pattern(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  return {text.substr(0, equals), std::stoll(text.substr(equals + 1))};
}

CLI::Validator pattern_value() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        const std::size_t equals = value.rfind('=');
        if (equals == value.npos || equals == 0) return "'" + value + "' is not SUFFIX=N";
        std::string number = value.substr(equals + 1);
        const std::string wrong = whole_number(1, 1u << 30)(number);
        value = value.substr(0, equals + 1) + number;
        return wrong;
      },
      "");
}

CLI::Validator regex_value() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        if (value.empty()) return "the regular expression is empty";
        try {
          const ModulePattern accepted(value);
        } catch (const error& e) {
          return e.what();
        }
        return {};
      },
      "");
}

CLI::Validator name_value() {
  return CLI::Validator(
      [](std::string& value) { return value.empty() ? "a name is empty" : std::string(); }, "");
}

std::optional<ModulePattern> modules(const std::vector<std::string>& names,
                                     const std::string& regex) {
  if (!regex.empty()) return ModulePattern(regex);
  if (names.empty()) return std::nullopt;
  if (names.size() == 1 && names[0] == "all-linear") return ModulePattern(names[0]);
  return ModulePattern(names);
}

int run(InitVerb& verb) {
  InitOptions& job = verb.job;
  AdapterFileConfig& config = job.config;
  job.base = verb.base, job.output = verb.output;
  job.dtype = verb.dtype == "f64" ? Dtype::f64 : Dtype::f32;
  config.variant = value_of({Variant::ether, Variant::ether_plus}, verb.variant);
  config.sides = value_of({Sides::input, Sides::output, Sides::both}, verb.sides);
  config.block_layout = value_of({BlockLayout::diagonal, BlockLayout::row_chunk}, verb.layout);
  if (verb.output_blocks > 0) config.num_blocks_output = verb.output_blocks;
  for (const std::string& entry : verb.pattern)
    config.num_blocks_pattern.insert(parse_pattern(entry));
  config.target_modules = modules(verb.targets, verb.target_regex);
  config.exclude_modules = modules(verb.excluded, verb.excluded_regex);

  const Stopwatch time;
  remember_signals();
  job.progress = [](const Progress&) { check_signals(); };
  InitReport report = init_adapter(job);
  print_warnings(report.warnings);
  if (verb.common.json) {
    print_json({{"verb", "init"},
                {"base", verb.base},
                {"output", verb.output},
                {"config", Report::parse(config.text())},
                {"modules", report.modules},
                {"parameters", report.parameters},
                {"dtype", to_string(job.dtype)},
                {"warnings", report.warnings},
                {"seconds", json_seconds(time.seconds())}});
  } else if (!verb.common.quiet) {
    std::string text;
    std::sort(report.modules.begin(), report.modules.end(), natural_less);
    for (const std::string& module : report.modules) text += printable_name(module) + "\n";
    print(text + "\n" + counted(report.modules.size(), "module") + ", " +
          counted(static_cast<std::size_t>(report.parameters), "parameter") + " (" +
          to_string(job.dtype) + ") written to '" + printable(verb.output) + "'\n");
  }
  return 0;
}

void add_files(CLI::App* app, InitVerb& verb) {
  const char* const files = "Files";
  app->add_option("--base", verb.base,
                  "the checkpoint that the adapter is for: a .safetensors file, or a directory "
                  "with model.safetensors or its shards")
      ->type_name("PATH")
      ->required()
      ->check(path_value())
      ->group(files);
  app->add_option("--out", verb.output, "the adapter's directory, to be written")
      ->type_name("DIR")
      ->required()
      ->check(path_value())
      ->group(files);
  app->add_flag("--force", verb.job.replace, "replace an existing output")->group(files);
}

/// The fields of adapter_config.json, by their names.
void add_transform(CLI::App* app, InitVerb& verb) {
  const char* const group = "Transform";
  AdapterFileConfig& config = verb.job.config;
  const auto add_choice = [&](const char* name, std::string& to, const char* type, const char* text,
                              std::vector<std::string> values) {
    app->add_option(name, to, text)
        ->type_name(type)
        ->check(one_of(std::move(values)))
        ->group(group);
  };
  const auto blocks = whole_number(1, 1u << 30);
  add_choice("--variant", verb.variant, "VARIANT", "ether (default) or ether_plus",
             {"ether", "ether_plus"});
  add_choice("--sides", verb.sides, "SIDES", "what to adapt: input (default), output or both",
             {"input", "output", "both"});
  app->add_option("--num-blocks", config.num_blocks,
                  "blocks of each side; must divide its width (default: 1)")
      ->type_name("N")
      ->transform(blocks)
      ->group(group);
  app->add_option("--num-blocks-output", verb.output_blocks,
                  "blocks of the output side (default: as --num-blocks)")
      ->type_name("N")
      ->transform(blocks)
      ->group(group);
  app->add_option("--num-blocks-pattern", verb.pattern,
                  "another number, on both sides, for modules whose name is SUFFIX or ends in "
                  ".SUFFIX; may be given several times")
      ->type_name("SUFFIX=N")
      ->allow_extra_args(false)
      ->check(pattern_value())
      ->group(group);
  add_choice("--block-layout", verb.layout, "LAYOUT",
             "diagonal (default) or row_chunk, the one of the authors' training code",
             {"diagonal", "row_chunk"});
  app->add_option("--strength", config.strength, "strength (default: 1; 0 leaves W as it is)")
      ->type_name("S")
      ->check(number())
      ->group(group);
  app->add_option("--seed", verb.job.seed, "of the random values, below 2^64 (default: 0)")
      ->type_name("N")
      ->transform(whole_number(0, ~std::uint64_t{0}))
      ->group(group);
  add_choice("--dtype", verb.dtype, "TYPE", "of the parameters: f32 (default) or f64",
             {"f32", "f64"});
}

void add_modules(CLI::App* app, InitVerb& verb) {
  const char* const group = "Modules (one of the first two is required)";
  const auto add_names = [&](const char* name, std::vector<std::string>& to, const char* text) {
    return app->add_option(name, to, text)
        ->type_name("NAME,...")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(name_value())
        ->group(group);
  };
  const auto add_regex = [&](const char* name, std::string& to, const char* text) {
    return app->add_option(name, to, text)->type_name("REGEX")->check(regex_value())->group(group);
  };
  auto* const names =
      add_names("--target-modules", verb.targets,
                "modules to adapt, by whole names or what follows a dot in them (q_proj); or "
                "all-linear: every matrix but embeddings and the output head");
  add_regex("--target-regex", verb.target_regex,
            "the same as a regular expression (ECMAScript) that matches whole names")
      ->excludes(names);
  auto* const excluded =
      add_names("--exclude-modules", verb.excluded, "modules not to adapt, of those");
  add_regex("--exclude-regex", verb.excluded_regex, "the same as a regular expression")
      ->excludes(excluded);
  app->add_flag("--fan-in-fan-out", verb.job.config.fan_in_fan_out,
                "the base stores these weights as (in, out), as GPT-2 does")
      ->group(group);
}

}  // namespace

void add_init_verb(CLI::App& app, Job& job) {
  const auto verb = std::make_shared<InitVerb>();
  CLI::App* const added =
      add_verb(app, "init",
               {"init --base PATH --out DIR --target-modules NAME,... [OPTION]...",
                "Write a fresh adapter for some modules of a checkpoint.",
                "The values are those that training starts from: u is uniform within "
                "1/sqrt(block size), and v = -u, so that ETHER+ starts at W' = W. The options are "
                "the fields of adapter_config.json.",
                "ether init --base model --out new --target-modules q_proj"});
  add_files(added, *verb);
  add_modules(added, *verb);
  add_transform(added, *verb);
  const char* const group = "Description, for other programs";
  added
      ->add_option("--base-model-name", verb->job.config.base_model_name_or_path,
                   "base_model_name_or_path of the configuration (default: null)")
      ->type_name("NAME")
      ->group(group);
  added
      ->add_option("--task-type", verb->job.config.task_type,
                   "task_type of the configuration, such as CAUSAL_LM (default: null)")
      ->type_name("TYPE")
      ->group(group);
  add_common_options(added, verb->common, /*has_threads=*/false);
  added->callback([verb, &job] {
    if (verb->targets.empty() && verb->target_regex.empty())
      throw CLI::RequiredError("--target-modules or --target-regex");
    for (const auto* names : {&verb->targets, &verb->excluded})
      if (names->size() > 1 && std::count(names->begin(), names->end(), "all-linear") > 0)
        throw CLI::ValidationError("all-linear is given together with other names");
    std::set<std::string> suffixes;
    for (const std::string& entry : verb->pattern)
      if (const std::string suffix = parse_pattern(entry).first; !suffixes.insert(suffix).second)
        throw CLI::ValidationError("--num-blocks-pattern gives '" + suffix + "' two numbers");
    job = [verb] { return run(*verb); };
  });
}

}  // namespace ether::tool
