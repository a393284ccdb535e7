#pragma once

/// How far a transform is from the identity and a network from where it started, and the bounds
/// that theory gives.

#include "../../examples/finetune_digits/network.hpp"

#include <sstream>
#include <stdexcept>

namespace claims {

/// One side's H of one layer, as a dense matrix that came from applying it to the identity.
struct Transform {
  Matrix h;            ///< (width, width)
  double bound;        ///< of |H - I|, Frobenius, from the number of blocks, reflections or columns
  bool exact = false;  ///< |H - I| equals the bound
};

inline double distance_to_identity(const Matrix& h) {
  return (h.cast<double>() - Eigen::MatrixXd::Identity(h.rows(), h.cols())).norm();
}

/// |H - I|. Throws std::runtime_error where it breaks its bound by more than float's rounding can:
/// each of the elements of H has an error of some 1e-7 of a row's length, which is at most 2.
inline double checked_distance(const Transform& transform) {
  const double distance = distance_to_identity(transform.h), bound = transform.bound;
  constexpr double tolerance = 1e-4;
  const double low = transform.exact ? bound * (1 - tolerance) : 0;
  if (!(low <= distance && distance <= bound * (1 + tolerance))) {
    std::ostringstream text;
    text << "|H - I| of a side of width " << transform.h.rows() << " is " << distance
         << " but must be " << (transform.exact ? "" : "at most ") << bound
         << ": the transform is not what it claims";
    throw std::runtime_error(text.str());
  }
  return distance;
}

/// |W' - W| / |W| over all layers, Frobenius.
inline double relative_change(const Network& from, const Network& to) {
  double change = 0, size = 0;
  for (std::size_t l = 0; l < from.size(); ++l) {
    change += (to[l].weight - from[l].weight).cast<double>().squaredNorm();
    size += from[l].weight.cast<double>().squaredNorm();
  }
  return std::sqrt(change / size);
}

}  // namespace claims
