#pragma once

/// A network with an adapter on every layer, and its training.

#include "network.hpp"

#include <ether/ether.hpp>

#include <numeric>

using Backend = ether::EigenBackend<float>;

/// As many blocks as asked for, or the most that divide both widths of a layer.
inline std::vector<ether::Adapter<float>> random_adapters(const Network& base,
                                                          ether::Variant variant,
                                                          ether::Index blocks) {
  std::vector<ether::Adapter<float>> adapters;
  for (const Linear& linear : base) {
    const Index out = linear.weight.rows(), in = linear.weight.cols();
    ether::AdapterConfig config;
    config.variant = variant;
    config.sides = ether::Sides::both;
    config.input_blocks = config.output_blocks = std::gcd(blocks, std::gcd(in, out));
    adapters.push_back(ether::Adapter<float>::random(config, out, in, /*seed=*/adapters.size()));
  }
  return adapters;
}

/// `base` with an adapter on both sides of every layer. Reads `base`, never writes it.
class AdaptedNetwork {
 public:
  AdaptedNetwork(const Network& base, const std::vector<ether::Adapter<float>>& adapters)
      : base_(base), x_(base.size()) {
    for (std::size_t l = 0; l < base.size(); ++l)
      layers_.push_back({adapters[l],
                         ether::Adapter<float>::zeros_like(adapters[l]),
                         {ctx_, base[l].weight, adapters[l], base[l].bias.data()},
                         Adam(adapters[l].size())});
  }
  AdaptedNetwork(const Network& base, ether::Variant variant, ether::Index blocks)
      : AdaptedNetwork(base, random_adapters(base, variant, blocks)) {}

  /// The logits, (images, classes).
  Matrix forward(const Matrix& images) {
    Matrix y = images;
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      x_[l] = l == 0 ? images : relu(y);
      y.resize(images.rows(), layers_[l].linear.out_features());
      layers_[l].linear.forward(ctx_, x_[l], y);
    }
    return y;
  }

  /// One step of Adam on every adapter, down the gradient at the images last given to forward.
  void step(const Matrix& grad_logits, float rate) {
    Matrix grad_y = grad_logits, grad_x;
    for (std::size_t l = layers_.size(); l-- > 0;) {
      auto& [adapter, grads, linear, optimizer] = layers_[l];
      grads.set_zero();                                                     // backward accumulates
      grad_x.resize(l == 0 ? 0 : x_[l].rows(), l == 0 ? 0 : x_[l].cols());  // empty: not wanted
      linear.backward(ctx_, x_[l], grad_y, grad_x, grads);
      if (l > 0) grad_y = relu_backward(grad_x, x_[l]);
      optimizer.step(adapter.data(), grads.data(), rate);
      linear.set_adapter(ctx_, adapter);
    }
  }

  std::vector<ether::Adapter<float>> adapters() const {
    std::vector<ether::Adapter<float>> adapters;
    for (const Layer& layer : layers_) adapters.push_back(layer.adapter);
    return adapters;
  }

  /// A plain network that computes the same: W' in place of every W.
  Network merged() {
    Network plain = base_;
    for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].linear.merge(ctx_, plain[l].weight);
    return plain;
  }

  Index parameter_count() const {
    Index count = 0;
    for (const Layer& layer : layers_) count += layer.adapter.size();
    return count;
  }

  /// |H - I| of one block: the root mean square over the blocks of all sides of all layers.
  double distance_to_identity() const {
    double squares = 0;
    Index blocks = 0;
    for (const Layer& layer : layers_)
      for (ether::Side side : {ether::Side::input, ether::Side::output}) {
        const double distance = ether::distance_to_identity(layer.adapter, side);
        squares += distance * distance;
        blocks += layer.adapter.blocks(side);
      }
    return std::sqrt(squares / static_cast<double>(blocks));
  }

 private:
  struct Layer {
    ether::Adapter<float> adapter, grads;
    ether::EtherLinear<Backend> linear;
    Adam optimizer;
  };
  const Network& base_;
  Backend::Context ctx_{/*threads=*/1};  // more gain little here, and lose on a busy machine
  std::vector<Layer> layers_;
  std::vector<Matrix> x_;  // what each layer was given: (images, in)
};
