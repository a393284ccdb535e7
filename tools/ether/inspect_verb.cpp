#include "report.hpp"
#include "verbs.hpp"

#include <ether/analysis.hpp>

#include <memory>

namespace ether::tool {

namespace {

struct InspectVerb {
  CommonOptions common;
  std::string path;
};

// --- A checkpoint ---

void inspect_checkpoint(const InspectVerb& verb) {
  const Checkpoint checkpoint(verb.path);
  print_warnings(checkpoint.warnings());
  const bool sharded = checkpoint.shards().size() > 1;
  DtypeTotals totals;
  Table table({{"tensor"}, {"dtype"}, {"shape"}, {"size", true}, {"shard"}});
  Report tensors = Report::array();
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const TensorInfo& info = *tensor.info;
    const std::string shard = tensor.shard->path().filename().string();
    totals.add(info);
    if (verb.common.json)
      tensors.push_back({{"name", name},
                         {"dtype", to_string(info.dtype)},
                         {"shape", info.shape},
                         {"bytes", info.bytes()},
                         {"shard", shard}});
    else
      table.add({printable_name(name), to_string(info.dtype), shape_text(info.shape),
                 human_bytes(info.bytes()), sharded ? printable_name(shard) : ""});
  }
  if (!verb.common.json) {
    if (verb.common.quiet) return;
    print((table.empty() ? "" : table.text() + "\n") + totals.text());
    return;
  }
  Report json{{"kind", "checkpoint"}, {"path", verb.path}};
  json["shards"] = Report::array();
  for (const auto& shard : checkpoint.shards())
    json["shards"].push_back({{"name", shard->path().filename().string()},
                              {"bytes", shard->file().size()},
                              {"metadata", shard->header().metadata}});
  json["tensors"] = std::move(tensors);
  json["totals"] = totals.json();
  json["warnings"] = checkpoint.warnings();
  print_json(json);
}

// --- An adapter ---

struct ModuleFigures {
  std::string name;
  std::vector<std::uint64_t> input_shape,
      output_shape;  // (blocks, block_size); empty: no such side
  Index parameters = 0;
  std::optional<double> input_distance, output_distance;
  std::optional<double> smallest_cosine;  // |û.v̂| over the blocks of both sides
  Index lora_rank = 0;                    // of the LoRA that equals it
};

ModuleFigures figures_of(const AdapterFile& file, const std::string& module) {
  const Index in = file.width(module, Side::input), out = file.width(module, Side::output);
  const auto adapter =
      file.adapter<double>(module, std::max<Index>(out, 1), std::max<Index>(in, 1));
  ModuleFigures m;
  m.name = module;
  m.parameters = adapter.size();
  for (const Side side : {Side::input, Side::output}) {
    const Index terms = adapter.terms(side), blocks = adapter.blocks(side);
    if (terms == 0) continue;
    const Index size = adapter.block_size(side);
    const bool input = side == Side::input;
    (input ? m.input_shape : m.output_shape) = {static_cast<std::uint64_t>(blocks),
                                                static_cast<std::uint64_t>(size)};
    (input ? m.input_distance : m.output_distance) = distance_to_identity(adapter, side);
    const bool chunked = input && adapter.config().layout == BlockLayout::row_chunk;
    m.lora_rank += terms * blocks * (chunked ? blocks : 1);
    if (terms < 2) continue;
    for (Index b = 0; b < blocks; ++b) {
      const auto w = adapter.parameters(side);
      const double cosine =
          std::fabs(block_angle(w.row(0) + b * size, w.row(1) + b * size, size).cosine);
      m.smallest_cosine = std::min(m.smallest_cosine.value_or(1), cosine);
    }
  }
  return m;
}

Report json_of(const ModuleFigures& m) {
  const auto or_null = [](const auto& value) { return value ? Report(*value) : Report(); };
  const auto shape = [](const auto& s) { return s.empty() ? Report() : Report(s); };
  return {{"name", m.name},
          {"input_shape", shape(m.input_shape)},
          {"output_shape", shape(m.output_shape)},
          {"parameters", m.parameters},
          {"input_distance", or_null(m.input_distance)},
          {"output_distance", or_null(m.output_distance)},
          {"smallest_cosine", or_null(m.smallest_cosine)},
          {"lora_rank", m.lora_rank}};
}

void inspect_adapter(const InspectVerb& verb) {
  const AdapterFile file(verb.path);
  print_warnings(file.warnings());
  DtypeTotals totals;
  for (const TensorInfo& tensor : file.tensors().tensors()) totals.add(tensor);
  Table table({{"module"},
               {"u (blocks, size)"},
               {"u_out (blocks, size)"},
               {"parameters", true},
               {"|H_in-I|", true},
               {"|H_out-I|", true},
               {"min |u.v|", true},
               {"LoRA rank", true}});
  Report modules = Report::array();
  Index rank = 0;
  const auto number = [](const std::optional<double>& value) {
    return value ? short_number(*value) : std::string();
  };
  const auto shape = [](const auto& s) { return s.empty() ? std::string() : shape_text(s); };
  for (const std::string& name : file.modules()) {
    const ModuleFigures m = figures_of(file, name);
    rank = std::max(rank, m.lora_rank);
    if (verb.common.json)
      modules.push_back(json_of(m));
    else
      table.add({printable_name(name), shape(m.input_shape), shape(m.output_shape),
                 grouped(static_cast<std::uint64_t>(m.parameters)), number(m.input_distance),
                 number(m.output_distance), number(m.smallest_cosine),
                 grouped(static_cast<std::uint64_t>(m.lora_rank))});
  }
  if (verb.common.json) {
    Report sum = totals.json();
    sum["modules"] = modules.size();
    sum["lora_rank"] = rank;
    print_json({{"kind", "adapter"},
                {"path", verb.path},
                {"config", Report::parse(file.config().text())},
                {"modules", std::move(modules)},
                {"totals", sum},
                {"warnings", file.warnings()}});
  } else if (!verb.common.quiet) {
    std::string text;
    const Report config = Report::parse(file.config().text());
    for (const auto& [field, value] : config.items())
      text += field + ": " + printable(value.dump()) + "\n";
    text += "\n" + (table.empty() ? "" : table.text() + "\n");
    print(text + counted(file.modules().size(), "module") + ", " + totals.text() +
          "The LoRA that equals it has rank " + grouped(static_cast<std::uint64_t>(rank)) + ".\n");
  }
}

int run(const InspectVerb& verb) {
  const fs::path path = verb.path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored) && fs::exists(path / AdapterFile::config_name, ignored))
    inspect_adapter(verb);
  else
    inspect_checkpoint(verb);
  return 0;
}

}  // namespace

