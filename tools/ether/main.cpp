/// The program ether: reads the command line, does one job, reports how it ended.
///
/// Exit status 0 success, 1 refused or failed, 2 wrong usage, 128 + signal interrupted.

#include "process.hpp"
#include "text.hpp"
#include "verbs.hpp"

#include <ether/io/refusal.hpp>
#include <ether/version.hpp>

#include <new>

namespace ether::tool {
namespace {

constexpr int success = 0, failure = 1, wrong_usage = 2;

std::string version() {
  return std::to_string(ETHER_VERSION_MAJOR) + "." + std::to_string(ETHER_VERSION_MINOR) + "." +
         std::to_string(ETHER_VERSION_PATCH);
}

int refuse(const std::string& message, const std::string& verb = {}) {
  print_error(message + "; see ether " + (verb.empty() ? "" : verb + " ") + "--help");
  return wrong_usage;
}

bool has_verb(const CLI::App& app, const std::string& name) {
  return !app.get_subcommands([&](const CLI::App* verb) { return verb->get_name() == name; })
              .empty();
}

/// One line of CLI11's message.
std::string sentence(const CLI::ParseError& e) {
  std::string text = e.what();
  text.erase(text.find_last_not_of(" \n") + 1);
  for (std::size_t at; (at = text.find('\n')) != text.npos;) text.replace(at, 1, "; ");
  return text;
}

/// What the program's user can do about it.
std::string remedy(const std::exception& e) {
  if (dynamic_cast<const ill_conditioned*>(&e) != nullptr) return "; --max-condition allows more";
  const auto* const refusal = dynamic_cast<const Refusal*>(&e);
  if (refusal == nullptr) return {};
  switch (refusal->option()) {
    case Refusal::Option::replace:
      return "; --force replaces it";
    case Refusal::Option::allow_large_rank:
      return "; --allow-large-rank writes it";
    case Refusal::Option::allow_overflow:
      return "; --allow-overflow writes them";
  }
  return {};
}

int run(int argc, char** argv) {
  CLI::App app;
  Job job;
  app.set_help_flag("-h,--help", "print this text")->group("Options");
  app.set_version_flag("--version", "ether " + version(), "print the version")->group("Options");
  app.formatter_fn([](const CLI::App* self, const std::string&, CLI::AppFormatMode) {
    return program_help(*self);
  });
  add_merge_verbs(app, job);
  add_export_verbs(app, job);
  add_init_verb(app, job);
  add_inspect_verb(app, job);
  add_diff_verb(app, job);

  const std::string first = argc > 1 ? argv[1] : "";
  if (argc < 2) return refuse("no verb is given");
  if (first.rfind('-', 0) != 0 && !has_verb(app, first))
    return refuse("'" + first + "' is no verb");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return success;
  } catch (const CLI::CallForVersion& e) {
    print(std::string(e.what()) + "\n");
    return success;
  } catch (const CLI::ParseError& e) {
    const auto verbs = app.get_subcommands();
    return refuse(sentence(e), verbs.empty() ? "" : verbs[0]->get_name());
  }
  if (!job) return refuse("no verb is given");
  return job();
}

}  // namespace
}  // namespace ether::tool

int main(int argc, char** argv) {
  using namespace ether::tool;
  prepare_process();
  try {
    return run(argc, argv);
  } catch (const Interrupted& e) {
    print_error("interrupted; nothing was written");
    return 128 + e.signal;
  } catch (const std::bad_alloc&) {
    print_error("not enough memory");
  } catch (const std::exception& e) {
    print_error(e.what() + remedy(e));
  }
  return failure;
}
