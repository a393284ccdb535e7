#include "options.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace bench {

bool Options::wants(const std::string& table) const {
  return filter.empty() || std::find(filter.begin(), filter.end(), table) != filter.end();
}

const std::vector<std::string>& table_names() {
  static const std::vector<std::string> names = {"errors",    "product", "forward", "baselines",
                                                 "transform", "norm",    "merge",   "backward",
                                                 "adapters",  "layer"};
  return names;
}

namespace {

std::string list_of_tables() {
  std::string list;
  for (const std::string& name : table_names()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::vector<std::string> tables_in(const std::string& list) {
  std::vector<std::string> tables;
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');) {
    const auto& names = table_names();
    if (std::find(names.begin(), names.end(), word) == names.end())
      throw std::invalid_argument("there is no table \"" + word + "\"; there are " +
                                  list_of_tables());
    tables.push_back(word);
  }
  return tables;
}

std::uint64_t number(const std::string& option, const std::string& text) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
    throw std::invalid_argument(option + " is \"" + text +
                                "\"; it takes a whole number of up to 9 digits");
  return std::stoull(text);
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::invalid_argument(option + " needs a value behind it");
      return argv[++i];
    };
    if (option == "--type") {
      options.type = value();
      if (options.type != "float" && options.type != "half" && options.type != "bfloat16")
        throw std::invalid_argument("--type is \"" + options.type +
                                    "\"; it is float, half or bfloat16");
    } else if (option == "--filter") {
      options.filter = tables_in(value());
    } else if (option == "--out") {
      options.out = value();
    } else if (option == "--seed") {
      options.seed = number(option, value());
    } else if (option == "--device") {
      options.device = static_cast<int>(number(option, value()));
    } else if (option == "--quick") {
      options.quick = true;
    } else if (option == "--help") {
      options.help = true;
    } else {
      throw std::invalid_argument("there is no option \"" + option + "\"; --help lists them");
    }
  }
  return options;
}

std::string usage() {
  return "ether_cuda_bench: the CUDA backend beside cuBLAS and copies, as Markdown tables.\n"
         "  --type float|half|bfloat16  type of weights and activations (bfloat16)\n"
         "  --filter TABLE,...          only these tables: " +
         list_of_tables() +
         "\n"
         "  --quick                     fewer sizes and samples: to try it out, not to report\n"
         "  --out DIR                   also write DIR/<device>-<type>-<date>.md and .json\n"
         "  --seed N                    of data, checks and the order of turns (1)\n"
         "  --device N                  which GPU (0)\n"
         "Status: 0 done, 1 a result is wrong or a call failed, 2 a bad option, 77 no CUDA "
         "device.\n";
}

}  // namespace bench
