#pragma once

/// A decoder of the Llama family on the CPU, read from a directory in the Hugging Face layout. A batch is a
/// number of rows, each a token of some sequence, at its position, with an adapter of its own or none:
/// prompts and single tokens of many requests go through the weights together.

#include "requests.hpp"

#include <ether/ether.hpp>
#include <ether/io.hpp>

#include <nlohmann/json.hpp>

#include <Eigen/Core>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

namespace serve {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct LlamaConfig {
  Index width, inner, layers, heads, kv_heads, head_dim, vocabulary;
  float epsilon, rope_theta;
  bool tied;

  /// Throws format_error for what this decoder does not compute.
  static LlamaConfig read(const fs::path& directory) {
    using ether::detail::fail;
    const fs::path path = directory / "config.json";
    std::ifstream file(path);
    const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) fail<ether::format_error>(path.string(), " is no JSON object");
    const auto require = [&](const char* key, const nlohmann::json& fallback,
                             const std::vector<nlohmann::json>& known) {
      const auto value = json.value(key, fallback);
      if (std::find(known.begin(), known.end(), value) == known.end())
        fail<ether::format_error>(path.string(), ": ", key, " is ", value.dump(),
                                  ", which this example does not compute");
    };
    require("model_type", "", {"llama", "mistral", "qwen2"});
    require("hidden_act", "silu", {"silu"});
    require("rope_scaling", nullptr, {nullptr});
    if (json.value("use_sliding_window", json.value("model_type", "") == "mistral"))
      require("sliding_window", nullptr, {nullptr});
    const auto size = [&](const char* key, Index fallback = 0) {
      const auto found = json.find(key);
      const bool absent = found == json.end() || found->is_null();
      const Index value = absent ? fallback : found->is_number_integer() ? found->get<Index>() : 0;
      if (value < 1)
        fail<ether::format_error>(path.string(), ": ", key, " must be a positive integer");
      return value;
    };
    LlamaConfig c{};
    c.width = size("hidden_size");
    c.inner = size("intermediate_size");
    c.layers = size("num_hidden_layers");
    c.heads = size("num_attention_heads");
    c.kv_heads = size("num_key_value_heads", c.heads);
    c.head_dim = size("head_dim", c.width / c.heads);
    c.vocabulary = size("vocab_size");
    c.epsilon = json.value("rms_norm_eps", 1e-6f);
    const auto rope = json.value("rope_parameters", nlohmann::json::object());  // of transformers 5
    c.rope_theta = json.value("rope_theta", rope.value("rope_theta", 10000.0f));
    if (rope.value("rope_type", "default") != "default")
      fail<ether::format_error>(path.string(), ": rope_parameters has rope_type ",
                                rope["rope_type"].dump(), ", which this example does not compute");
    c.tied = json.value("tie_word_embeddings", false);
    if (c.heads % c.kv_heads != 0 || c.head_dim % 2 != 0)
      fail<ether::format_error>(path.string(), ": ", c.heads, " heads of ", c.head_dim, " with ",
                                c.kv_heads, " for keys and values do not fit together");
    return c;
  }
};

/// The keys and values of one sequence: (tokens, kv_heads * head_dim) for each layer.
struct Cache {
  std::vector<Matrix<float>> keys, values;
  Index tokens = 0;

  Cache() = default;
  Cache(const LlamaConfig& c, Index most_tokens)
      : keys(static_cast<std::size_t>(c.layers),
             Matrix<float>(most_tokens, c.kv_heads * c.head_dim)),
        values(keys) {}
};

/// A token to be computed. Those of one sequence follow each other in their order.
struct Row {
  Cache* cache;
  Token token;
  std::int32_t adapter;  // slot in the bank, -1: none
  bool wants_logits;
};

/// T: float, Eigen::bfloat16 or Eigen::half, as the checkpoint's weights are. Between layers, and in
/// attention, activations are float.
template <class T>
class Llama {
 public:
  using Backend = ether::EigenBackend<T>;
  using Context = ether::EigenContext;
  using Banks = ether::ModelBank<Backend>;

