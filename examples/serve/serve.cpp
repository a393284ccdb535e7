/// Serves requests that use different adapters of one model, in one batch. See --help.
///
/// A thread loads the adapters of coming requests while the others are computed: the bank keeps what running
/// requests hold, and evicts what was used longest ago. Requests join the batch as others finish.

#include "llama.hpp"
#include "requests.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

namespace serve {

Token sample(const Eigen::Ref<const Eigen::RowVectorXf>& logits, double temperature,
             std::mt19937_64& random) {
  Index best = 0;
  const float most = logits.maxCoeff(&best);
  if (temperature == 0) return static_cast<Token>(best);
  const Eigen::RowVectorXd weights =
      ((logits.array() - most).cast<double>() / temperature).exp().matrix();
  double left = static_cast<double>(random() >> 11) * 0x1p-53 * weights.sum();
  for (Index i = 0; i < weights.size(); ++i)
    if ((left -= weights[i]) < 0) return static_cast<Token>(i);
  return static_cast<Token>(best);
}

template <class T>
using Banks = typename Llama<T>::Banks;

/// A request that is being computed, and what it holds.
template <class T>
struct Running {
  std::size_t number;
  typename Banks<T>::Hold hold;
  Cache cache;
  std::mt19937_64 random;
  std::vector<Token> next;  // not computed yet: the prompt, then one token at a time
  std::vector<Token> found;
};

/// The adapter of a directory, loaded where it is not resident.
template <class Banks>
typename Banks::Hold hold(Banks& banks, ether::EigenContext& ctx, const std::string& adapter) {
  auto held = banks.find(adapter);
  if (!held) held = banks.load(ctx, adapter, ether::AdapterFile(adapter));
  return held;
}

/// A request that may begin: what it holds, or why its adapter cannot be loaded.
template <class T>
struct Ready {
  typename Banks<T>::Hold hold;
  std::string error;
};

/// Loads the adapters of requests, in their order, a few ahead of the thread that computes.
template <class T>
class Loader {
 public:
  static constexpr std::size_t ahead = 2;

  Loader(Banks<T>& banks, const std::vector<Request>& requests, bool with_adapters)
      : thread_([&, with_adapters] { load(banks, requests, with_adapters); }) {}
  ~Loader() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  /// The next request, if it is ready; with `wait` once it is.
  std::optional<Ready<T>> take(bool wait) {
    std::unique_lock lock(mutex_);
    if (wait) changed_.wait(lock, [&] { return !ready_.empty(); });
    if (ready_.empty()) return std::nullopt;
    Ready<T> next = std::move(ready_.front());
    ready_.pop_front();
    changed_.notify_all();
    return next;
  }

 private:
  void load(Banks<T>& banks, const std::vector<Request>& requests, bool with_adapters) {
    ether::EigenContext ctx(1);
    for (const Request& request : requests) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || ready_.size() < ahead; });
        if (stop_) return;
      }
      Ready<T> next;
      try {
        if (with_adapters && !request.adapter.empty())
          next.hold = serve::hold(banks, ctx, request.adapter);
      } catch (const std::exception& e) {
        next.error = e.what();
      }
      const std::lock_guard lock(mutex_);
      ready_.push_back(std::move(next));
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ready<T>> ready_;
  bool stop_ = false;
  std::thread thread_;
};

struct Served {
  std::vector<std::vector<Token>> tokens;  // of each request
  std::vector<std::string> errors;         // empty: none
  double seconds = 0;
  Index generated = 0, steps = 0;
  double rate() const { return static_cast<double>(generated) / seconds; }
};

