#pragma once

/// The digits network with each method on it, behind one interface:
///
///     forward(images)             the logits, (images, classes)
///     step(grad_logits, rate)     one step of Adam at the images last given to forward
///     merged()                    a plain network that computes the same
///     parameter_count()
///     transforms()                H of every adapted side of every layer, where the method has H

#include "trained_layers.hpp"

#include <deque>

namespace claims {

/// `base` with a trained Layer (trained_layers.hpp) for each of its own. Reads `base`, never writes
/// it.
template <class Layer>
class BaselineNetwork {
 public:
  BaselineNetwork(const Network& base, const typename Layer::Config& config, std::uint64_t seed)
      : base_(base), x_(base.size()) {
    for (const Linear& linear : base)
      layers_.emplace_back(ctx_, linear, config, seed * 1000 + layers_.size());
  }

  Matrix forward(const Matrix& images) {
    Matrix y = images;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      x_[l] = l == 0 ? images : relu(y);
      y.resize(images.rows(), base_[l].weight.rows());
      layers_[l].layer().forward(ctx_, x_[l], y);
    }
    return y;
  }

  /// The gradients of all parameters, overwritten.
  void backward(const Matrix& grad_logits) {
    Matrix grad_y = grad_logits, grad_x;
    for (std::size_t l = layers_.size(); l-- > 0;) {
      grad_x.resize(l == 0 ? 0 : x_[l].rows(), l == 0 ? 0 : x_[l].cols());  // empty: not wanted
      layers_[l].backward(ctx_, x_[l], grad_y, grad_x);
      if (l > 0) grad_y = relu_backward(grad_x, x_[l]);
    }
  }

  void step(const Matrix& grad_logits, float rate) {
    backward(grad_logits);
    for (Trainable* t : trainable()) t->step(rate);
    prepare();
  }

  std::vector<Trainable*> trainable() {
    std::vector<Trainable*> all;
    for (Layer& layer : layers_)
      for (Trainable* t : layer.trainable()) all.push_back(t);
    return all;
  }
  /// To be called after the values of trainable() were changed.
  void prepare() {
    for (Layer& layer : layers_) layer.prepare(ctx_);
  }

  Network merged() {
    Network plain = base_;
    for (std::size_t l = 0; l < layers_.size(); ++l)
      layers_[l].layer().merge(ctx_, plain[l].weight);
    return plain;
  }

  Index parameter_count() const {
    Index count = 0;
    for (const Layer& layer : layers_) count += layer.layer().parameters();
    return count;
  }

  std::vector<Transform> transforms() {
    std::vector<Transform> all;
    for (const Layer& layer : layers_)
      for (Transform& transform : layer.transforms(ctx_)) all.push_back(std::move(transform));
    return all;
  }

 private:
  const Network& base_;
  Context ctx_{/*threads=*/1};
  std::deque<Layer> layers_;  // which stay where they are: a layer refers to its own parameters
  std::vector<Matrix> x_;     // what each layer was given: (images, in)
};

/// Full finetuning: every weight and bias.
class FullNetwork {
 public:
  explicit FullNetwork(const Network& base) : network_(base), training_(network_) {}
  FullNetwork(const FullNetwork&) = delete;  // training_ refers to network_
  FullNetwork& operator=(const FullNetwork&) = delete;

  Matrix forward(const Matrix& images) { return training_.forward(images); }
  void step(const Matrix& grad_logits, float rate) { training_.step(grad_logits, rate); }
  Network merged() const { return network_; }
  Index parameter_count() const { return ::parameter_count(network_); }
  std::vector<Transform> transforms() const { return {}; }

 private:
  Network network_;
  FullTraining training_;
};

/// An adapter for every layer of `base`, from the authors' initialisation; as many blocks as asked
/// for, or the greatest common divisor of that and a side's width.
inline std::vector<ether::Adapter<float>> initial_adapters(const Network& base,
                                                           ether::AdapterConfig config,
                                                           std::uint64_t seed) {
  std::vector<ether::Adapter<float>> adapters;
  for (const Linear& linear : base) {
    const Index out = linear.weight.rows(), in = linear.weight.cols();
    ether::AdapterConfig fitting = config;
    fitting.input_blocks = std::gcd(config.input_blocks, in);
    fitting.output_blocks = std::gcd(config.output_blocks, out);
    adapters.push_back(
        ether::Adapter<float>::random(fitting, out, in, seed * 1000 + adapters.size()));
  }
  return adapters;
}

/// H of the adapted sides of one layer, with |H - I| = 2 s sqrt(n) for ETHER, <= s sqrt(2 n) for
/// ETHER+.
inline std::vector<Transform> transforms_of(const ether::Adapter<float>& adapter) {
  Context ctx(/*threads=*/1);
  const ether::PreparedAdapter<Backend> prepared(ctx, adapter);
  const bool exact = adapter.config().variant == ether::Variant::ether;
  std::vector<Transform> all;
  for (ether::Side side : {ether::Side::input, ether::Side::output}) {
    if (adapter.terms(side) == 0) continue;
    const Index width = adapter.width(side);
    const double blocks = static_cast<double>(adapter.blocks(side));
    Matrix h = Matrix::Identity(width, width);
    if (side == ether::Side::input)
      ether::reflect_input<Backend>(ctx, prepared, h, h);
    else
      ether::reflect_output<Backend>(ctx, prepared, h, h);
    all.push_back(
        {h, adapter.config().strength * std::sqrt(exact ? 4 * blocks : 2 * blocks), exact});
  }
  return all;
}

/// ETHER and ETHER+: the example's network.
class EtherNetwork : public AdaptedNetwork {
 public:
  EtherNetwork(const Network& base, const ether::AdapterConfig& config, std::uint64_t seed)
      : AdaptedNetwork(base, initial_adapters(base, config, seed)) {}

  std::vector<Transform> transforms() const {
    std::vector<Transform> all;
    for (const ether::Adapter<float>& adapter : adapters())
      for (Transform& transform : transforms_of(adapter)) all.push_back(std::move(transform));
    return all;
  }
};

}  // namespace claims
