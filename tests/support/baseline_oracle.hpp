#pragma once

/// What the baselines in bench/baselines are held against: their merged weights and gradients from
/// explicit dense matrices in double. The gradients here are held against differences themselves.

#include "compare.hpp"

#include <Eigen/Dense>

#include <functional>

namespace test {

/// dL/dt at 0 of L(t), by differences. L is smooth and of order 1 in t.
inline double slope(const std::function<double(double)>& loss) {
  const double t = 1e-4;
  return (8 * (loss(t) - loss(-t)) - (loss(2 * t) - loss(-2 * t))) / (12 * t);
}

inline double inner(const Matrix& a, const Matrix& b) { return a.cwiseProduct(b).sum(); }

/// H = diag(H_1, ..., H_n), H_i = (I + S_i)(I - S_i)^-1, S_i = (R_i - R_i^T) / 2; r (in, size).
struct OftOracle {
  Matrix r;

  Index size() const { return r.cols(); }
  Matrix skew(Index row) const {
    const Matrix block = r.middleRows(row, size());
    return (block - block.transpose()) / 2;
  }
  static Matrix eye(Index n) { return Matrix::Identity(n, n); }

  Matrix h() const {
    Matrix h = Matrix::Zero(r.rows(), r.rows());
    for (Index row = 0; row < r.rows(); row += size())
      h.block(row, row, size(), size()) =
          (eye(size()) + skew(row)) * (eye(size()) - skew(row)).inverse();
    return h;
  }

  /// dL/dR from c = dL/dH, through dH = (I + H) dS (I - S)^-1.
  Matrix gradient(const Matrix& c) const {
    Matrix grads(r.rows(), size());
    const Matrix all = h();
    for (Index row = 0; row < r.rows(); row += size()) {
      const Matrix inverse = (eye(size()) - skew(row)).inverse();
      const Matrix d = (eye(size()) + all.block(row, row, size(), size())).transpose() *
                       c.block(row, row, size(), size()) * inverse.transpose();
      grads.middleRows(row, size()) = (d - d.transpose()) / 2;
    }
    return grads;
  }

  /// The largest |I - S_i| in the Frobenius norm, a bound of its condition number.
  double condition() const {
    double most = 0;
    for (Index row = 0; row < r.rows(); row += size())
      most = std::max(most, (eye(size()) - skew(row)).norm());
    return most;
  }
};

/// H = H_1 ... H_r, H_k = I - 2 û_k û_k^T; u (r, in).
struct HraOracle {
  Matrix u;

  Matrix factors(Index first, Index end) const {
    Matrix h = Matrix::Identity(u.cols(), u.cols());
    for (Index k = first; k < end; ++k) {
      const Eigen::RowVectorXd unit = u.row(k).normalized();
      h -= 2 * (h * unit.transpose()) * unit;
    }
    return h;
  }
  Matrix h() const { return factors(0, u.rows()); }

  /// dL/du from c = dL/dH.
  Matrix gradient(const Matrix& c) const {
    Matrix grads(u.rows(), u.cols());
    for (Index k = 0; k < u.rows(); ++k) {
      const Matrix left = factors(0, k), right = factors(k + 1, u.rows());  // H = left H_k right
      const Eigen::RowVectorXd unit = u.row(k).normalized();
      const Eigen::RowVectorXd g =  // -2 û (d + d^T), d = dL/dH_k = left^T c right^T
          -2 *
          (unit * left.transpose() * c * right.transpose() + unit * right * c.transpose() * left);
      grads.row(k) = (g - g.dot(unit) * unit) / u.row(k).norm();
    }
    return grads;
  }
};

}  // namespace test
