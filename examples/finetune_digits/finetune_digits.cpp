/// Finetuning with ETHER and ETHER+: a network trained on upright handwritten digits is adapted to
/// rotated and to inverted ones. All its weights and biases stay frozen.
///
///   g++ -std=c++17 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/finetune_digits/finetune_digits.cpp -lz -o finetune_digits

#include "adapted_network.hpp"
#include "model_files.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#ifndef ETHER_DIGITS_FILE
#define ETHER_DIGITS_FILE "examples/finetune_digits/data/digits.csv.gz"
#endif

/// A bar on stderr where that is a terminal; else nothing.
class Progress {
 public:
  explicit Progress(int runs) : runs_(runs) {}
  void show(double fraction_of_run) {
    const int percent = static_cast<int>(100 * (runs_done_ + fraction_of_run) / runs_);
    if (!terminal_ || percent == shown_) return;
    shown_ = percent;
    std::fprintf(stderr, "\r[%-50.*s] %3d %%", percent / 2,
                 "##################################################", percent);
  }
  void run_done() {
    ++runs_done_, shown_ = -1;
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  int runs_, runs_done_ = 0, shown_ = -1;
};

std::string with_commas(Index number) {
  std::string text = std::to_string(number);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

/// Trains, and says how many seconds it took.
template <class Training>
double timed_train(Training& training, const Digits& digits, int epochs, float rate,
                   Progress& progress) {
  const auto start = std::chrono::steady_clock::now();
  train(training, digits, epochs, rate, [&](double fraction) { progress.show(fraction); });
  progress.run_done();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The table of one shift. False where a merged network is not the adapted one. `last` becomes the
/// last adapted network's parameters.
bool adapt(const char* shift, const Network& base, const Digits& training, const Digits& test,
           int epochs, Progress& progress, std::vector<ether::Adapter<float>>& last) {
  std::printf("\n%-28s  before %%  after %%  merged %%  trainable  |H - I|  merge error  seconds\n",
              shift);
  const double before = accuracy(logits(base, test.images), test.labels);

  Network copy = base;
  FullTraining full(copy);
  const double full_seconds = timed_train(full, training, epochs, 0.001f, progress);
  std::printf("%-28s  %8.1f  %7.1f  %8s  %9s  %7s  %11s  %7.1f\n", "full finetuning", before,
              accuracy(full.forward(test.images), test.labels), "-",
              with_commas(parameter_count(base)).c_str(), "-", "-", full_seconds);

  bool merges_agree = true;
  for (ether::Variant variant : {ether::Variant::ether, ether::Variant::ether_plus})
    for (ether::Index blocks : {1, 4}) {
      AdaptedNetwork adapted(base, variant, blocks);
      const double seconds = timed_train(adapted, training, epochs, 0.02f, progress);

      const Matrix unmerged = adapted.forward(test.images);
      const Matrix merged = logits(adapted.merged(), test.images);
      const double after = accuracy(unmerged, test.labels);
      const double after_merge = accuracy(merged, test.labels);
      const float error =
          (merged - unmerged).lpNorm<Eigen::Infinity>() / unmerged.lpNorm<Eigen::Infinity>();
      merges_agree = merges_agree && after == after_merge && error <= 1e-4f;

      const std::string method =
          std::string(variant == ether::Variant::ether ? "ETHER,  " : "ETHER+, ") +
          std::to_string(blocks) + (blocks == 1 ? " block" : " blocks");
      std::printf("%-28s  %8.1f  %7.1f  %8.1f  %9s  %7.3f  %11.1e  %7.1f\n", method.c_str(), before,
                  after, after_merge, with_commas(adapted.parameter_count()).c_str(),
                  adapted.distance_to_identity(), static_cast<double>(error), seconds);
      std::fflush(stdout);
      last = adapted.adapters();
    }
  return merges_agree;
}

int run(const std::string& path, bool quick, const std::string& save_to) {
  Eigen::setNbThreads(1);  // as in AdaptedNetwork, so that seconds compare
  const auto [training, test] = split(read_digits(path));
  const int epochs = quick ? 10 : 100;
  Progress progress(/*runs=*/11);

  Network base = random_network({pixel_count, 256, 256, class_count}, /*seed=*/7);
  FullTraining pretraining(base);
  const double seconds = timed_train(pretraining, training, quick ? 10 : 40, 0.001f, progress);
  std::printf(
      "base network 64-256-256-10, %s parameters, trained on %s upright digits in %.1f s:\n"
      "%.1f %% right on the %s held out\n",
      with_commas(parameter_count(base)).c_str(), with_commas(training.count()).c_str(), seconds,
      accuracy(logits(base, test.images), test.labels), with_commas(test.count()).c_str());

  std::vector<ether::Adapter<float>> adapters;
  const bool rotated_agrees = adapt("Digits rotated by 90 degrees", base, rotated(training),
                                    rotated(test), epochs, progress, adapters);
  if (!save_to.empty()) {
    save_network(fs::path(save_to) / "base", base);
    save_adapters(fs::path(save_to) / "adapter", adapters);
  }
  const bool inverted_agrees =
      adapt("Inverted contrast with noise", base, inverted_with_noise(training, 0.2f, /*seed=*/1),
            inverted_with_noise(test, 0.2f, /*seed=*/2), epochs, progress, adapters);

  std::printf(
      "\nbefore, after  accuracy on the held-out digits, shifted: base network, adapted network\n"
      "merged         the same with every W replaced by H_out W H_in, in a plain network\n"
      "|H - I|        Frobenius norm, root mean square over blocks; ETHER 2, ETHER+ at most 1.414\n"
      "merge error    largest difference of a logit, over the largest logit\n");
  if (!save_to.empty())
    std::printf("\nwritten to %s: base/, and adapter/ of the last line for rotated digits\n",
                save_to.c_str());
  if (rotated_agrees && inverted_agrees) return 0;
  std::fprintf(stderr, "finetune_digits: merging changed the network's output\n");
  return 1;
}

/// Compares merged/, which `ether merge` wrote, with base/ and adapter/ on rotated digits.
int check(const std::string& path, const fs::path& directory) {
  const Digits test = rotated(split(read_digits(path)).second);
  const Network base = load_network(directory / "base");
  AdaptedNetwork adapted(base, load_adapters(directory / "adapter", base));
  const Matrix expected = adapted.forward(test.images);
  const Matrix merged = logits(load_network(directory / "merged"), test.images);
  const double error = static_cast<double>((merged - expected).lpNorm<Eigen::Infinity>() /
                                           expected.lpNorm<Eigen::Infinity>());
  const double right = accuracy(merged, test.labels), wanted = accuracy(expected, test.labels);
  std::printf(
      "rotated digits: base %.1f %%, base with adapter %.1f %%, merged on disk %.1f %%; "
      "merge error %.1e\n",
      accuracy(logits(base, test.images), test.labels), wanted, right, error);
  if (error <= 1e-4 && right == wanted) return 0;
  std::fprintf(stderr, "finetune_digits: merging on disk changed the network's output\n");
  return 1;
}

int main(int argc, char** argv) {
  std::string path, save_to, check_in;
  bool quick = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::printf(
          "usage: finetune_digits [--quick] [--save DIR | --check DIR] [FILE]\n\n"
          "Trains a small network on handwritten digits, then adapts it to shifted ones\n"
          "with ETHER and ETHER+.\n\n"
          "  --quick      train less: done in a second or two\n"
          "  --save DIR   write the network to DIR/base and an adapter for rotated digits to\n"
          "               DIR/adapter\n"
          "  --check DIR  no training: check that the network in DIR/merged, which ether merge\n"
          "               made of those two, computes the same as the two\n"
          "  --help       this text\n"
          "  FILE         the digits; default %s\n",
          ETHER_DIGITS_FILE);
      return 0;
    }
    if (argument == "--quick") {
      quick = true;
    } else if ((argument == "--save" || argument == "--check") && i + 1 < argc) {
      (argument == "--save" ? save_to : check_in) = argv[++i];
    } else if (!path.empty() || argument.empty() || argument[0] == '-') {
      std::fprintf(stderr, "finetune_digits: unexpected argument '%s'; try --help\n", argv[i]);
      return 2;
    } else {
      path = argument;
    }
  }
  try {
    if (path.empty()) path = ETHER_DIGITS_FILE;
    return check_in.empty() ? run(path, quick, save_to) : check(path, check_in);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "finetune_digits: %s\n", e.what());
    return 1;
  }
}
