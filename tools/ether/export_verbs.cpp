#include "report.hpp"
#include "verbs.hpp"

#include <ether/io/export_hra.hpp>
#include <ether/io/export_lora.hpp>

#include <memory>

namespace ether::tool {

namespace {

struct ExportVerb {
  std::string name;  // export-lora or export-hra
  ExportOptions job;
  CommonOptions common;
  std::string base, adapter, output;
  double strength = 1;
  std::string dtype = "f32";
};

template <class Export>
void print_json_report(const ExportVerb& verb, const Export& exported, double seconds) {
  print_json({{"verb", verb.name},
              {"base", verb.base},
              {"adapter", verb.adapter},
              {"output", verb.output},
              {"rank", exported.rank()},
              {"modules", exported.modules()},
              {"dtype", to_string(verb.job.dtype)},
              {"bytes", exported.bytes()},
              {"warnings", exported.warnings()},
              {"seconds", json_seconds(seconds)}});
}

/// Says the rank and the size before it writes.
template <class Export>
void write(const ExportVerb& verb, const std::string& method, ProgressBar& bar) {
  const bool talk = !verb.common.quiet && !verb.common.json;
  const Stopwatch time;
  const Export exported(verb.job);
  print_warnings(exported.warnings());
  if (talk)
    print(method + " of rank " + std::to_string(exported.rank()) + " for " +
          counted(exported.modules(), "module") + ", " + human_bytes(exported.bytes()) + "\n");
  exported.write();
  bar.erase();
  if (verb.common.json) print_json_report(verb, exported, time.seconds());
  if (talk)
    print("written to '" + printable(verb.output) + "' in " + human_seconds(time.seconds()) + "\n");
}

int run(ExportVerb& verb) {
  ExportOptions& job = verb.job;
  job.base = verb.base, job.adapter = verb.adapter, job.output = verb.output;
  job.dtype = verb.dtype == "f32" ? Dtype::f32 : verb.dtype == "f16" ? Dtype::f16 : Dtype::bf16;
  job.threads = verb.common.threads;
  ProgressBar bar(!verb.common.quiet);
  job.progress = bar.callback();
  remember_signals();
  if (verb.name == "export-lora")
    write<LoraExport>(verb, "LoRA", bar);
  else
    write<HraExport>(verb, "HRA", bar);
  return 0;
}

CLI::App* add_options(CLI::App& app, const std::shared_ptr<ExportVerb>& verb, Job& job,
                      const VerbHelp& help) {
  CLI::App* const added = add_verb(app, verb->name, help);
  const char* const files = "Files";
  const auto add_path = [&](const char* name, std::string& to, const char* type, const char* text) {
    added->add_option(name, to, text)
        ->type_name(type)
        ->required()
        ->check(path_value())
        ->group(files);
  };
  add_path("--base", verb->base, "PATH",
           "the checkpoint that the adapter is for: a .safetensors file, or a directory with "
           "model.safetensors or its shards");
  add_path("--adapter", verb->adapter, "DIR", "the adapter's directory");
  add_path("--out", verb->output, "DIR",
           "the directory to write: adapter_config.json and adapter_model.safetensors");
  added->add_flag("--force", verb->job.replace, "replace an existing output")->group(files);
  added->add_option("--dtype", verb->dtype, "of the tensors: f32 (default), bf16 or f16")
      ->type_name("TYPE")
      ->check(one_of({"f32", "bf16", "f16"}))
      ->group("Computation");
  added->callback([verb, &job] { job = [verb] { return run(*verb); }; });
  return added;
}

}  // namespace

void add_export_verbs(CLI::App& app, Job& job) {
  const auto lora = std::make_shared<ExportVerb>();
  lora->name = "export-lora";
  CLI::App* const added = add_options(
      app, lora, job,
      {"export-lora --base PATH --adapter DIR --out DIR [OPTION]...",
       "Write an adapter as the LoRA adapter that equals it.",
       "W' - W is the product of the two factors of a LoRA, without approximation; PEFT, vLLM and "
       "llama.cpp load it. Its rank is the number of vectors of the adapter: blocks (ETHER) or "
       "twice the blocks (ETHER+) of all sides; modules that need less are padded with zeros. The "
       "LoRA fits this base only, as its factors hold W's values. The rank and the size are "
       "printed before anything is written.",
       "ether export-lora --base model --adapter trained --out lora"});
  added
      ->add_option_function<double>(
          "--strength", [lora](double strength) { lora->job.strength = strength; },
          "strength of the adapter, in place of its own (1: as trained)")
      ->type_name("S")
      ->check(number())
      ->group("Computation");
  added
      ->add_flag("--allow-large-rank", lora->job.allow_large_rank,
                 "write an adapter of layout row_chunk with several input blocks n too, whose rank "
                 "grows as n^2")
      ->group("Computation");
  add_common_options(added, lora->common);

  const auto hra = std::make_shared<ExportVerb>();
  hra->name = "export-hra";
  add_common_options(
      add_options(app, hra, job,
                  {"export-hra --base PATH --adapter DIR --out DIR [OPTION]...",
                   "Write an adapter as the HRA adapter that equals it.",
                   "HRA, Householder reflection adaptation, is a chain of reflections on the input "
                   "side; PEFT loads it. The adapter must have variant ether, sides input, "
                   "block_layout diagonal, strength 1 and one number of blocks, which becomes the "
                   "rank.",
                   "ether export-hra --base model --adapter trained --out hra"}),
      hra->common);
}

}  // namespace ether::tool