  Llama(Context& ctx, const fs::path& directory)
      : config_(LlamaConfig::read(directory)), checkpoint_(directory) {
    const LlamaConfig& c = config_;
    embedding_ = matrix("model.embed_tokens.weight", c.vocabulary, c.width);
    norm_ = vector("model.norm.weight", c.width);
    for (Index l = 0; l < c.layers; ++l) {
      const std::string at = "model.layers." + std::to_string(l) + ".";
      const Index q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
      layers_.push_back({vector(at + "input_layernorm.weight", c.width),
                         vector(at + "post_attention_layernorm.weight", c.width),
                         linear(ctx, at + "self_attn.q_proj", q, c.width),
                         linear(ctx, at + "self_attn.k_proj", kv, c.width),
                         linear(ctx, at + "self_attn.v_proj", kv, c.width),
                         linear(ctx, at + "self_attn.o_proj", c.width, q),
                         linear(ctx, at + "mlp.gate_proj", c.inner, c.width),
                         linear(ctx, at + "mlp.up_proj", c.inner, c.width),
                         linear(ctx, at + "mlp.down_proj", c.width, c.inner)});
    }
    const auto head = c.tied ? embedding_ : matrix("lm_head.weight", c.vocabulary, c.width);
    head_.emplace_back(ctx, head);
    for (Index i = 0; i < c.head_dim / 2; ++i)
      frequencies_.push_back(
          1 / std::pow(c.rope_theta, static_cast<float>(2 * i) / static_cast<float>(c.head_dim)));
  }

  const LlamaConfig& config() const { return config_; }
  /// The linear layers that adapters may be for.
  std::vector<ether::BankModule> modules() const {
    std::vector<ether::BankModule> all;
    for (const Layer& layer : layers_)
      for (const Linear* l :
           {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
        all.push_back({l->module, l->layer.out_features(), l->layer.in_features()});
    return all;
  }

  /// Appends the rows' tokens to their caches. Returns the logits (rows that want them, vocabulary).
  Matrix<float> forward(Context& ctx, const std::vector<Row>& rows, const Banks& banks) {
    const LlamaConfig& c = config_;
    const auto count = static_cast<Index>(rows.size());
    ids_.clear();
    positions_.clear();
    Matrix<float> x(count, c.width);
    for (Index r = 0; r < count; ++r) {
      const Row& row = rows[static_cast<std::size_t>(r)];
      ids_.push_back(row.adapter);
      positions_.push_back(row.cache->tokens++);
      x.row(r) = map(embedding_).row(row.token).template cast<float>();
    }
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const Layer& layer = layers_[l];
      const Matrix<T> h = normed(x, layer.attention_norm);
      Matrix<float> q = apply(ctx, layer.q, banks, h).template cast<float>();
      Matrix<float> k = apply(ctx, layer.k, banks, h).template cast<float>();
      const Matrix<T> v = apply(ctx, layer.v, banks, h);
      rotate(q), rotate(k);
      for (Index r = 0; r < count; ++r) {
        Cache& cache = *rows[static_cast<std::size_t>(r)].cache;
        const Index position = positions_[static_cast<std::size_t>(r)];
        cache.keys[l].row(position) = k.row(r);
        cache.values[l].row(position) = v.row(r).template cast<float>();
      }
      const Matrix<T> attended = attention(ctx, rows, q, l);
      x += apply(ctx, layer.o, banks, attended).template cast<float>();
      const Matrix<T> m = normed(x, layer.mlp_norm);
      const Matrix<float> gate = apply(ctx, layer.gate, banks, m).template cast<float>();
      const Matrix<float> up = apply(ctx, layer.up, banks, m).template cast<float>();
      const Matrix<T> inner =
          (gate.array() / (1 + (-gate.array()).exp()) * up.array()).matrix().template cast<T>();
      x += apply(ctx, layer.down, banks, inner).template cast<float>();
    }
    Index wanted = 0;
    for (Index r = 0; r < count; ++r)
      if (rows[static_cast<std::size_t>(r)].wants_logits) x.row(wanted++) = x.row(r);
    const Matrix<T> last = normed(x.topRows(wanted), norm_);
    Matrix<T> logits(wanted, c.vocabulary);
    head_[0].forward(ctx, last, logits);
    return logits.template cast<float>();
  }

 private:
  using View = ether::MatrixView<const T>;
  struct Linear {
    std::string module;
    ether::EtherLinear<Backend> layer;  // frozen: adapters come from the bank
  };
  struct Layer {
    Eigen::RowVectorXf attention_norm, mlp_norm;
    Linear q, k, v, o, gate, up, down;
  };

  static Eigen::Map<const Matrix<T>> map(View v) { return {v.data, v.rows, v.cols}; }

  /// A tensor where it lies in its file.
  View matrix(const std::string& name, Index rows, Index cols) const {
    const auto* const found = checkpoint_.find(name);
    if (found == nullptr)
      ether::detail::fail<ether::format_error>(checkpoint_.path().string(), " has no tensor '",
                                               name, "'");
    const View view = found->shard->template matrix<T>(name);
    ether::detail::check_shape(name.c_str(), view, rows, cols, "what config.json says").require();
    return view;
  }
  Eigen::RowVectorXf vector(const std::string& name, Index size) const {
    return map(matrix(name, 1, size)).template cast<float>();
  }
  Linear linear(Context& ctx, const std::string& module, Index out, Index in) const {
    const T* bias = nullptr;
    if (checkpoint_.find(module + ".bias") != nullptr) bias = matrix(module + ".bias", 1, out).data;
    return {module, ether::EtherLinear<Backend>(ctx, matrix(module + ".weight", out, in), bias)};
  }

  /// Each row with its own adapter.
  Matrix<T> apply(Context& ctx, const Linear& linear, const Banks& banks,
                  const Matrix<T>& x) const {
    Matrix<T> y(x.rows(), linear.layer.out_features());
    linear.layer.forward(ctx, x, y, banks[linear.module], ids_.data());
    return y;
  }

  Matrix<T> normed(const Matrix<float>& x, const Eigen::RowVectorXf& weight) const {
    Matrix<T> to(x.rows(), x.cols());
    for (Index r = 0; r < x.rows(); ++r) {
      const float mean = x.row(r).squaredNorm() / static_cast<float>(x.cols());
      to.row(r) = (x.row(r) * (1 / std::sqrt(mean + config_.epsilon)))
                      .cwiseProduct(weight)
                      .template cast<T>();
    }
    return to;
  }

  /// The rotary embedding of every head, which turns elements i and head_dim / 2 + i.
  void rotate(Matrix<float>& x) const {
    const Index half = config_.head_dim / 2;
    for (Index r = 0; r < x.rows(); ++r)
      for (Index i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions_[static_cast<std::size_t>(r)]) *
                            frequencies_[static_cast<std::size_t>(i)];
        const float cosine = std::cos(angle), sine = std::sin(angle);
        for (Index head = 0; head < x.cols(); head += 2 * half) {
          float &a = x(r, head + i), &b = x(r, head + half + i);
          const float turned = a * cosine - b * sine;
          b = b * cosine + a * sine;
          a = turned;
        }
      }
  }

