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

/// H of a layer (ctx, weight) -> merged = W H or W H^T, made by `make` around the identity.
template <class Make>
Matrix transform_of_identity(Context& ctx, Index width, Make&& make) {
  const Matrix identity = Matrix::Identity(width, width);
  Matrix h(width, width);
  make(identity).merge(ctx, h);
  return h;
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

/// OFT: R zero, so that H starts at the identity. H is orthogonal: |H - I| <= 2 sqrt(in).
class OftLayer {
 public:
  struct Config {
    Index block_size;
  };
  OftLayer(Context& ctx, const Linear& base, const Config& config, std::uint64_t)
      : r_(Matrix::Zero(base.weight.cols(), config.block_size)),
        layer_(ctx, base.weight, r_.values, base.bias.data()) {}

  const bench::Oft<Backend>& layer() const { return layer_; }
  void backward(Context& ctx, const Matrix& x, const Matrix& grad_y, Matrix& grad_x) {
    r_.grads.setZero();
    layer_.backward(ctx, x, grad_y, grad_x, r_.grads);
  }
  void prepare(Context& ctx) { layer_.set(ctx, r_.values); }
  std::vector<Trainable*> trainable() { return {&r_}; }
  std::vector<Transform> transforms(Context& ctx) const {
    const Index in = r_.values.rows();
    const Matrix h = transform_of_identity(ctx, in, [&](const Matrix& identity) {
      return bench::Oft<Backend>(ctx, identity, r_.values);
    });
    return {{h, 2 * std::sqrt(static_cast<double>(in))}};
  }

 private:
  Trainable r_;  // (in, block_size)
  bench::Oft<Backend> layer_;
};

/// HRA: pairs of equal random u, so that H starts at the identity. H - I is of rank r at most, with
/// eigenvalues of magnitude 2 at most: |H - I| <= 2 sqrt(r).
class HraLayer {
 public:
  struct Config {
    Index rank;  // even
  };
  HraLayer(Context& ctx, const Linear& base, const Config& config, std::uint64_t seed)
      : u_(pairs(config.rank, base.weight.cols(), seed)),
        layer_(ctx, base.weight, u_.values, base.bias.data()) {}

  const bench::Hra<Backend>& layer() const { return layer_; }
  void backward(Context& ctx, const Matrix& x, const Matrix& grad_y, Matrix& grad_x) {
    u_.grads.setZero();
    layer_.backward(ctx, x, grad_y, grad_x, u_.grads);
  }
  void prepare(Context& ctx) { layer_.set(ctx, u_.values); }
  std::vector<Trainable*> trainable() { return {&u_}; }
  std::vector<Transform> transforms(Context& ctx) const {
    const Matrix h = transform_of_identity(ctx, u_.values.cols(), [&](const Matrix& identity) {
      return bench::Hra<Backend>(ctx, identity, u_.values);
    });
    return {{h, 2 * std::sqrt(static_cast<double>(u_.values.rows()))}};
  }

 private:
  static Matrix pairs(Index rank, Index in, std::uint64_t seed) {
    const Matrix halves = uniform_matrix(rank / 2, in, 1 / std::sqrt(static_cast<float>(in)), seed);
    Matrix u(rank, in);
    for (Index k = 0; k < rank; ++k) u.row(k) = halves.row(k / 2);
    return u;
  }

  Trainable u_;  // (rank, in)
  bench::Hra<Backend> layer_;
};

}  // namespace claims
