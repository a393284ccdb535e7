#pragma once

/// What the tests of single kernels share: matrices in emulated memory at addresses of every kind,
/// a Reflection of any layout with its oracle in double, and the comparison of a result.

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

#include <ether/backends/cuda/kernels.cuh>

#include "cuda/emulator/support.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace test {

using ether::MatrixView;
using ether::Reflection;
using ether::detail::cuda::full_vector;
using ether::detail::cuda::Launch;
using ether::detail::cuda::Wide;

inline Launch device(int processors = 2, std::size_t shared_bytes = 99 << 10) {
  Launch where;
  where.processors = processors;
  where.shared_bytes = shared_bytes;
  return where;
}

/// How often launches run, for the length of a scope.
struct ScopedOrders {
  explicit ScopedOrders(int count) { emulator::set_orders(count); }
  ~ScopedOrders() { emulator::set_orders(3); }
  ScopedOrders(const ScopedOrders&) = delete;
  ScopedOrders& operator=(const ScopedOrders&) = delete;
};

/// Where a matrix lies: its first element `left` elements behind an address of 256 bytes, its rows
/// at a stride of `over` more than the next multiple of 16.
struct Place {
  const char* name;
  Index left, over;
};
inline constexpr Place vectors{"vectors", 16, 0}, pairs{"pairs", 2, 2};
inline constexpr Place odd_pointer{"odd pointer", 1, 0}, odd_stride{"odd stride", 16, 1};

/// A matrix of emulated memory whose surroundings hold NaN: what reads them spoils its result.
template <class T>
class Placed {
 public:
  Placed(Index rows, Index cols, const Place& place = vectors)
      : stride_((cols + 15) / 16 * 16 + 16 + place.over),
        memory_(static_cast<std::size_t>((rows + 1) * stride_ + 64)),
        view_(memory_.data() + place.left, rows, cols, stride_),
        before_(memory_.values()) {}
  Placed(const MatrixOf<T>& values, const Place& place = vectors)
      : Placed(values.rows(), values.cols(), place) {
    for (Index r = 0; r < view_.rows; ++r)
      for (Index c = 0; c < view_.cols; ++c) view_(r, c) = values(r, c);
    before_ = memory_.values();
  }

  MatrixView<T> view() const { return view_; }
  MatrixView<const T> read() const { return view_; }
  Matrix values() const { return to_double(view_); }
  MatrixOf<T> host() const {
    MatrixOf<T> m(view_.rows, view_.cols);
    for (Index r = 0; r < view_.rows; ++r)
      for (Index c = 0; c < view_.cols; ++c) m(r, c) = view_(r, c);
    return m;
  }
  /// Nothing at all has been written.
  bool untouched() const { return same(memory_.values(), before_); }
  /// Nothing has been written but the matrix.
  bool surround_untouched() const {
    std::vector<T> now = memory_.values();
    const Index left = view_.data - memory_.data();
    for (Index r = 0; r < view_.rows; ++r)
      std::copy_n(before_.begin() + left + r * stride_, view_.cols,
                  now.begin() + left + r * stride_);
    return same(now, before_);
  }

 private:
  static bool same(const std::vector<T>& a, const std::vector<T>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
  }

  Index stride_;
  emulator::Array<T> memory_;
  MatrixView<T> view_;
  std::vector<T> before_;
};

/// H with unit vectors and coefficients that differ from block to block. The oracle is of the values as W holds them.
template <class W>
struct TestReflection {
  Index terms, blocks, size;
  Placed<W> unit, coefficient, inverse_length;
  Matrix units, coefficients, inverse_lengths;  // the same in double
  Index first = 0, step = 0, period = 1;

  TestReflection(Index terms_, Index blocks_, Index size_, std::uint64_t seed,
                 const Place& place = vectors)
      : terms(terms_),
        blocks(blocks_),
        size(size_),
        unit(unit_vectors(terms, blocks, size, seed), place),
        coefficient(random_matrix<W>(terms, blocks, seed + 1), place),
        inverse_length(random_matrix<W>(terms, blocks, seed + 2), place),
        units(unit.values()),
        coefficients(coefficient.values()),
        inverse_lengths(inverse_length.values()) {}

  Index width() const { return blocks * size; }
  Index block(Index row, Index chunk) const { return (first + row * step + chunk) / period; }

  Reflection<W> view() const {
    Reflection<W> h;
    h.unit = unit.read();
    h.coefficient = coefficient.read();
    h.inverse_length = inverse_length.read();
    h.blocks = blocks;
    h.block_size = size;
    h.first = first, h.step = step, h.period = period;
    return h;
  }
  Eigen::RowVectorXd unit_of(Index k, Index b) const { return units.block(k, b * size, 1, size); }
  double coefficient_of(Index k, Index b) const { return coefficients(k, b); }

  /// in H, row by row.
  Matrix rows(const Matrix& in) const {
    Matrix out = in;
    for (Index r = 0; r < in.rows(); ++r)
      for (Index c = 0; c < blocks; ++c)
        for (Index k = 0; k < terms; ++k) {
          const Eigen::RowVectorXd w = unit_of(k, block(r, c));
          const double dot = in.row(r).segment(c * size, size).dot(w);
          out.row(r).segment(c * size, size) += coefficient_of(k, block(r, c)) * dot * w;
        }
    return out;
  }
  /// H in, diagonal layout.
  Matrix columns(const Matrix& in) const { return rows(in.transpose()).transpose(); }

  /// Bound of |H|_2, every product by absolute value.
  double norm() const {
    double n = 1;
    for (Index k = 0; k < terms; ++k) n += coefficients.cwiseAbs().maxCoeff();
    return n;
  }
  /// Roundings behind one element of a product with H.
  Index roundings() const { return terms * (2 * size + 8) + 4; }

 private:
  static MatrixOf<W> unit_vectors(Index rows, Index blocks, Index size, std::uint64_t seed) {
    Matrix m = random_matrix<double>(rows, blocks * size, seed);
    for (Index r = 0; r < rows; ++r)
      for (Index b = 0; b < blocks; ++b) m.row(r).segment(b * size, size).normalize();
    return m.cast<W>();
  }
};

template <class T>
Matrix rounded(const Matrix& m) {
  return m.cast<T>().template cast<double>();
}

/// How far rounding to T moves apart a matrix of this norm and one with an error of this norm: an
/// error d of an element moves its rounding by a step, at most 2 u |element|, with probability
/// d / step, so that the squares of the differences have the mean 2 u |error| |matrix|. 4 times
/// that is for the tail, and one step more for matrices of few elements.
template <class T>
double error_of_rounding(double error, const Matrix& m) {
  const double u = unit_roundoff<T>();
  return 2 * std::sqrt(2 * u * error * m.norm()) + 2 * u * m.cwiseAbs().maxCoeff();
}

/// "" where T holds the result `expected` of a computation in Wide<T>. Where T has fewer digits,
/// the expectation is rounded too, so that errors far below one rounding show.
template <class T>
std::string wrong(const Matrix& actual, const Matrix& expected, Index roundings, double magnitude) {
  const double before = tolerance<Wide<T>, Wide<T>>(roundings, magnitude, 0);
  if constexpr (std::is_same_v<T, Wide<T>>)
    return difference(actual, expected, before);
  else
    return difference(actual, rounded<T>(expected), error_of_rounding<T>(before, expected));
}

}  // namespace test
