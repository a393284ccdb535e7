#pragma once

/// A small multilayer network on plain Eigen, and its training. Nothing of ether in here.

#include "digits.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

/// y = x W^T + b: weight (out, in), as torch.nn.Linear stores it; bias (1, out).
struct Linear {
  Matrix weight;
  Matrix bias;
};

/// Linear layers with a ReLU between them.
using Network = std::vector<Linear>;

/// Kaiming-uniform weights, zero biases.
inline Network random_network(const std::vector<int>& widths, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Network network;
  for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
    const int in = widths[l], out = widths[l + 1];
    network.push_back({Matrix(out, in), Matrix::Zero(1, out)});
    const float bound = std::sqrt(6 / static_cast<float>(in));
    Matrix& weight = network.back().weight;
    for (Index i = 0; i < weight.size(); ++i) weight.data()[i] = bound * uniform(generator);
  }
  return network;
}

inline Index parameter_count(const Network& network) {
  Index count = 0;
  for (const Linear& layer : network) count += layer.weight.size() + layer.bias.size();
  return count;
}

inline Matrix relu(const Matrix& y) { return y.cwiseMax(0.0f); }

/// The logits, (images, classes). Where `inputs` is given, inputs[l] becomes what layer l was
/// given.
inline Matrix logits(const Network& network, const Matrix& images,
                     std::vector<Matrix>* inputs = nullptr) {
  Matrix x = images, y;
  for (std::size_t l = 0; l < network.size(); ++l) {
    if (l > 0) x = relu(y);
    if (inputs != nullptr) (*inputs)[l] = x;
    y = x * network[l].weight.transpose();
    y.rowwise() += network[l].bias.row(0);
  }
  return y;
}

/// dL/dy from dL/d(relu(y)) and relu(y) itself.
inline Matrix relu_backward(const Matrix& grad, const Matrix& activation) {
  return grad.cwiseProduct(activation.cwiseSign());
}

/// Percent of the rows whose largest logit is the label's.
inline double accuracy(const Matrix& logits, const std::vector<int>& labels) {
  int correct = 0;
  for (Index i = 0, best = 0; i < logits.rows(); ++i) {
    logits.row(i).maxCoeff(&best);
    correct += best == labels[static_cast<std::size_t>(i)];
  }
  return 100.0 * correct / static_cast<double>(logits.rows());
}

/// d(mean softmax cross-entropy) / d(logits), (images, classes).
inline Matrix loss_gradient(const Matrix& logits, const std::vector<int>& labels) {
  Matrix grad = logits;
  for (Index i = 0; i < grad.rows(); ++i) {
    grad.row(i) = (grad.row(i).array() - logits.row(i).maxCoeff()).exp();
    grad.row(i) /= grad.row(i).sum();
    grad(i, labels[static_cast<std::size_t>(i)]) -= 1;
  }
  return grad / static_cast<float>(grad.rows());
}

/// Adam (Kingma and Ba, 2015) on one array of parameters.
class Adam {
 public:
  explicit Adam(Index size) : mean_(Array::Zero(size)), square_(Array::Zero(size)) {}

  void step(float* values, const float* grads, float rate) {
    const Eigen::Map<const Array> g(grads, mean_.size());
    mean_ += 0.1f * (g - mean_);
    square_ += 0.001f * (g.square() - square_);
    mean_decay_ *= 0.9f, square_decay_ *= 0.999f;
    const Array change =
        rate / (1 - mean_decay_) * mean_ / ((square_ / (1 - square_decay_)).sqrt() + 1e-8f);
    Eigen::Map<Array>(values, change.size()) -= change;
  }

 private:
  using Array = Eigen::ArrayXf;
  Array mean_, square_;
  float mean_decay_ = 1, square_decay_ = 1;
};

/// Trains every weight and bias of `network`, in place.
class FullTraining {
 public:
  explicit FullTraining(Network& network) : network_(network), x_(network.size()) {
    for (const Linear& layer : network)
      optimizers_.push_back({Adam(layer.weight.size()), Adam(layer.bias.size())});
  }

  /// The logits, (images, classes).
  Matrix forward(const Matrix& images) { return logits(network_, images, &x_); }

  /// One step of Adam down the gradient at the images last given to forward.
  void step(const Matrix& grad_logits, float rate) {
    Matrix grad_y = grad_logits;
    for (std::size_t l = network_.size(); l-- > 0;) {
      auto& [weight, bias] = network_[l];
      const Matrix grad_weight = grad_y.transpose() * x_[l];
      const Matrix grad_bias = grad_y.colwise().sum();
      if (l > 0) grad_y = relu_backward(grad_y * weight, x_[l]);
      optimizers_[l].first.step(weight.data(), grad_weight.data(), rate);
      optimizers_[l].second.step(bias.data(), grad_bias.data(), rate);
    }
  }

 private:
  Network& network_;
  std::vector<Matrix> x_;  // what each layer was given: (images, in)
  std::vector<std::pair<Adam, Adam>> optimizers_;
};

/// Shows the training `digits` in batches of 32, `epochs` times, in random order; the rate falls to
/// zero along a cosine. `Training` has forward and step, as FullTraining. `progress` gets 0 to 1.
template <class Training>
void train(Training& training, const Digits& digits, int epochs, float rate,
           const std::function<void(double)>& progress) {
  constexpr Index batch = 32;
  std::mt19937_64 generator(1);
  std::vector<std::size_t> order(digits.labels.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const Index steps = epochs * ((digits.count() + batch - 1) / batch);

  for (Index epoch = 0, step = 0; epoch < epochs; ++epoch) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[generator() % i]);
    auto next = order.begin();
    while (next != order.end()) {
      Matrix images(std::min<Index>(batch, order.end() - next), pixel_count);
      std::vector<int> labels;
      for (Index i = 0; i < images.rows(); ++i, ++next) {
        images.row(i) = digits.images.row(static_cast<Index>(*next));
        labels.push_back(digits.labels[*next]);
      }
      const double done = static_cast<double>(step++) / static_cast<double>(steps);
      const double falling = (1 + std::cos(3.14159265 * done)) / 2;
      training.step(loss_gradient(training.forward(images), labels),
                    rate * static_cast<float>(falling));
      progress(done);
    }
  }
}
