#pragma once

/// The tables, one function each; T is float, __half or __nv_bfloat16. Each checks what it times,
/// before it does, and throws Wrong where a result is.

#include "reference.hpp"

namespace bench {

void floors_table(Session& s);  ///< and sets the report's copy rate

template <class T>
void errors_table(Session& s);
template <class T>
void product_table(Session& s);
template <class T>
void forward_tables(Session& s);
template <class T>
void baselines_table(Session& s);
template <class T>
void transform_table(Session& s);
template <class T>
void norm_table(Session& s);
template <class T>
void merge_table(Session& s);
template <class T>
void backward_table(Session& s);
template <class T>
void adapters_table(Session& s);
template <class T>
void layer_table(Session& s);

/// One adapter over every copy of a weight.
template <class T>
class Layers {
 public:
  using Backend = ether::CudaBackend<T>;
  Layers(Session& s, const Weights<T>& weights, const Adapter<float>& adapter) {
    of_copy_.reserve(static_cast<std::size_t>(weights.copies));
    for (int i = 0; i < weights.copies; ++i)
      of_copy_.emplace_back(s.ctx, ether::DenseWeight<Backend>(weights.view(i)), adapter);
  }
  const ether::EtherLinear<Backend>& operator[](int call) const {
    return of_copy_[static_cast<std::size_t>(call) % of_copy_.size()];
  }

 private:
  std::vector<ether::EtherLinear<Backend>> of_copy_;
};

/// y = x W^T by cuBLAS.
template <class T>
Contestant product_contestant(Session& s, const Weights<T>& w, const T* x, const DeviceArray<T>& y,
                              Index tokens, const std::string& name) {
  Contestant c;
  c.name = name;
  c.rotation = w.copies;
  c.outputs = {y.output()};
  T* const to = y.data();
  c.enqueue = [&s, &w, x, to, tokens](int call) {
    ether::CudaBackend<T>::gemm(s.ctx, MatrixView<const T>(x, tokens, w.in), w.view(call), true,
                                MatrixView<T>(to, tokens, w.out), false);
  };
  c.check = [&s, &w, x, to, tokens, name] {
    check_forward(s, name, w.last(), w.out, w.in, nullptr, x, to, tokens);
  };
  return c;
}

/// A layer's forward pass by one path.
template <class T>
Contestant forward_contestant(Session& s, const std::string& name, const Weights<T>& w,
                              const Layers<T>& layers, const Adapter<float>& adapter, const T* x,
                              const DeviceArray<T>& y, Index tokens, Path path = {}) {
  Contestant c = product_contestant(s, w, x, y, tokens, name);
  T* const to = y.data();
  c.enqueue = [&s, &w, &layers, x, to, tokens, path](int call) {
    s.take(path);
    layers[call].forward(s.ctx, MatrixView<const T>(x, tokens, w.in),
                         MatrixView<T>(to, tokens, w.out));
  };
  c.check = [&s, &w, &adapter, x, to, tokens, name] {
    check_forward(s, name, w.last(), w.out, w.in, &adapter, x, to, tokens);
  };
  return c;
}

/// The fewest bytes and the operations of a product.
template <class T>
double product_bytes(const Weights<T>& w, Index tokens) {
  return w.bytes() + static_cast<double>(tokens * (w.in + w.out)) * sizeof(T);
}
template <class T>
double product_flops(const Weights<T>& w, Index tokens) {
  return 2.0 * static_cast<double>(tokens) * static_cast<double>(w.in) * static_cast<double>(w.out);
}

inline std::string shape_name(Index in, Index out) {
  return std::to_string(in) + "→" + std::to_string(out);
}
inline std::string name_of(Variant v) { return v == Variant::ether ? "ETHER" : "ETHER+"; }

}  // namespace bench

// clang-format off
#define ETHER_BENCH_TABLE(table)                    \
  template void bench::table<float>(Session&);      \
  template void bench::table<__half>(Session&);     \
  template void bench::table<__nv_bfloat16>(Session&);
// clang-format on
