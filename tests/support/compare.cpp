#include "compare.hpp"

namespace test {

std::string difference(const Matrix& actual, const Matrix& expected, double tolerance) {
  if (actual.rows() != expected.rows() || actual.cols() != expected.cols())
    return "shape (" + std::to_string(actual.rows()) + ", " + std::to_string(actual.cols()) +
           ") instead of (" + std::to_string(expected.rows()) + ", " +
           std::to_string(expected.cols()) + ")";
  const double error = (actual - expected).norm();
  if (!(error <= tolerance))
    return "error " + std::to_string(error / expected.norm()) + " of the norm " +
           std::to_string(expected.norm()) + ", above the tolerance " +
           std::to_string(tolerance / expected.norm());
  return {};
}

}  // namespace test
