/// llama_cpp check MERGED.gguf BASE.gguf THREADS [LABEL ADAPTER]...
///   prints, as CSV, how far the logits of BASE with each adapter are from those of MERGED
/// llama_cpp time BASE.gguf THREADS ROUNDS TOKENS [LABEL ADAPTER]...
///   prints, as CSV, microseconds per token of each adapter in each round, all in turns, and the share of
///   its cores that the process had in that time
///
/// An ADAPTER is base (none), ether:DIR, ether-rows-ignored:DIR or lora:FILE.gguf. llama_cpp.py runs it.

#include "graph_adapter.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>

namespace {

using llama_cpp::GraphAdapter;
using llama_cpp::RowOrder;

struct Free {
  void operator()(llama_model* model) const { llama_model_free(model); }
  void operator()(llama_context* context) const { llama_free(context); }
};
using Model = std::unique_ptr<llama_model, Free>;
using Context = std::unique_ptr<llama_context, Free>;

constexpr int prompt_tokens = 37, decoded_tokens = 11;  // odd: threads get unlike shares
constexpr int context_tokens = 256;

Model load(const std::string& path) {
  llama_model_params parameters = llama_model_default_params();
  parameters.n_gpu_layers = 0;
  Model model(llama_model_load_from_file(path.c_str(), parameters));
  if (!model) throw std::runtime_error("llama.cpp cannot load " + path);
  return model;
}

llama_token token(const llama_model* model, int position) {
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  return (position * 2654435761u >> 8) % static_cast<unsigned>(vocabulary);
}

/// While it lives, what this thread's graphs use.
struct UseHook {
  explicit UseHook(EtherHook* hook) { ether_hook = hook; }
  ~UseHook() { ether_hook = nullptr; }
};

/// A context of a model with at most one adapter: ether's in its graph, or llama.cpp's own LoRA.
class Session {
 public:
  /// exact: keys, values and attention are float32, so that no rounding to 16 bits adds a distance.
  /// Otherwise llama.cpp's defaults.
  Session(llama_model* model, const std::string& adapter, int threads, bool exact) : model_(model) {
    const std::size_t colon = adapter.find(':');
    const std::string kind = adapter.substr(0, colon);
    const std::string path = colon == std::string::npos ? "" : adapter.substr(colon + 1);
    if (kind == "ether" || kind == "ether-rows-ignored")
      ether_ = std::make_unique<GraphAdapter>(
          path, model, kind == "ether" ? RowOrder::engine : RowOrder::ignored);
    else if (kind != "lora" && kind != "base")
      throw std::runtime_error("'" + adapter + "' is not base, ether:DIR or lora:FILE");
    llama_context_params parameters = llama_context_default_params();
    parameters.n_ctx = context_tokens;
    parameters.n_threads = parameters.n_threads_batch = threads;
    if (exact) {
      parameters.type_k = parameters.type_v = GGML_TYPE_F32;
      parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    const UseHook use(
        ether_.get());  // a context builds a graph at once, to learn how much memory it needs
    context_.reset(llama_init_from_model(model, parameters));
    if (!context_) throw std::runtime_error("llama.cpp makes no context for " + adapter);
    if (ether_) ether_->check_complete();
    if (kind == "lora") {
      // The model frees it.
      llama_adapter_lora* lora = llama_adapter_lora_init(model, path.c_str());
      float scale = 1;
      if (!lora || llama_set_adapters_lora(context_.get(), &lora, 1, &scale) != 0)
        throw std::runtime_error("llama.cpp cannot use " + adapter);
    }
  }

  /// Appends `count` tokens, in one batch or one by one; their logits to `logits` if it is there.
  void decode(int count, bool one_by_one, std::vector<float>* logits = nullptr) {
    const UseHook use(ether_.get());
    const int batches = one_by_one ? count : 1, size = one_by_one ? 1 : count;
    for (int b = 0; b < batches; ++b) {
      llama_batch batch = llama_batch_init(size, 0, 1);
      batch.n_tokens = size;
      for (int i = 0; i < size; ++i) {
        batch.token[i] = token(model_, position_ + i);
        batch.pos[i] = position_ + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = logits || i == size - 1;
      }
      const int failed = llama_decode(context_.get(), batch);
      llama_batch_free(batch);
      if (failed) throw std::runtime_error("llama_decode fails");
      llama_synchronize(context_.get());
      position_ += size;
      if (!logits) continue;
      const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model_));
      const float* const found = llama_get_logits(context_.get());
      logits->insert(logits->end(), found, found + size * vocabulary);
    }
  }

