// target_modules and exclude_modules: lists of names, regular expressions, "all-linear".

#include "support/check_message.hpp"

#include <ether/io/adapter_config.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

using ether::ModulePattern;
using Names = std::vector<std::string>;

namespace {

constexpr unsigned seconds = 20;  // each takes below one, and some ten with sanitizers

/// Makes a pattern of `expression` and matches it, in a process that may take so many seconds: empty
/// where it comes to an end, with a match, none, or a format_error.
std::string outcome(const std::string& expression, const std::string& module) {
  const pid_t process = ::fork();
  if (process == 0) {
    for (const int crash : {SIGSEGV, SIGBUS, SIGABRT}) ::signal(crash, SIG_DFL);
    ::alarm(seconds);
    try {
      (void)ModulePattern(expression).matches(module);
    } catch (const ether::format_error&) {
    }
    ::_exit(0);
  }
  int status = 0;
  if (process < 0 || ::waitpid(process, &status, 0) != process) return "no process";
  if (WIFSIGNALED(status))
    return WTERMSIG(status) == SIGALRM ? "takes too long"
                                       : "killed by signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "ended with " + std::to_string(WEXITSTATUS(status));
}

std::string repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("a list selects exact names and dotted suffixes") {
  const ModulePattern pattern(Names{"q_proj", "attn.v_proj", "h.0", "", ".", "all-linear", "o.*"});
  for (const char* module : {"q_proj", "model.q_proj", "layers.0.q_proj", "attn.v_proj",
                             "0.attn.v_proj", "h.0", "x.h.0", "all-linear", "o.*"})
    CHECK(pattern.matches(module));
  for (const char* module : {"", "k_proj", "xq_proj", "q_proj.base", "q_proj.", "v_proj",
                             "xattn.v_proj", "h.00", "Q_PROJ", "_proj", "o.x", "oo"})
    CHECK(!pattern.matches(module));
  CHECK(!ModulePattern(Names{}).matches("q_proj"));
  CHECK(pattern.is_list());
}

TEST_CASE("a string is a regular expression over the whole name") {
  const ModulePattern pattern(std::string(R"(model\.layers\.(0|1\d)\.(q|v)_proj)"));
  for (const char* module : {"model.layers.0.q_proj", "model.layers.17.v_proj"})
    CHECK(pattern.matches(module));
  for (const char* module :
       {"", "model.layers.1.q_proj", "xmodel.layers.0.q_proj", "model.layers.0.q_projx",
        "model.layers.0.q_proj.base", "model-layers.0.q_proj", "model.layers.0.q_proj\n"})
    CHECK(!pattern.matches(module));
  CHECK(!ModulePattern(std::string("q_proj")).matches("model.q_proj"));
  CHECK(ModulePattern(std::string("a|ab")).matches("ab"));  // the whole, not the first that fits
  CHECK(ModulePattern(std::string(R"((?!.*lm_head).*\.(?:q|v)_proj)")).matches("model.q_proj"));
  CHECK(!ModulePattern(std::string(R"((?!.*lm_head).*\.(?:q|v)_proj)")).matches("lm_head.q_proj"));
  CHECK(!pattern.is_list());
  CHECK(!pattern.all_linear());
}

TEST_CASE("all-linear selects everything but embeddings and the output head") {
  const ModulePattern pattern(std::string("all-linear"));
  CHECK(pattern.all_linear());
  for (const char* module : {"model.layers.0.self_attn.q_proj", "transformer.h.0.mlp.c_fc", "fc",
                             "output.dense", "embed_tokens.proj", "heads"})
    CHECK(pattern.matches(module));
  for (const char* module :
       {"lm_head", "model.embed_tokens", "transformer.wte", "transformer.wpe", "shared",
        "embeddings.word_embeddings", "gpt_neox.embed_in", "embed_out", "score", "classifier"})
    CHECK(!pattern.matches(module));
}

TEST_CASE("what is no regular expression, or too long for one") {
  for (const char* expression :
       {"(", ")", "[", "[z-a]", "*", "a{2,1}", "\\", "(?<name>a)", "[[:nothing:]]", "(?P<n>a)"})
    CHECK_REFUSED(ModulePattern(std::string(expression)), ether::format_error,
                  std::string("'") + expression + "' is not a regular expression");
  CHECK_REFUSED(ModulePattern(std::string(1001, 'a')), ether::format_error, "1001 characters",
                "at most 1000");
  CHECK(ModulePattern(std::string(1000, 'a')).matches(std::string(1000, 'a')));
  CHECK(!ModulePattern(std::string(".*")).matches(std::string(1001, 'a')));
}

TEST_CASE("a hopeless regular expression neither hangs nor crashes") {
  const std::string a(900, 'a'), name = "model.layers.12.self_attn.q_proj";
  for (const auto& [expression, module] : std::vector<std::pair<std::string, std::string>>{
           {"(x+x+)+y", std::string(900, 'x')},
           {"(a*)*b", a},
           {"((a|aa)+)+$b", a},
           {"(.*.*.*.*.*.*)*x", a},
           {repeat("(a*)*", 200), a + "b"},
           {repeat("a?", 300) + repeat("a", 300), a},
           {"(a)\\1", a},
           {"((a{1,90}){1,90}){1,90}", a},
           {"a{99999}", a},
           {"(a?){9999}", a},
           {"(|){14000}", a},
           {repeat("(", 330) + "a" + repeat(")*", 330), a},
           {repeat("[", 999), a},
           {repeat("(?:", 300) + "a" + repeat(")", 300), a},
           {repeat("a|", 499), a}}) {
    INFO(expression);
    CHECK(outcome(expression, module) == "");
  }
  CHECK(outcome(".*", name) == "");
}

TEST_CASE("look-aheads in look-aheads neither hang nor crash") {
  const std::string expression = repeat("(?=.*", 12) + "zz" + repeat(")", 12) + ".*";
  CHECK(outcome(expression, "model.layers.12.self_attn.q_proj") == "");
  CHECK(outcome(repeat("(?=.*", 4) + "zz" + repeat(")", 4), std::string(900, 'a')) == "");
}

TEST_CASE("a number that std::regex cannot hold") {
  // It wraps around: the first would be a{1}, the others are undefined.
  for (const char* expression : {"a{4294967297}", "a{1,18446744073709551617}",
                                 "a{99999999999999999999}", "(a)\\99999999999999999999"})
    CHECK_REFUSED(ModulePattern(std::string(expression)), ether::format_error, expression);
}
