#pragma once

/// An ETHER adapter in llama.cpp's graphs: z = x H_in before each product, y = s H_out after it.

#include "ether_hook.h"

#include <ether/ether.hpp>
#include <ether/io/adapter_file.hpp>

#include <ggml.h>
#include <llama.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llama_cpp {

using Backend = ether::EigenBackend<float>;
using Prepared = ether::PreparedAdapter<Backend>;
using ether::Index;
using ether::Side;

struct SharedInput;

/// A weight of the model and its part of the adapter.
struct AdaptedWeight {
  std::string module;  // its name in the adapter
  Index heads;         // whose rows llama.cpp has in another order; 0: the adapter's own order
  SharedInput* input;  // what it multiplies,
  std::size_t place;   // and which of the z there is its own
  std::optional<Prepared> prepared;  // from the first graph on, which tells the weight's shape
};

/// The x of one weight, or of several, as q, k and v of a layer share theirs. One operation makes the z of
/// all of them, since all threads wait for each other at the end of each.
struct SharedInput {
  std::vector<const AdaptedWeight*> weights;
  std::vector<bool> taken;         // whose z the present graph has used
  const ggml_tensor* x = nullptr;  // of the present graph: (tokens, in)
  ggml_tensor* z = nullptr;        // and (weights, tokens, in)
};

/// Whether the adapter is told the engine's order of q's and k's rows. `ignored` is wrong on purpose: a control.
enum class RowOrder { engine, ignored };

/// One adapter for one model of the Llama architecture on the CPU. Graphs refer to it: it must outlive the
/// contexts that use it. Contexts may share it if they run one after another.
class GraphAdapter : public EtherHook {
 public:
  GraphAdapter(const std::string& directory, const llama_model* model, RowOrder order);

  ggml_tensor* before_product(ggml_context* graph, const ggml_tensor* weight,
                              ggml_tensor* x) override;
  ggml_tensor* after_product(ggml_context* graph, const ggml_tensor* weight,
                             ggml_tensor* product) override;

  /// Throws parameter_error if a module of the adapter is in no graph built so far.
  void check_complete() const;

 private:
  AdaptedWeight* find(const ggml_tensor* weight, Side side);

  ether::AdapterFile file_;
  std::map<std::string, SharedInput> inputs_;     // by layer and what it is for: "0.qkv"
  std::map<std::string, AdaptedWeight> weights_;  // by GGUF's name: "blk.0.attn_q.weight"
};

}  // namespace llama_cpp
