#include "report.hpp"
#include "verbs.hpp"

#include <ether/io/merge_checkpoint.hpp>

#include <memory>

namespace ether::tool {

namespace {

struct MergeVerb {
  std::string name;  // merge or unmerge
  MergeOptions job;
  CommonOptions common;
  std::string base, output;
  std::vector<std::string> adapters;
  double strength = 1;
  std::string dtype = "keep";
};

Report module_json(const ModuleReport& m) {
  return {{"name", m.name},
          {"out", m.out},
          {"in", m.in},
          {"dtype", to_string(m.dtype)},
          {"adapters", m.adapters},
          {"relative_change", m.relative_change},
          {"input_distance", m.input_distance},
          {"output_distance", m.output_distance},
          {"overflowed", m.overflowed}};
}

void print_merge_json(const MergeVerb& verb, const MergeReport& report, double seconds) {
  Report json;
  json["verb"] = verb.name;
  json[verb.name == "merge" ? "base" : "merged"] = verb.base;
  json["adapters"] = verb.adapters;
  json["output"] = verb.output.empty() ? Report() : Report(verb.output);
  json["dry_run"] = verb.job.dry_run;
  json["modules"] = Report::array();
  for (const ModuleReport& module : report.modules) json["modules"].push_back(module_json(module));
  json["bytes"] = report.bytes;
  json["verified_elements"] = report.verified;
  json["warnings"] = report.warnings;
  json["seconds"] = json_seconds(seconds);
  print_json(json);
}

void print_merge_table(const MergeVerb& verb, const MergeReport& report, double seconds) {
  Table table({{"module"},
               {"out", true},
               {"in", true},
               {"dtype"},
               {"adapters", true},
               {"|W'-W|/|W|", true},
               {"|H_in-I|", true},
               {"|H_out-I|", true},
               {"overflowed", true}});
  const bool several = verb.adapters.size() > 1;
  for (const ModuleReport& m : report.modules)
    table.add({printable_name(m.name), std::to_string(m.out), std::to_string(m.in),
               to_string(m.dtype), several ? std::to_string(m.adapters.size()) : "",
               short_number(m.relative_change), short_number(m.input_distance),
               short_number(m.output_distance), m.overflowed == 0 ? "" : grouped(m.overflowed)});
  const double speed = static_cast<double>(report.bytes) / std::max(seconds, 1e-6);
  std::string text = table.text() + "\n" + counted(report.modules.size(), "module") + "; ";
  if (verb.job.dry_run)
    text += human_bytes(report.bytes) + " to write; nothing was written (--dry-run)";
  else
    text += human_bytes(report.bytes) + " written in " + human_seconds(seconds) +
            (seconds < 0.1 ? "" : ", " + human_bytes(static_cast<std::uint64_t>(speed)) + "/s");
  if (report.verified > 0) text += "; " + grouped(report.verified) + " elements verified";
  print(text + "\n");
}

int run(MergeVerb& verb) {
  MergeOptions& job = verb.job;
  job.base = verb.base;
  job.adapters.assign(verb.adapters.begin(), verb.adapters.end());
  job.output = verb.output;
  if (verb.dtype != "keep")
    job.dtype = verb.dtype == "f32" ? Dtype::f32 : verb.dtype == "f16" ? Dtype::f16 : Dtype::bf16;
  job.threads = verb.common.threads;

  const Stopwatch time;
  MergeReport report;
  {
    ProgressBar bar(!verb.common.quiet);
    job.progress = bar.callback();
    remember_signals();
    report = verb.name == "merge" ? merge_checkpoint(job) : unmerge_checkpoint(job);
  }
  print_warnings(report.warnings);
  if (verb.common.json)
    print_merge_json(verb, report, time.seconds());
  else if (!verb.common.quiet)
    print_merge_table(verb, report, time.seconds());
  return 0;
}

/// The options that both verbs have, in the order of --help.
void add_options(CLI::App* app, MergeVerb& verb) {
  const bool merge = verb.name == "merge";
  const char* const files = "Files";
  app->add_option(merge ? "--base" : "--merged", verb.base,
                  "the checkpoint to read: a .safetensors file, or a directory with "
                  "model.safetensors or its shards")
      ->type_name("PATH")
      ->required()
      ->check(path_value())
      ->group(files);
  auto* const adapter =
      app->add_option("--adapter", verb.adapters,
                      merge ? "an adapter's directory; may be given several times, to apply one "
                              "adapter after the other"
                            : "the directory of the adapter that was merged")
          ->type_name("DIR")
          ->required()
          ->check(path_value())
          ->group(files);
  adapter->allow_extra_args(false);
  if (!merge) adapter->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app->add_option("--out", verb.output,
                  "the checkpoint to write: a directory, or a file if PATH ends in .safetensors "
                  "and the checkpoint read is a file; required without --dry-run")
      ->type_name("PATH")
      ->check(path_value())
      ->group(files);
  app->add_flag("--force", verb.job.replace, "replace an existing output")->group(files);
  app->add_flag_callback(
         "--no-flush", [&verb] { verb.job.flush = false; },
         "do not wait until the output is on the disk: faster, and safe but for a crash of the "
         "whole machine")
      ->group(files);
  auto* const dry_run =
      app->add_flag("--dry-run", verb.job.dry_run,
                    "check and compute everything and print the report; write nothing")
          ->group(files);

  const char* const computation = "Computation";
  app->add_option("--strength", verb.strength,
                  merge ? "strength of the adapters, in place of their own (0: W as it is, 1: as "
                          "trained)"
                        : "the strength that the adapter was merged with (default: its own)")
      ->type_name("S")
      ->check(number())
      ->group(computation);
  app->add_option("--dtype", verb.dtype,
                  "of the adapted weights: keep (default), f32, f16 or bf16; all others stay as "
                  "they are")
      ->type_name("TYPE")
      ->check(one_of({"keep", "f32", "f16", "bf16"}))
      ->group(computation);
  app->add_flag("--allow-overflow", verb.job.allow_overflow,
                "write infinities where a value is beyond the dtype's range, or the checkpoint "
                "read has values that are not finite; otherwise these are errors")
      ->group(computation);
  if (merge)
    app->add_flag("--verify", verb.job.verify,
                  "read the output again and compare every element with an independent "
                  "computation, before it gets its name")
        ->excludes(dry_run)
        ->group(computation);
  else
    app->add_option("--max-condition", verb.job.max_condition,
                    "refuse a block with a condition number above C, 1 or more (default: 1000)")
        ->type_name("C")
        ->check(number_from(1))
        ->group(computation);
  add_common_options(app, verb.common);
}

void add_verb_of(CLI::App& app, Job& job, const std::string& name, const VerbHelp& help) {
  const auto verb = std::make_shared<MergeVerb>();
  verb->name = name;
  CLI::App* const added = add_verb(app, name, help);
  add_options(added, *verb);
  added->callback([verb, added, &job] {
    if (!verb->job.dry_run && verb->output.empty()) throw CLI::RequiredError("--out");
    if (added->count("--strength") > 0) verb->job.strength = verb->strength;
    job = [verb] { return run(*verb); };
  });
}

constexpr const char* columns =
    "The report has a line for each adapted weight: its name, (out, in), dtype, |W'-W|/|W|, "
    "and the distances |H_in-I| and |H_out-I| (of the last adapter), in the Frobenius norm of the "
    "whole H, sqrt(blocks) times the root mean square over its blocks; "
    "and how many elements overflowed, if any.";

}  // namespace

void add_merge_verbs(CLI::App& app, Job& job) {
  add_verb_of(app, job, "merge",
              {"merge --base PATH --adapter DIR --out PATH [OPTION]...",
               "Write a checkpoint with adapters merged into its weights.",
               std::string("Every adapted weight W becomes W' = H_out W H_in, computed in double "
                           "and rounded once. Several adapters are applied in the order given, "
                           "each to the result of the one before. The output has the files of the "
                           "base: the same shards, every tensor that no adapter touches byte for "
                           "byte, and every other file copied.\n\n") +
                   columns,
               "ether merge --base model --adapter trained --out merged"});
  add_verb_of(
      app, job, "unmerge",
      {"unmerge --merged PATH --adapter DIR --out PATH [OPTION]...",
       "Write a checkpoint with a merge undone.",
       std::string("Every adapted weight W' becomes W = H_out^-1 W' H_in^-1. Blocks that "
                   "are almost singular cannot be undone and are refused; a checkpoint of "
                   "16 bits does not get every bit back. Keep the base where you can.\n\n") +
           columns,
       "ether unmerge --merged merged --adapter trained --out restored"});
}

}  // namespace ether::tool