void add_inspect_verb(CLI::App& app, Job& job) {
  const auto verb = std::make_shared<InspectVerb>();
  CLI::App* const added = add_verb(
      app, "inspect",
      {"inspect PATH [OPTION]...", "Show what a checkpoint or an adapter holds.",
       "Of a checkpoint: each tensor's name, dtype, shape and size (1 kB is 1000 bytes), and the "
       "shard it is in; then totals.\n\n"
       "Of an adapter: its configuration, and for each module the shapes of u and u_out (those of "
       "v and v_out are the same), the number of parameters, the distances |H-I| of both sides "
       "in the Frobenius norm of the whole H at the adapter's strength, the smallest |u.v| of unit "
       "vectors over "
       "the blocks (ETHER+; near 0 a block is almost singular at strength 1), and the rank of the "
       "LoRA that equals it.",
       "ether inspect trained"});
  added
      ->add_option("path", verb->path,
                   "a .safetensors file, a directory with model.safetensors or its shards, or an "
                   "adapter's directory, which has adapter_config.json")
      ->type_name("PATH")
      ->required()
      ->check(path_value())
      ->group("Files");
  add_common_options(added, verb->common, /*has_threads=*/false);
  added->callback([verb, &job] { job = [verb] { return run(*verb); }; });
}

}  // namespace ether::tool