  void rewind(int position) {
    llama_memory_seq_rm(llama_get_memory(context_.get()), 0, position, -1);
    position_ = position;
  }

  /// Of a prompt in one batch and tokens decoded behind it.
  std::vector<float> logits() {
    std::vector<float> found;
    decode(prompt_tokens, /*one_by_one=*/false, &found);
    decode(decoded_tokens, /*one_by_one=*/true, &found);
    return found;
  }

 private:
  llama_model* model_;
  std::unique_ptr<GraphAdapter> ether_;
  Context context_;
  int position_ = 0;
};

/// |a - b| / |b|; NaN where either has one.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

using Contestants = std::vector<std::pair<std::string, std::string>>;  // label, adapter

void check(const std::string& merged, const std::string& base, int threads,
           const Contestants& contestants) {
  const auto logits = [&](const Model& model, const std::string& adapter) {
    return Session(model.get(), adapter, threads, /*exact=*/true).logits();
  };
  const std::vector<float> expected = logits(load(merged), "base");
  const Model model = load(base);
  std::printf("label,distance\n");
  for (const auto& [label, adapter] : contestants)
    std::printf("%s,%.3e\n", label.c_str(), distance(logits(model, adapter), expected));
}

struct Turn {
  double us_per_token;
  /// CPU time over wall time and threads. llama.cpp's threads wait busily, so that less than 1 means that
  /// the system gave cores to others.
  double cores;
};

Turn take_turn(Session& session, int threads, int tokens) {
  session.rewind(prompt_tokens);
  session.decode(1, /*one_by_one=*/true);  // makes the graph for one token and warms the cache
  const auto cpu_us = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
  };
  const double cpu = cpu_us();
  const auto start = std::chrono::steady_clock::now();
  session.decode(tokens, /*one_by_one=*/true);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  return {took.count() / tokens, (cpu_us() - cpu) / took.count() / threads};
}

void time_in_turns(const std::string& base, int threads, int rounds, int tokens,
                   const Contestants& contestants) {
  if (threads < 1 || rounds < 1 || tokens < 1 || prompt_tokens + 1 + tokens > context_tokens)
    throw std::runtime_error("THREADS, ROUNDS or TOKENS is out of range");
  const Model model = load(base);
  std::vector<std::unique_ptr<Session>> sessions;
  for (const auto& [label, adapter] : contestants) {
    sessions.push_back(std::make_unique<Session>(model.get(), adapter, threads, /*exact=*/false));
    sessions.back()->decode(prompt_tokens, /*one_by_one=*/false);
    take_turn(*sessions.back(), threads, tokens);
  }
  std::vector<std::size_t> order(sessions.size());
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(1);
  std::printf("round,label,us_per_token,cores\n");
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);  // nobody always follows the same one
    for (const std::size_t who : order) {
      const Turn taken = take_turn(*sessions[who], threads, tokens);
      std::printf("%d,%s,%.2f,%.3f\n", round, contestants[who].first.c_str(), taken.us_per_token,
                  taken.cores);
    }
  }
}

void log(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  const int first = verb == "check" ? 5 : 6;  // argument with a label
  llama_log_set(log, nullptr);
  llama_backend_init();
  try {
    Contestants contestants;
    for (int i = first; i + 1 < argc; i += 2) contestants.emplace_back(argv[i], argv[i + 1]);
    if (verb == "check" && !contestants.empty()) {
      check(argv[2], argv[3], std::atoi(argv[4]), contestants);
    } else if (verb == "time" && !contestants.empty()) {
      time_in_turns(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]),
                    contestants);
    } else {
      std::fputs("usage: see the top of llama_cpp.cpp, or run llama_cpp.py\n", stderr);
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_cpp: %s\n", error.what());
    return 1;
  }
}
