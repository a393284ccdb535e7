#pragma once

/// Where an engine's graph meets an adapter. llama_cpp.py copies this file into
/// llama.cpp's src/ and calls the two functions below in the one function that
/// multiplies by a weight.

struct ggml_context;
struct ggml_tensor;

/// Adds operations to a graph while it is built.
struct EtherHook {
  virtual ~EtherHook() = default;
  /// x, or a new tensor to multiply by the weight in its place; x itself stays
  /// as it is, since other weights read it too.
  virtual ggml_tensor* before_product(ggml_context* graph, const ggml_tensor* weight,
                                      ggml_tensor* x) = 0;
  /// The product, or what to use in its place; may overwrite it.
  virtual ggml_tensor* after_product(ggml_context* graph, const ggml_tensor* weight,
                                     ggml_tensor* product) = 0;
};

/// What the graphs that this thread builds use; none: they stay as they are.
inline thread_local EtherHook* ether_hook = nullptr;

inline ggml_tensor* ether_before_product(ggml_context* graph, const ggml_tensor* weight,
                                         ggml_tensor* x) {
  return ether_hook ? ether_hook->before_product(graph, weight, x) : x;
}
inline ggml_tensor* ether_after_product(ggml_context* graph, const ggml_tensor* weight,
                                        ggml_tensor* product) {
  return ether_hook ? ether_hook->after_product(graph, weight, product) : product;
}
