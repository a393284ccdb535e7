#pragma once

/// One frozen layer with LoRA, OFT or HRA on it: the baseline's layer and its trained parameters.
///
///     layer()                          bench::Lora, Oft or Hra: forward, merge, parameters
///     backward(ctx, x, grad_y, grad_x) overwrites grad_x (may be empty) and the gradients
///     trainable()                      the parameters with their gradients and optimisers
///     prepare(ctx)                     to be called after their values were changed
///     transforms(ctx)                  H, where the method has one

#include "../../examples/finetune_digits/adapted_network.hpp"
#include "../baselines/hra.hpp"
#include "../baselines/lora.hpp"
#include "../baselines/oft.hpp"
#include "distance.hpp"

namespace claims {

using Context = Backend::Context;

/// An array of parameters, its gradient and its optimiser.
struct Trainable {
  explicit Trainable(Matrix initial)
      : values(std::move(initial)),
        grads(Matrix::Zero(values.rows(), values.cols())),
        optimizer(values.size()) {}
  void step(float rate) { optimizer.step(values.data(), grads.data(), rate); }

  Matrix values, grads;
  Adam optimizer;
};

inline Matrix uniform_matrix(Index rows, Index cols, float bound, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Matrix m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = bound * uniform(generator);
  return m;
}

/// LoRA: A uniform within +-1/sqrt(in), B zero; y = x W^T + (alpha / rank) (x A^T) B^T + b.
class LoraLayer {
 public:
  struct Config {
    Index rank;
    double alpha;
  };
  LoraLayer(Context&, const Linear& base, const Config& config, std::uint64_t seed)
      : a_(uniform_matrix(config.rank, base.weight.cols(),
                          1 / std::sqrt(static_cast<float>(base.weight.cols())), seed)),
        b_(Matrix::Zero(config.rank, base.weight.rows())),
        layer_(base.weight, a_.values, b_.values, config.alpha / static_cast<double>(config.rank),
               base.bias.data()) {}

  const bench::Lora<Backend>& layer() const { return layer_; }
  void backward(Context& ctx, const Matrix& x, const Matrix& grad_y, Matrix& grad_x) {
    for (Trainable* t : trainable()) t->grads.setZero();
    layer_.backward(ctx, x, grad_y, grad_x, a_.grads, b_.grads);
  }
  void prepare(Context&) {}  // the layer reads A and B where they are
  std::vector<Trainable*> trainable() { return {&a_, &b_}; }
  std::vector<Transform> transforms(Context&) const { return {}; }

 private:
  Trainable a_, b_;  // (rank, in) and, transposed, (rank, out)
  bench::Lora<Backend> layer_;
};

/// What OFT and HRA have alike: one array of parameters, and an H of theirs on the input side.
template <class Method>
class TransformLayer {
 public:
  const Method& layer() const { return layer_; }
  void backward(Context& ctx, const Matrix& x, const Matrix& grad_y, Matrix& grad_x) {
    raw_.grads.setZero();
    layer_.backward(ctx, x, grad_y, grad_x, raw_.grads);
  }
  void prepare(Context& ctx) { layer_.set(ctx, raw_.values); }
  std::vector<Trainable*> trainable() { return {&raw_}; }
  std::vector<Transform> transforms(Context& ctx) const {
    const Index in = layer_.in_features();
    const Matrix identity = Matrix::Identity(in, in);
    Matrix h(in, in);
    Method(ctx, identity, raw_.values).merge(ctx, h);  // merged = H or H^T
    return {{h, bound_}};
  }

 protected:
  TransformLayer(Context& ctx, const Linear& base, Matrix initial, double bound)
      : raw_(std::move(initial)),
        layer_(ctx, base.weight, raw_.values, base.bias.data()),
        bound_(bound) {}

 private:
  Trainable raw_;
  Method layer_;
  double bound_;  // of |H - I|
};

/// OFT: R (in, block_size) zero, so that H starts at the identity. H is orthogonal:
/// |H - I| <= 2 sqrt(in).
class OftLayer : public TransformLayer<bench::Oft<Backend>> {
 public:
  struct Config {
    Index block_size;
  };
  OftLayer(Context& ctx, const Linear& base, const Config& config, std::uint64_t)
      : TransformLayer(ctx, base, Matrix::Zero(base.weight.cols(), config.block_size),
                       2 * std::sqrt(static_cast<double>(base.weight.cols()))) {}
};

/// HRA: pairs of equal random u (rank, in), so that H starts at the identity. H - I is of rank r at
/// most, with eigenvalues of magnitude 2 at most: |H - I| <= 2 sqrt(r).
class HraLayer : public TransformLayer<bench::Hra<Backend>> {
 public:
  struct Config {
    Index rank;  // even
  };
  HraLayer(Context& ctx, const Linear& base, const Config& config, std::uint64_t seed)
      : TransformLayer(ctx, base, pairs(config.rank, base.weight.cols(), seed),
                       2 * std::sqrt(static_cast<double>(config.rank))) {}

 private:
  static Matrix pairs(Index rank, Index in, std::uint64_t seed) {
    const Matrix halves = uniform_matrix(rank / 2, in, 1 / std::sqrt(static_cast<float>(in)), seed);
    Matrix u(rank, in);
    for (Index k = 0; k < rank; ++k) u.row(k) = halves.row(k / 2);
    return u;
  }
};

}  // namespace claims