/// Continuous batching: each step computes one token of every running request, and the whole prompt of those that
/// have just joined.
template <class T>
Served serve(ether::EigenContext& ctx, Llama<T>& model, Banks<T>& banks,
             const std::vector<Request>& requests, std::size_t batch, bool with_adapters,
             bool progress) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Served served;
  served.tokens.resize(requests.size());
  served.errors.resize(requests.size());
  Loader<T> loader(banks, requests, with_adapters);
  std::vector<Running<T>> running;
  std::size_t joined = 0;
  double shown = 0;
  while (joined < requests.size() || !running.empty()) {
    while (running.size() < batch && joined < requests.size()) {
      auto ready = loader.take(/*wait=*/running.empty());
      if (!ready) break;
      if (!ready->error.empty()) {
        served.errors[joined++] = ready->error;
        continue;
      }
      const Request& r = requests[joined];
      const Index room = static_cast<Index>(r.prompt.size()) + r.most_tokens;
      running.push_back({joined++,
                         std::move(ready->hold),
                         Cache(model.config(), room),
                         std::mt19937_64(r.seed),
                         r.prompt,
                         {}});
    }
    if (running.empty()) continue;
    std::vector<Row> rows;
    for (Running<T>& r : running)
      for (std::size_t i = 0; i < r.next.size(); ++i)
        rows.push_back({&r.cache, r.next[i], r.hold.id(), i + 1 == r.next.size()});
    const Matrix<float> logits = model.forward(ctx, rows, banks);
    ++served.steps;
    Index at = 0;
    for (Running<T>& r : running) {
      const Request& request = requests[r.number];
      r.next = {sample(logits.row(at++), request.temperature, r.random)};
      r.found.push_back(r.next[0]);
      ++served.generated;
      if (static_cast<Index>(r.found.size()) == request.most_tokens)
        served.tokens[r.number] = r.found;
    }
    running.erase(
        std::remove_if(running.begin(), running.end(),
                       [&](const Running<T>& r) { return !served.tokens[r.number].empty(); }),
        running.end());
    if (progress && elapsed() > shown + 0.5) {
      shown = elapsed();
      std::fprintf(stderr,
                   "\r%zu of %zu requests, %zu running, %zu adapters resident, %.1f tokens/s ",
                   joined - running.size(), requests.size(), running.size(), banks.names().size(),
                   static_cast<double>(served.generated) / shown);
    }
  }
  if (progress && shown > 0) std::fputc('\n', stderr);
  served.seconds = elapsed();
  return served;
}

struct Options {
  fs::path model, requests, directory = "serve_demo", logits;
  std::size_t batch = 16;
  Index slots = 20, width = 256;
  int threads = 0, rounds = 0;
  bool check = false;
};

/// Requests whose tokens differ from those of the same request alone on its merged checkpoint.
template <class T>
int count_differences(ether::EigenContext& ctx, const Options& options,
                      const std::vector<Request>& requests, const Served& served) {
  int differences = 0;
  std::set<std::string> adapters;
  for (const Request& request : requests) adapters.insert(request.adapter);
  for (const std::string& adapter : adapters) {
    fs::path model_path = options.model;
    if (!adapter.empty()) {
      ether::MergeOptions merge;
      merge.base = options.model, merge.adapters = {adapter}, merge.replace = true,
      merge.flush = false;
      model_path = merge.output = options.directory / "merged";
      ether::merge_checkpoint(merge);
    }
    Llama<T> model(ctx, model_path);
    Banks<T> none(ctx, {}, model.modules(), 1);
    for (std::size_t i = 0; i < requests.size(); ++i)
      if (requests[i].adapter == adapter &&
          serve<T>(ctx, model, none, {requests[i]}, 1, false, false).tokens[0] !=
              served.tokens[i]) {
        std::fprintf(stderr, "%s: the tokens differ from those of the merged model\n",
                     requests[i].id.c_str());
        ++differences;
      }
  }
  return differences;
}

