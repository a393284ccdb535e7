#pragma once

/// One finetuning run, and what is measured after it.

#include "energy.hpp"
#include "trained_networks.hpp"

#include <limits>

namespace claims {

/// A shift of the digits' domain.
struct Task {
  std::string name;
  Digits training, validation, test;
};

/// Chance, in percent: what a run that ended in infinities or NaN is counted as.
constexpr double chance = 100.0 / class_count;

/// What came out of a run. Where it did not stay finite, accuracies are chance and the rest is NaN.
struct Outcome {
  bool finite = false;
  Index parameters = 0;
  double validation = chance, test = chance;  ///< accuracy, percent
  /// |H - I|, root of the sum of squares over all adapted sides, and its bound; NaN without H.
  double transform_distance = std::numeric_limits<double>::quiet_NaN();
  double transform_bound = std::numeric_limits<double>::quiet_NaN();
  double weight_distance = std::numeric_limits<double>::quiet_NaN();  ///< |W' - W| / |W|
  double energy = std::numeric_limits<double>::quiet_NaN();           ///< of W', hyperspherical
};

/// The same digits in another order. train() then shows them in an order that depends on the seed.
inline Digits shuffled(const Digits& digits, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Digits mixed = digits;
  for (std::size_t i = mixed.labels.size(); i > 1; --i) {
    const std::size_t k = generator() % i;
    mixed.images.row(static_cast<Index>(i - 1)).swap(mixed.images.row(static_cast<Index>(k)));
    std::swap(mixed.labels[i - 1], mixed.labels[k]);
  }
  return mixed;
}

struct Diverged {};

/// `Trained` as train() wants it, which throws Diverged at the first logit that is not finite.
template <class Trained>
class Watched {
 public:
  explicit Watched(Trained& trained) : trained_(trained) {}
  Matrix forward(const Matrix& images) {
    Matrix y = trained_.forward(images);
    if (!y.allFinite()) throw Diverged();
    return y;
  }
  void step(const Matrix& grad_logits, float rate) { trained_.step(grad_logits, rate); }

 private:
  Trained& trained_;
};

/// Overwrites the distances of `outcome`. Throws std::runtime_error where a bound is broken.
template <class Trained>
void measure_distances(const Network& base, Trained& trained, Outcome& outcome) {
  const Network merged = trained.merged();
  outcome.weight_distance = relative_change(base, merged);
  outcome.energy = hyperspherical_energy(merged);
  double distance = 0, bound = 0;
  for (const Transform& transform : trained.transforms()) {
    const double one = checked_distance(transform);
    distance += one * one, bound += transform.bound * transform.bound;
  }
  if (bound == 0) return;
  outcome.transform_distance = std::sqrt(distance);
  outcome.transform_bound = std::sqrt(bound);
}

/// Finetunes `trained`, which is made on `base`, with Adam at learning rate `rate`.
template <class Trained>
Outcome finetune(const Network& base, Trained& trained, const Task& task, int epochs, float rate,
                 std::uint64_t seed) {
  Outcome outcome;
  outcome.parameters = trained.parameter_count();
  try {
    Watched<Trained> watched(trained);
    train(watched, shuffled(task.training, seed), epochs, rate, [](double) {});
    const double validation =
        accuracy(watched.forward(task.validation.images), task.validation.labels);
    const double test = accuracy(watched.forward(task.test.images), task.test.labels);
    measure_distances(base, trained, outcome);
    outcome.validation = validation, outcome.test = test;
    outcome.finite = true;
  } catch (const Diverged&) {
  } catch (const ether::parameter_error&) {  // a block of an adapter that is not finite
  }
  return outcome;
}

}  // namespace claims
