#include "report.hpp"
#include "verbs.hpp"

#include <ether/io/diff_checkpoints.hpp>

#include <memory>

namespace ether::tool {

namespace {

struct DiffVerb {
  CommonOptions common;
  std::string a, b;
  double tolerance = 0;
  bool all = false;
};

/// How a tensor that both have compares.
const char* verdict(const TensorDiff& tensor, double tolerance) {
  if (tensor.same_bytes) return "identical";
  CheckpointDiff alone;
  alone.tensors.push_back(tensor);
  if (alone.differs(tolerance)) return "differs";
  return tensor.relative == 0 && tensor.max_absolute == 0 && tensor.a->dtype == tensor.b->dtype
             ? "equal"  // in value: 0 and -0
             : "tolerated";
}

std::string both(const std::string& a, const std::string& b) { return a == b ? a : a + " | " + b; }

void print_diff_json(const DiffVerb& verb, const CheckpointDiff& diff, double seconds) {
  Report tensors = Report::array();
  for (const TensorDiff& t : diff.tensors) {
    if (t.same_bytes && !verb.all) continue;
    tensors.push_back({{"name", t.name},
                       {"verdict", verdict(t, verb.tolerance)},
                       {"dtype_a", to_string(t.a->dtype)},
                       {"dtype_b", to_string(t.b->dtype)},
                       {"shape_a", t.a->shape},
                       {"shape_b", t.b->shape},
                       {"max_absolute", t.comparable ? Report(t.max_absolute) : Report()},
                       {"relative", t.comparable ? Report(t.relative) : Report()}});
  }
  const auto identical = std::count_if(diff.tensors.begin(), diff.tensors.end(),
                                       [](const TensorDiff& t) { return t.same_bytes; });
  print_json({{"a", verb.a},
              {"b", verb.b},
              {"tolerance", verb.tolerance},
              {"differs", diff.differs(verb.tolerance)},
              {"only_in_a", diff.only_in_a},
              {"only_in_b", diff.only_in_b},
              {"compared", diff.tensors.size()},
              {"identical", identical},
              {"tensors", std::move(tensors)},
              {"seconds", json_seconds(seconds)}});
}

void print_diff_table(const DiffVerb& verb, const CheckpointDiff& diff) {
  Table table(
      {{"tensor"}, {"verdict"}, {"dtype"}, {"shape"}, {"max |a-b|", true}, {"|a-b|/|a|", true}});
  for (const std::string& name : diff.only_in_a)
    table.add({printable_name(name), "only in A", "", "", "", ""});
  for (const std::string& name : diff.only_in_b)
    table.add({printable_name(name), "only in B", "", "", "", ""});
  std::map<std::string, std::size_t> counts;
  for (const TensorDiff& t : diff.tensors) {
    const std::string how = verdict(t, verb.tolerance);
    ++counts[how];
    if (t.same_bytes && !verb.all) continue;
    table.add({printable_name(t.name), how, both(to_string(t.a->dtype), to_string(t.b->dtype)),
               both(shape_text(t.a->shape), shape_text(t.b->shape)),
               t.comparable ? short_number(t.max_absolute) : "",
               t.comparable ? short_number(t.relative) : ""});
  }
  std::string summary = counted(diff.tensors.size(), "tensor") + " in both";
  for (const char* how : {"identical", "equal", "tolerated", "differs"})
    if (counts[how] > 0)
      summary +=
          ", " + grouped(counts[how]) + " " + (how == std::string("differs") ? "different" : how);
  const auto add_missing = [&](const std::vector<std::string>& names, const char* where) {
    if (!names.empty()) summary += "; " + grouped(names.size()) + " only in " + where;
  };
  add_missing(diff.only_in_a, "A"), add_missing(diff.only_in_b, "B");
  print((table.empty() ? "" : table.text() + "\n") + summary + "\n");
}

int run(const DiffVerb& verb) {
  const Stopwatch time;
  const Checkpoint a(verb.a), b(verb.b);
  print_warnings(a.warnings());
  print_warnings(b.warnings());
  CheckpointDiff diff;
  {
    ProgressBar bar(!verb.common.quiet);
    remember_signals();
    diff = diff_checkpoints(a, b, verb.common.threads, bar.callback());
  }
  if (verb.common.json)
    print_diff_json(verb, diff, time.seconds());
  else if (!verb.common.quiet)
    print_diff_table(verb, diff);
  return diff.differs(verb.tolerance) ? 1 : 0;
}

}  // namespace

void add_diff_verb(CLI::App& app, Job& job) {
  const auto verb = std::make_shared<DiffVerb>();
  CLI::App* const added = add_verb(
      app, "diff",
      {"diff A B [OPTION]...", "Compare two checkpoints tensor by tensor.",
       "Shows the tensors that only one of them has, and for each tensor that is not the same in "
       "both the largest absolute difference and the relative one, |a-b|/|a|, in the Frobenius "
       "norm.\n\n"
       "Verdicts: identical, in every bit; equal, in value (0 and -0); tolerated, within the "
       "tolerance; differs. Tensors of another shape differ, as do integers and other tensors that "
       "are no weights unless they are identical. With tolerance 0 another dtype differs too.",
       "ether diff merged restored --tolerance 1e-6",
       "they differ; or they could not be read, and standard error says why in one line"});
  const auto add_path = [&](const char* name, std::string& to, const char* type, const char* text) {
    added->add_option(name, to, text)
        ->type_name(type)
        ->required()
        ->check(path_value())
        ->group("Files");
  };
  add_path("a", verb->a, "A",
           "a .safetensors file, or a directory with model.safetensors or its shards");
  add_path("b", verb->b, "B", "another; the two may be sharded differently");
  added
      ->add_option("--tolerance", verb->tolerance,
                   "largest relative difference of a tensor that counts as none, 0 or more "
                   "(default: 0)")
      ->type_name("T")
      ->check(number_from(0))
      ->group("Comparison");
  added->add_flag("--all", verb->all, "list identical tensors too")->group("Comparison");
  add_common_options(added, verb->common);
  added->callback([verb, &job] { job = [verb] { return run(*verb); }; });
}

}  // namespace ether::tool
