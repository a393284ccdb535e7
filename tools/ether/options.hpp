#pragma once

/// Options of the verbs: what values they take, and their help.

#include <ether/transform.hpp>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ether::tool {

/// What a verb does once its options are read; returns the exit status.
using Job = std::function<int()>;

/// Options that every verb has.
struct CommonOptions {
  int threads = 0;
  bool json = false;
  bool quiet = false;
};

/// The texts of a verb's --help, next to its options.
struct VerbHelp {
  std::string usage;        ///< what follows "ether "
  std::string description;  ///< one sentence, also shown by ether --help
  std::string details;      ///< paragraphs
  std::string example;      ///< a command
  /// Of exit status 1.
  std::string status_1 = "the job was refused or failed; standard error says why in one line";
};

/// A verb whose --help is laid out for terminals and for help2man.
CLI::App* add_verb(CLI::App& app, const std::string& name, const VerbHelp& help);
void add_common_options(CLI::App* verb, CommonOptions& options, bool has_threads = true);
/// The text of `ether --help`.
std::string program_help(const CLI::App& app);

// --- Values. What is refused is wrong usage. ---

/// Not empty, and not an option that was meant to follow ("--out --force").
CLI::Validator path_value();
/// One of `names`, exactly.
CLI::Validator one_of(std::vector<std::string> names);
/// For ->transform: CLI11 takes a leading zero for octal, which is removed.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most);
/// Finite, and not below `least` where one is given.
CLI::Validator number();
CLI::Validator number_from(double least);

/// The one of `values` whose to_string is `name`, which one_of has checked.
template <class Enum>
Enum value_of(std::initializer_list<Enum> values, const std::string& name) {
  for (const Enum value : values)
    if (name == to_string(value)) return value;
  return *values.begin();
}

}  // namespace ether::tool
