#pragma once

/// Comparison against a float64 reference, with tolerances derived from norms.

#include <ether/matrix_view.hpp>

#include <Eigen/Core>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

namespace test {

using ether::Index;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using MatrixOf = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
Matrix to_double(const MatrixOf<T>& m) {
  return m.template cast<double>();
}
template <class T>
Matrix to_double(ether::MatrixView<T> view) {
  Matrix m(view.rows, view.cols);
  for (Index r = 0; r < view.rows; ++r)
    for (Index c = 0; c < view.cols; ++c) m(r, c) = static_cast<double>(view(r, c));
  return m;
}

/// Largest relative error of one rounding to T, to nearest: half the distance from 1 to the next T.
/// (Eigen 3.4's NumTraits<half>::epsilon() is an eighth of it.)
template <class T>
double unit_roundoff() {
  static_assert(std::numeric_limits<T>::is_specialized, "else digits is 0 and nothing can fail");
  return std::ldexp(1.0, -std::numeric_limits<T>::digits);
}

/// Empty where |actual - expected| <= tolerance in the Frobenius norm, else a sentence that says
/// what is wrong. Never true for NaN: the comparison is written as !(error <= tolerance).
std::string difference(const Matrix& actual, const Matrix& expected, double tolerance);

/// Empty where two arrays have the same bits.
template <class T>
std::string bit_difference(ether::MatrixView<const T> a, ether::MatrixView<const T> b) {
  if (a.rows != b.rows || a.cols != b.cols) return "shapes differ";
  for (Index r = 0; r < a.rows; ++r)
    for (Index c = 0; c < a.cols; ++c)
      if (std::memcmp(&a(r, c), &b(r, c), sizeof(T)) != 0)
        return "bits differ at (" + std::to_string(r) + ", " + std::to_string(c) + ")";
  return {};
}

/// Error of a computation in Compute whose result is rounded once to Result:
///     |error|_F <= 4 sqrt(roundings) u(Compute) magnitude + u(Result) |result|_F
/// where `roundings` bounds the operations behind one element and `magnitude` the Frobenius norm of
/// the result with every product taken by absolute value. Roundings to nearest behave as independent
/// and of mean 0, so their sum grows with the square root of their number (Higham and Mary, SIAM J.
/// Sci. Comput. 41(5), 2019); 4 is for the tail.
template <class Compute, class Result>
double tolerance(Index roundings, double magnitude, double result_norm) {
  const double once = std::is_same_v<Compute, Result> ? 0 : unit_roundoff<Result>() * result_norm;
  const double count = static_cast<double>(roundings);
  return 4 * std::sqrt(count) * unit_roundoff<Compute>() * magnitude + once +
         count * std::numeric_limits<double>::min();
}

/// The type that Backend's product rounds what it multiplies to; specialise it where that is not its
/// Intermediate.
template <class Backend>
struct ProductOperand {
  using type = typename Backend::Intermediate;
};

/// The same for a layer of Backend, computed in its Parameter type: where its products' operands or
/// its Intermediate hold fewer digits, z = x H_in and s = z W^T are each rounded on the way, an error
/// of at most one unit roundoff of the magnitude each.
template <class Backend, class Result = typename Backend::Scalar>
double layer_tolerance(Index roundings, double magnitude, double result_norm) {
  using Operand = typename ProductOperand<Backend>::type;
  using Parameter = typename Backend::Parameter;
  const bool rounds = !std::is_same_v<Operand, Parameter>;
  return tolerance<Parameter, Result>(roundings, magnitude, result_norm) +
         (rounds ? 2 * unit_roundoff<Operand>() * magnitude : 0);
}

}  // namespace test