/// The logits of every prompt's positions, a tensor (tokens, vocabulary) for each request.
template <class T>
void write_logits(ether::EigenContext& ctx, Llama<T>& model, Banks<T>& banks,
                  const std::vector<Request>& requests, const fs::path& path) {
  std::vector<Matrix<float>> logits;
  std::vector<ether::TensorData> tensors;
  for (const Request& request : requests) {
    typename Banks<T>::Hold held;
    if (!request.adapter.empty()) held = hold(banks, ctx, request.adapter);
    Cache cache(model.config(), static_cast<Index>(request.prompt.size()));
    std::vector<Row> rows;
    for (const Token token : request.prompt) rows.push_back({&cache, token, held.id(), true});
    logits.push_back(model.forward(ctx, rows, banks));
  }
  for (std::size_t i = 0; i < requests.size(); ++i)
    tensors.push_back({{requests[i].id,
                        ether::Dtype::f32,
                        {std::uint64_t(logits[i].rows()), std::uint64_t(logits[i].cols())},
                        0,
                        0},
                       logits[i].data()});
  ether::write_safetensors(path, tensors, {}, /*replace=*/true);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class T>
int run(const Options& options) {
  ether::EigenContext ctx(options.threads);
  Llama<T> model(ctx, options.model);
  ether::AdapterConfig limits;
  limits.variant = ether::Variant::ether_plus, limits.sides = ether::Sides::both;
  Banks<T> banks(ctx, limits, model.modules(), options.slots);
  const auto requests = read_requests(options.requests, model.config().vocabulary);
  if (!options.logits.empty())
    return write_logits<T>(ctx, model, banks, requests, options.logits), 0;

  const Served served = serve<T>(ctx, model, banks, requests, options.batch, true, true);
  bool failed = false;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    nlohmann::ordered_json line{{"id", requests[i].id}};
    if (served.errors[i].empty())
      line["tokens"] = served.tokens[i];
    else
      line["error"] = served.errors[i];
    failed |= !served.errors[i].empty();
    std::printf("%s\n", line.dump().c_str());
  }
  std::fprintf(stderr, "%zu requests, %td tokens in %td steps, %.1f tokens/s\n", requests.size(),
               served.generated, served.steps, served.rate());
  if (failed) return 1;
  if (options.rounds > 0) {
    std::vector<double> ratios;
    for (int round = 0; round < options.rounds; ++round) {
      const double with = serve<T>(ctx, model, banks, requests, options.batch, true, false).rate();
      ratios.push_back(with /
                       serve<T>(ctx, model, banks, requests, options.batch, false, false).rate());
    }
    std::fprintf(stderr, "tokens/s with adapters over without, median of %d rounds: %.3f\n",
                 options.rounds, median(ratios));
  }
  if (!options.check) return 0;
  const int differences = count_differences<T>(ctx, options, requests, served);
  std::fprintf(stderr, "%d of %zu requests differ from their merged models\n", differences,
               requests.size());
  return differences == 0 ? 0 : 1;
}

ether::Dtype dtype_of(const fs::path& model) {
  const ether::Checkpoint checkpoint(model);
  const auto* const found = checkpoint.find("model.embed_tokens.weight");
  if (found == nullptr)
    ether::detail::fail<ether::format_error>(model.string(),
                                             " has no tensor 'model.embed_tokens.weight'");
  return found->info->dtype;
}

}  // namespace serve

int main(int argc, char** argv) {
  serve::Options options;
  CLI::App app(
      "Serves requests with different ETHER adapters on one Llama, in one batch. Prints a line of "
      "JSON with the tokens of each. Without --model it makes a small random model, adapters and "
      "requests.");
  app.add_option("--model", options.model, "directory of a checkpoint with config.json");
  app.add_option("--requests", options.requests,
                 "file with a line of JSON for each: prompt (token ids), and optionally id, "
                 "adapter (a directory), max_tokens, temperature, seed");
  app.add_option("--batch", options.batch, "requests that are computed together, at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--slots", options.slots, "adapters that are resident, at most")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0: all")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  app.add_option("--directory", options.directory, "for what is made on the way")
      ->capture_default_str();
  app.add_option("--width", options.width, "of the model that is made, a multiple of 64")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds,
                 "serve so many times with adapters and without, in turns, and print the ratio");
  app.add_flag("--check", options.check,
               "hold every request against the same one alone on its merged checkpoint; in 16 "
               "bits, where W' is rounded, some may differ");
  app.add_option("--logits", options.logits,
                 "write the logits of the prompts to this .safetensors file instead");
  CLI11_PARSE(app, argc, argv);
  try {
    const auto least = static_cast<ether::Index>(options.batch + serve::Loader<float>::ahead + 1);
    if (options.slots < least)
      ether::detail::fail<ether::parameter_error>("--slots is ", options.slots,
                                                  ", but running and coming requests may hold ",
                                                  least, "; raise it or lower --batch");
    if (options.model.empty() != options.requests.empty())
      ether::detail::fail<ether::parameter_error>("--model and --requests go together");
    if (options.width < 64 || options.width % 64 != 0)
      ether::detail::fail<ether::parameter_error>("--width is ", options.width,
                                                  ", not a multiple of 64");
    serve::fs::create_directories(options.directory);
    if (options.model.empty()) {
      const serve::Demo demo =
          serve::make_demo(options.directory, options.width, /*adapters=*/32, /*requests=*/48);
      options.model = demo.model, options.requests = demo.requests;
    }
    switch (serve::dtype_of(options.model)) {
      case ether::Dtype::f32:
        return serve::run<float>(options);
      case ether::Dtype::bf16:
        return serve::run<Eigen::bfloat16>(options);
      case ether::Dtype::f16:
        return serve::run<Eigen::half>(options);
      default:
        ether::detail::fail<ether::format_error>(
            "the model's weights are neither float32, bfloat16 nor float16");
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "serve: %s\n", e.what());
    return 1;
  }
}