  /// softmax(q K^T / sqrt(head_dim)) V over a row's sequence up to the row; neighbouring heads share K and V.
  Matrix<T> attention(Context& ctx, const std::vector<Row>& rows, const Matrix<float>& q,
                      std::size_t layer) const {
    const LlamaConfig& c = config_;
    const Index d = c.head_dim, group = c.heads / c.kv_heads;
    Matrix<T> to(q.rows(), q.cols());
    const Index longest = *std::max_element(positions_.begin(), positions_.end()) + 1;
    Matrix<float> scratch(ctx.threads(), longest);
    ctx.parallel_for(q.rows() * c.heads, q.rows() * longest * c.width, [&](Index task, int thread) {
      const Index r = task / c.heads, head = task % c.heads;
      const Index length = positions_[static_cast<std::size_t>(r)] + 1;
      const Cache& cache = *rows[static_cast<std::size_t>(r)].cache;
      const auto keys = cache.keys[layer].block(0, head / group * d, length, d);
      const auto values = cache.values[layer].block(0, head / group * d, length, d);
      auto scores = scratch.row(thread).head(length);
      scores.noalias() =
          q.row(r).segment(head * d, d) * keys.transpose() / std::sqrt(static_cast<float>(d));
      scores = (scores.array() - scores.maxCoeff()).exp();
      const float sum = scores.sum();
      to.row(r).segment(head * d, d) = (scores * values / sum).template cast<T>();
    });
    return to;
  }

  LlamaConfig config_;
  ether::Checkpoint checkpoint_;
  View embedding_;
  Eigen::RowVectorXf norm_;
  std::vector<Layer> layers_;
  std::vector<ether::EtherLinear<Backend>> head_;  // one
  std::vector<float> frequencies_;
  std::vector<std::int32_t> ids_;  // of the batch at hand
  std::vector<Index> positions_;
};

}  // namespace serve
