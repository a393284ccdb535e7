#include "graph_adapter.hpp"

namespace llama_cpp {

namespace {

using ether::MatrixView;
using ether::Reflection;

/// The linear layers of a Llama: Hugging Face's name and GGUF's, and a name for what they multiply.
struct Linear {
  const char *module, *weight, *input;
};
constexpr Linear linears[] = {
    {"self_attn.q_proj", "attn_q", "qkv"},     {"self_attn.k_proj", "attn_k", "qkv"},
    {"self_attn.v_proj", "attn_v", "qkv"},     {"self_attn.o_proj", "attn_output", "output"},
    {"mlp.gate_proj", "ffn_gate", "gate_up"},  {"mlp.up_proj", "ffn_up", "gate_up"},
    {"mlp.down_proj", "ffn_down", "ffn_down"},
};

/// The Linear of "model.layers.LAYER.MODULE", and LAYER.
std::pair<const Linear*, std::string> parse(const std::string& module) {
  const std::string prefix = "model.layers.";
  const std::size_t dot = module.find('.', prefix.size());
  if (module.compare(0, prefix.size(), prefix) == 0 && dot != std::string::npos)
    for (const Linear& linear : linears)
      if (module.compare(dot + 1, std::string::npos, linear.module) == 0)
        return {&linear, module.substr(prefix.size(), dot - prefix.size())};
  ether::detail::fail<ether::parameter_error>("module '", module,
                                              "' is none of a Llama's linear layers");
}

/// (tokens, width) of a tensor that has one such matrix, or several.
MatrixView<float> matrix(const ggml_tensor* t, std::size_t which = 0) {
  GGML_ASSERT(t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float));
  GGML_ASSERT(static_cast<Index>(which) < t->ne[2] && t->ne[3] == 1);
  return {static_cast<float*>(t->data) + which * (t->nb[2] / sizeof(float)), t->ne[1], t->ne[0],
          static_cast<Index>(t->nb[1] / sizeof(float))};
}

/// Thread ith's part of to = from H: some of the tokens, or some blocks of each where tokens are too few.
void reflect_part(const Reflection<float>& h, MatrixView<const float> from, MatrixView<float> to,
                  int ith, int nth) {
  const bool by_tokens = from.rows >= nth;
  const Index all = by_tokens ? from.rows : h.blocks;
  const Index first = all * ith / nth, count = all * (ith + 1) / nth - first;
  Backend::Context ctx(1);  // llama.cpp has the threads
  if (by_tokens) {
    Backend::reflect(ctx, h, from.middle_rows(first, count), to.middle_rows(first, count),
                     MatrixView<const float>{});
  } else if (count > 0) {
    const Reflection<float> part = h.middle_blocks(first, count);
    const Index column = first * h.block_size;
    Backend::reflect(ctx, part, from.block(0, column, from.rows, part.width()),
                     to.block(0, column, to.rows, part.width()), MatrixView<const float>{});
  }
}

/// The two operations. llama.cpp calls them on each of its threads.
void reflect_inputs(ggml_tensor* z, int ith, int nth, void* shared) {
  const auto& weights = static_cast<const SharedInput*>(shared)->weights;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Prepared& prepared = *weights[i]->prepared;
    reflect_part(prepared.input(prepared.slices()[0]), matrix(z->src[0]), matrix(z, i), ith, nth);
  }
}
void reflect_output(ggml_tensor* y, const ggml_tensor* s, int ith, int nth, void* weight) {
  const Prepared& prepared = *static_cast<const AdaptedWeight*>(weight)->prepared;
  const Prepared::Span& rows = prepared.spans()[0];
  // An order of rows that takes blocks apart needs several passes. All have blocks of one size, so that a
  // thread goes on with what it has written itself.
  for (Index pass = 0; pass < prepared.passes(rows); ++pass)
    reflect_part(prepared.output(rows, pass), matrix(pass == 0 ? s : y), matrix(y), ith, nth);
}

}  // namespace

