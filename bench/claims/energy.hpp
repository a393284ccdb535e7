#pragma once

/// Hyperspherical energy (Liu et al., arXiv 1805.09298; OFT, arXiv 2306.07280, with s = 1).

#include "../../examples/finetune_digits/network.hpp"

namespace claims {

/// sum over i != j of 1 / |ŵ_i - ŵ_j|, ŵ_i the normalised rows of `weight` (out, in): its neurons.
/// Every pair counts twice. Infinite where two rows have one direction, NaN where a row is zero.
inline double hyperspherical_energy(const Matrix& weight) {
  const Eigen::MatrixXd neurons = weight.cast<double>().rowwise().normalized().transpose();
  double energy = 0;
  for (Index i = 1; i < neurons.cols(); ++i)
    energy +=
        (neurons.leftCols(i).colwise() - neurons.col(i)).colwise().norm().cwiseInverse().sum();
  return 2 * energy;
}

/// The sum over all layers.
inline double hyperspherical_energy(const Network& network) {
  double energy = 0;
  for (const Linear& layer : network) energy += hyperspherical_energy(layer.weight);
  return energy;
}

}  // namespace claims
