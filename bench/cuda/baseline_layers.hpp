#pragma once

/// LoRA, OFT and HRA on the device, over the frozen layer's product: activations x (tokens, in) in,
/// y (tokens, out) out, overwritten. All parameters are of type T; what a method needs besides is
/// made on the host at set-up, from the raw values, as û is for the layer.

#include "../baselines/cayley.hpp"
#include "baseline_kernels.hpp"
#include "baseline_oracles.hpp"
#include "blas.hpp"

#include <functional>
#include <memory>

namespace bench {

template <class T>
struct Baseline {
  std::string name;
  Index parameters;  ///< trainable
  std::function<void(int call, MatrixView<const T> x, MatrixView<T> y)> forward;
  RowOracle oracle;
  Contestant::Output intermediate;  ///< what forward overwrites besides y
};

/// Parameters once for every copy of the weight: by its next turn each has left the cache.
template <class T>
class Rotated {
 public:
  Rotated(const Session& s, const std::vector<double>& values, int copies)
      : count_(static_cast<Index>(values.size())), copies_(copies), memory_(upload(s, [&] {
          std::vector<T> all;
          for (int i = 0; i < copies; ++i)
            for (double value : values) all.push_back(static_cast<T>(static_cast<float>(value)));
          return all;
        }())) {}
  const T* copy(int call) const { return memory_.data() + call % copies_ * count_; }

 private:
  Index count_;
  int copies_;
  DeviceArray<T> memory_;
};

/// As random_array, on the host; values of T.
template <class T>
std::vector<double> random_values(Session& s, Index count, std::uint64_t seed, double scale,
                                  double offset) {
  const auto array = random_array<T>(s, count, seed, scale, offset);
  return download(s, static_cast<const T*>(array.data()), count);
}

/// y = x W^T + (x A^T) B^T, three products; A (rank, in), B (out, rank). The method's scale is a
/// factor of B, as where an adapter is loaded to be served.
template <class T>
Baseline<T> lora(Session& s, const Weights<T>& w, Index rank, Index most_tokens) {
  struct Memory {
    Rotated<T> a, b;
    DeviceArray<T> t;  // (tokens, rank)
  };
  const auto root = [](Index n) { return std::sqrt(3.0 / static_cast<double>(n)); };
  auto a = random_values<T>(s, rank * w.in, 61, root(w.in), 0);
  auto b = random_values<T>(s, w.out * rank, 62, root(rank), 0);
  const auto m = std::make_shared<Memory>(
      Memory{{s, a, w.copies}, {s, b, w.copies}, DeviceArray<T>(most_tokens * rank)});
  const auto forward = [&s, &w, m, rank](int call, MatrixView<const T> x, MatrixView<T> y) {
    using Backend = ether::CudaBackend<T>;
    using View = MatrixView<const T>;
    const MatrixView<T> t(m->t.data(), x.rows, rank);
    Backend::gemm(s.ctx, x, View(m->a.copy(call), rank, w.in), true, t, false);
    Backend::gemm(s.ctx, x, w.view(call), true, y, false);
    Backend::gemm(s.ctx, View(t), View(m->b.copy(call), w.out, rank), true, y, true);
  };
  return {"LoRA, r = " + std::to_string(rank), rank * (w.in + w.out), forward,
          lora_oracle(std::move(a), std::move(b), rank), m->t.output()};
}

/// y = z W^T, where transform(call, x, z) makes z (tokens, in), which `z` has room for.
template <class T, class Transform>
auto product_behind(Session& s, const Weights<T>& w, const DeviceArray<T>& z, Transform transform) {
  return [&s, &w, &z, transform](int call, MatrixView<const T> x, MatrixView<T> y) {
    const MatrixView<T> rows(z.data(), x.rows, x.cols);
    transform(call, x, rows);
    ether::CudaBackend<T>::gemm(s.ctx, MatrixView<const T>(rows), w.view(call), true, y, false);
  };
}

/// z = x diag(H_1, ..., H_n), y = z W^T; each H_i (32, 32) from R_i by the Cayley transform. Twice:
/// the blocks by one batched product of cuBLAS, and by block_product.
template <class T>
std::vector<Baseline<T>> oft(Session& s, const Blas& blas, const Weights<T>& w,
                             const DeviceArray<T>& z) {
  constexpr Index size = oft_block;
  const std::vector<double> r = random_values<T>(s, w.in * size, 63, 0.3, 0);
  std::vector<double> h_values(r.size());
  for (Index row = 0; row < w.in; row += size)
    cayley<double>({r.data() + row * size, size, size}, {h_values.data() + row * size, size, size});
  const auto h = std::make_shared<Rotated<T>>(s, h_values, w.copies);
  const auto batched = [&blas, h](int call, MatrixView<const T> x, MatrixView<T> to) {
    blas.strided(size, x.rows, size, h->copy(call), size, size * size, x.data, x.cols, size,
                 to.data, to.cols, size, x.cols / size);
  };
  const auto kernel = [&s, h](int call, MatrixView<const T> x, MatrixView<T> to) {
    if (!block_product(s.ctx.launch(), MatrixView<const T>(h->copy(call), x.cols, size), x, to))
      throw Wrong("block_product does not take this width");
  };
  const std::string name = "OFT, b = " + std::to_string(size);
  const Index parameters = w.in * (size - 1) / 2;
  const RowOracle oracle = oft_oracle(r, size);
  return {{name + ", cuBLAS", parameters, product_behind(s, w, z, batched), oracle, z.output()},
          {name + ", own kernel", parameters, product_behind(s, w, z, kernel), oracle, z.output()}};
}

/// z = x H_r ... H_1, H_k = I - 2 û_k û_k^T, y = z W^T; û (rank, in).
template <class T>
Baseline<T> hra(Session& s, const Weights<T>& w, Index rank, const DeviceArray<T>& z) {
  const std::vector<double> u = random_values<T>(s, rank * w.in, 64, 1, 0.5);
  std::vector<double> unit = u;
  for (Index k = 0; k < rank; ++k) {
    double* const row = unit.data() + k * w.in;
    double squares = 0;
    for (Index i = 0; i < w.in; ++i) squares += row[i] * row[i];
    for (Index i = 0; i < w.in; ++i) row[i] /= std::sqrt(squares);
  }
  const auto rotated = std::make_shared<Rotated<T>>(s, unit, w.copies);
  const auto chain = [&s, rotated, rank](int call, MatrixView<const T> x, MatrixView<T> to) {
    if (!householder_chain(s.ctx.launch(), MatrixView<const T>(rotated->copy(call), rank, x.cols),
                           x, to))
      throw Wrong("householder_chain does not take this width");
  };
  return {"HRA, r = " + std::to_string(rank), rank * w.in, product_behind(s, w, z, chain),
          hra_oracle(u, rank), z.output()};
}

}  // namespace bench
