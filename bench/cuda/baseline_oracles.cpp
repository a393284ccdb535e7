#include "baseline_oracles.hpp"

#include <Eigen/LU>

namespace bench {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<Matrix>;
using ConstRows = Eigen::Map<const Matrix>;

Index length(const std::vector<double>& values) { return static_cast<Index>(values.size()); }

}  // namespace

RowOracle lora_oracle(std::vector<double> a, std::vector<double> b, Index rank) {
  RowOracle oracle;
  oracle.behind = [a = std::move(a), b = std::move(b), rank](const std::vector<double>& x,
                                                             std::vector<double>& y) {
    const Index in = length(a) / rank, out = length(b) / rank, rows = length(x) / in;
    const Matrix t = ConstRows(x.data(), rows, in) * ConstRows(a.data(), rank, in).transpose();
    Rows(y.data(), rows, out) += t * ConstRows(b.data(), out, rank).transpose();
  };
  return oracle;
}

RowOracle oft_oracle(std::vector<double> r, Index size) {
  RowOracle oracle;
  oracle.before = [r = std::move(r), size](std::vector<double>& x) {
    const Index in = length(r) / size, rows = length(x) / in;
    const Matrix eye = Matrix::Identity(size, size);
    for (Index first = 0; first < in; first += size) {
      const ConstRows block(r.data() + first * size, size, size);
      const Matrix skew = (block - block.transpose()) / 2;
      auto columns = Rows(x.data(), rows, in).middleCols(first, size);
      // z (I - S) = x (I + S), and S^T = -S:   (I + S) z^T = (I - S) x^T
      const Matrix right = (eye - skew) * columns.transpose();
      columns = (eye + skew).partialPivLu().solve(right).transpose();
    }
  };
  return oracle;
}

RowOracle hra_oracle(std::vector<double> u, Index rank) {
  RowOracle oracle;
  oracle.before = [u = std::move(u), rank](std::vector<double>& x) {
    const Index in = length(u) / rank;
    Rows rows(x.data(), length(x) / in, in);
    for (Index k = rank - 1; k >= 0; --k) {
      const auto vector = ConstRows(u.data(), rank, in).row(k);
      const Eigen::VectorXd dots = rows * vector.transpose() * (2 / vector.squaredNorm());
      rows -= dots * vector;
    }
  };
  return oracle;
}

}  // namespace bench
