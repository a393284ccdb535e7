/// The paper's claims at a size that runs here: see bench/claims/README.md.

#include <ether/io/parallel.hpp>

#include <chrono>
#include <ctime>
#include <filesystem>

#include "csv.hpp"
#include "setup.hpp"

namespace claims {

Setup make_setup(const Options& options) {
  const auto [all, test] = split(read_digits(options.digits));
  const auto [training, validation] = split(all);
  const auto noisy = [](const Digits& digits, std::uint64_t seed) {
    return inverted_with_noise(digits, 0.2f, seed);
  };
  Setup setup{options,
              random_network({pixel_count, 256, 256, class_count}, /*seed=*/7),
              {"upright", training, validation, test},
              {{"rotated", rotated(training), rotated(validation), rotated(test)},
               {"inverted", noisy(training, 1), noisy(validation, 2), noisy(test, 3)}}};
  FullTraining pretraining(setup.base);
  train(pretraining, training, options.quick ? 5 : 40, 0.001f, [](double) {});
  return setup;
}

namespace {

const char* const usage =
    "usage: ether_claims [--quick] [--out DIR] [--threads N] [FILE]\n\n"
    "Counts the parameters and FLOPs of the paper's models, finetunes a small network on shifted\n"
    "digits with seven methods at sixteen learning rates, perturbs it, and writes what comes out\n"
    "as CSV. bench/claims/report.py makes tables and plots of it.\n\n"
    "  --quick      a few short runs: done in seconds, to see that all works\n"
    "  --out DIR    where the CSV files go; default bench/results/claims\n"
    "  --threads N  runs at a time, which changes no result; default all processors\n"
    "  --help       this text\n"
    "  FILE         the digits; default " ETHER_DIGITS_FILE "\n";

double accuracy_of(const Network& network, const Digits& digits) {
  return accuracy(logits(network, digits.images), digits.labels);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::localtime(&now));
  return text;
}

std::string compiler() {
#ifdef __clang__
  return __VERSION__;
#else
  return std::string("g++ ") + __VERSION__;
#endif
}

/// Throws std::runtime_error.
void run(Options options) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const auto say = [&](const char* what) { std::printf("%6.1f s  %s\n", seconds(), what); };
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Eigen::setNbThreads(1);  // each run has one thread
  std::filesystem::create_directories(options.out);

  say("counting parameters and FLOPs");
  write_counts(options);
  say("pretraining");
  const Setup setup = make_setup(options);
  say("perturbing");
  write_perturbation(setup);
  say("finetuning at many learning rates");
  write_learning_rates(setup);
  say("done");

  Csv csv(options.out + "/setup.csv", "key,value");
  csv.row("date", today());
  csv.row("compiler", compiler());
  csv.row("threads", options.threads);
  csv.row("seconds", seconds());
  csv.row("processor_seconds", static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
  csv.row("quick", int(options.quick));
  csv.row("base_parameters", parameter_count(setup.base));
  csv.row("base_energy", hyperspherical_energy(setup.base));
  csv.row("training_digits", setup.upright.training.count());
  csv.row("validation_digits", setup.upright.validation.count());
  csv.row("test_digits", setup.upright.test.count());
  csv.row("base_upright", accuracy_of(setup.base, setup.upright.test));
  for (const Task& task : setup.shifted)
    csv.row("base_" + task.name, accuracy_of(setup.base, task.test));
  csv.close();
}

}  // namespace
}  // namespace claims

int main(int argc, char** argv) {
  claims::Options options;
  options.threads = ether::detail::thread_count(0);
  options.digits = ETHER_DIGITS_FILE;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::fputs(claims::usage, stdout);
      return 0;
    }
    if (argument == "--quick") {
      options.quick = true;
    } else if (argument == "--out" && i + 1 < argc) {
      options.out = argv[++i];
    } else if (argument == "--threads" && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
      if (options.threads < 1) {
        std::fprintf(stderr, "ether_claims: --threads is '%s' but must be at least 1\n", argv[i]);
        return 2;
      }
    } else if (argument.empty() || argument[0] == '-') {
      std::fprintf(stderr, "ether_claims: unexpected argument '%s'; try --help\n", argv[i]);
      return 2;
    } else {
      options.digits = argument;
    }
  }
  try {
    claims::run(options);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ether_claims: %s\n", e.what());
    return 1;
  }
}