GraphAdapter::GraphAdapter(const std::string& directory, const llama_model* model, RowOrder order)
    : file_(directory) {
  if (file_.config().block_layout == ether::BlockLayout::row_chunk)
    ether::detail::fail<ether::parameter_error>(
        directory, " has layout row_chunk: rows of one weight would need different inputs");
  // Others have the same names, but their rows in another order.
  char architecture[64] = "";
  llama_model_meta_val_str(model, "general.architecture", architecture, sizeof architecture);
  if (std::string(architecture) != "llama")
    ether::detail::fail<ether::parameter_error>("the model's architecture is '", architecture,
                                                "'; the order of rows is known for 'llama' only");
  for (const std::string& module : file_.modules()) {
    const auto [linear, layer] = parse(module);
    Index heads = 0;
    if (order == RowOrder::engine && linear->weight == std::string("attn_q"))
      heads = llama_model_n_head(model);
    if (order == RowOrder::engine && linear->weight == std::string("attn_k"))
      heads = llama_model_n_head_kv(model);
    SharedInput& input = inputs_[layer + "." + linear->input];
    AdaptedWeight& weight = weights_["blk." + layer + "." + linear->weight + ".weight"];
    weight = {module, heads, &input, input.weights.size(), std::nullopt};
    input.weights.push_back(&weight);
  }
}

/// What adapts this side of a weight, or null.
AdaptedWeight* GraphAdapter::find(const ggml_tensor* weight, Side side) {
  const auto found = weights_.find(weight->name);
  if (found == weights_.end()) return nullptr;
  AdaptedWeight& adapted = found->second;
  if (!adapted.prepared) {
    const Index out = weight->ne[1], in = weight->ne[0];
    const ether::Adapter<float> adapter = file_.adapter<float>(adapted.module, out, in);
    std::vector<Index> order;
    if (adapted.heads > 0) order = ether::interleaved_row_order(adapted.heads, out / adapted.heads);
    Backend::Context ctx(1);
    adapted.prepared.emplace(
        ctx, out, in,
        std::vector<ether::AdaptedRows<float>>{{adapter, /*first=*/0, std::move(order)}});
  }
  return has_side(adapted.prepared->config().sides, side) ? &adapted : nullptr;
}

ggml_tensor* GraphAdapter::before_product(ggml_context* graph, const ggml_tensor* weight,
                                          ggml_tensor* x) {
  AdaptedWeight* const adapted = find(weight, Side::input);
  if (!adapted) return x;
  SharedInput& input = *adapted->input;
  // Another graph may have its x at the same address, but no graph takes the same z twice.
  if (input.x != x || input.taken[adapted->place]) {
    const std::size_t count = input.weights.size();
    input.x = x;
    input.z =
        ggml_custom_4d(graph, GGML_TYPE_F32, x->ne[0], x->ne[1], static_cast<std::int64_t>(count),
                       1, &x, 1, reflect_inputs, GGML_N_TASKS_MAX, &input);
    input.taken.assign(count, false);
  }
  input.taken[adapted->place] = true;
  return ggml_view_2d(graph, input.z, x->ne[0], x->ne[1], input.z->nb[1],
                      adapted->place * input.z->nb[2]);
}

ggml_tensor* GraphAdapter::after_product(ggml_context* graph, const ggml_tensor* weight,
                                         ggml_tensor* product) {
  AdaptedWeight* const adapted = find(weight, Side::output);
  if (!adapted) return product;
  return ggml_map_custom1_inplace(graph, product, reflect_output, GGML_N_TASKS_MAX, adapted);
}

void GraphAdapter::check_complete() const {
  for (const auto& [name, weight] : weights_)
    if (!weight.prepared)
      ether::detail::fail<ether::parameter_error>(
          "module '", weight.module, "' is adapted, but no graph multiplies by ", name);
}

}  // namespace llama_cpp
