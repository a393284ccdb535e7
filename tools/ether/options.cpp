#include "options.hpp"

#include "text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>

namespace ether::tool {

namespace {

std::string exit_status(const std::string& of_1) {
  return "Exit status:\n"
         "  0         success\n"
         "  1         " +
         wrapped(of_1, 12) +
         "\n"
         "  2         wrong usage\n"
         "  130, 143  interrupted, by SIGINT or SIGTERM\n";
}

/// "  --threads N       text", the text wrapped beside the names.
std::string option_line(const std::string& names, const std::string& text) {
  constexpr std::size_t column = 26;
  std::string line = "  " + names;
  line += line.size() + 2 > column ? "\n" + std::string(column, ' ')
                                   : std::string(column - line.size(), ' ');
  return line + wrapped(text, column) + "\n";
}

std::string options_help(const CLI::App& app) {
  std::vector<std::string> groups;
  std::map<std::string, std::string> lines;
  for (const CLI::Option* option : app.get_options()) {
    const std::string group = option->get_group();
    if (lines.count(group) == 0) groups.push_back(group);
    std::string names;
    for (const std::string& name : option->get_snames())
      names += (names.empty() ? "-" : ", -") + name;
    for (const std::string& name : option->get_lnames())
      names += (names.empty() ? "--" : ", --") + name;
    if (option->get_positional())
      names = option->get_type_name();
    else if (option->get_type_size() != 0)
      names += " " + option->get_type_name();
    lines[group] += option_line(names, option->get_description());
  }
  std::rotate(groups.begin(), groups.begin() + 1, groups.end());  // --help's comes last
  std::string text;
  for (const std::string& group : groups)
    if (!group.empty()) text += group + ":\n" + lines[group] + "\n";
  return text;
}

std::string verb_help(const CLI::App& app, const VerbHelp& help) {
  std::string text = "Usage: ether " + help.usage + "\n\n";
  text += wrapped(help.description, 0) + "\n\n";
  if (!help.details.empty()) text += wrapped(help.details, 0) + "\n\n";
  text += options_help(app) + exit_status(help.status_1) + "\nExamples:\n";
  text += "  $ " + help.example + "\n";
  return text;
}

}  // namespace

CLI::App* add_verb(CLI::App& app, const std::string& name, const VerbHelp& help) {
  CLI::App* const verb = app.add_subcommand(name, help.description);
  verb->set_help_flag("-h,--help", "print this text")->group("Other options");
  verb->formatter_fn([help](const CLI::App* self, const std::string&, CLI::AppFormatMode) {
    return verb_help(*self, help);
  });
  return verb;
}

void add_common_options(CLI::App* verb, CommonOptions& options, bool has_threads) {
  const char* const group = "Other options";
  if (has_threads)
    verb->add_option("--threads", options.threads,
                     "threads, up to 1024 (default: 0, one for each processor)")
        ->type_name("N")
        ->transform(whole_number(0, 1024))
        ->group(group);
  verb->add_flag("--json", options.json, "print the report as JSON on standard output")
      ->group(group);
  verb->add_flag("--quiet", options.quiet,
                 "print neither a table nor a progress bar; errors and warnings still")
      ->group(group);
}

std::string program_help(const CLI::App& app) {
  std::string text =
      "Usage: ether VERB [OPTION]...\n"
      "  or:  ether VERB --help\n\n" +
      wrapped(
          "ETHER and ETHER+ adapters for checkpoints on disk: merge them, undo a merge, export "
          "them to other formats, look into files.\n\n"
          "An adapter replaces a weight W, (out, in), by W' = H_out W H_in, where each H is "
          "a block-diagonal hyperplane reflection (arXiv 2405.20271). It is a directory of "
          "adapter_config.json and adapter_model.safetensors. A base is a .safetensors file "
          "or a directory in the Hugging Face layout, sharded or not; it is only read. An "
          "output appears whole or not at all.",
          0) +
      "\n\nVerbs:\n";
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    std::string name = "  " + verb->get_name();
    name.resize(16, ' ');
    text += name + wrapped(verb->get_description(), 16) + "\n";
  }
  return text + "\n" + options_help(app) + exit_status(VerbHelp().status_1) +
         "\nExamples:\n"
         "  $ ether init --base model --out new --target-modules q_proj\n"
         "  $ ether inspect trained\n"
         "  $ ether merge --base model --adapter trained --out merged\n";
}

CLI::Validator path_value() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        if (value.empty()) return "the path is empty";
        if (value.rfind("--", 0) == 0)
          return "a path is expected, not " + value + "; is it one? Then write ./" + value;
        return {};
      },
      "");
}

CLI::Validator one_of(std::vector<std::string> names) {
  return CLI::Validator(
      [names = std::move(names)](std::string& value) -> std::string {
        std::string all;
        for (const std::string& name : names) {
          if (value == name) return {};
          all += (all.empty() ? "" : ", ") + name;
        }
        return "'" + value + "' is none of " + all;
      },
      "");
}

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  return CLI::Validator(
      [=](std::string& value) -> std::string {
        std::uint64_t n = 0;
        const char* const end = value.data() + value.size();
        const auto [stop, error] = std::from_chars(value.data(), end, n);
        if (value.empty() || stop != end || error != std::errc{} || n < least || n > most)
          return "'" + value + "' is not a whole number from " + std::to_string(least) + " to " +
                 std::to_string(most);
        value = std::to_string(n);
        return {};
      },
      "");
}

CLI::Validator number() { return number_from(-std::numeric_limits<double>::infinity()); }

CLI::Validator number_from(double least) {
  return CLI::Validator(
      [=](std::string& value) -> std::string {
        char* end = nullptr;
        const double x = std::strtod(value.c_str(), &end);
        if (value.empty() || *end != '\0' || !std::isfinite(x))
          return "'" + value + "' is not a finite number";
        if (x < least) return value + " is less than " + short_number(least);
        return {};
      },
      "");
}

}  // namespace ether::tool
