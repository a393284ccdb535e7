// What the paper says of the transforms, seen through the library: merging W = I shows H itself.

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

namespace {

using ether::AdapterConfig;
using ether::Index;
using ether::Side;
using ether::Sides;
using ether::Variant;
using test::difference;
using test::Matrix;
using Backend = ether::EigenBackend<double>;

AdapterConfig one_side(Variant variant, Side side, Index blocks) {
  AdapterConfig config;
  config.variant = variant;
  config.sides = side == Side::input ? Sides::input : Sides::output;
  config.input_blocks = config.output_blocks = blocks;
  return config;
}

Matrix merged(const ether::Adapter<double>& adapter, const Matrix& w) {
  ether::EigenContext ctx;
  Matrix result(w.rows(), w.cols());
  ether::EtherLinear<Backend>(ctx, w, adapter).merge(ctx, result);
  return result;
}

Matrix transform_of(const ether::Adapter<double>& adapter) {
  const Index d = adapter.in_features();
  return merged(adapter, Matrix::Identity(d, d));
}

constexpr Index width = 24;
const Index block_counts[] = {1, 2, 3, 8, 24};
const double u = test::unit_roundoff<double>();

}  // namespace

TEST_CASE("an ETHER block is a reflection") {
  for (Side side : {Side::input, Side::output})
    for (Index n : block_counts) {
      INFO(to_string(side) << ", " << n << " blocks");
      const auto adapter =
          test::random_adapter<double>(one_side(Variant::ether, side, n), width, width, 5);
      const Matrix h = transform_of(adapter), identity = Matrix::Identity(width, width);
      const double tolerance = 100 * u * width;
      CHECK(difference(h, h.transpose(), tolerance) == "");  // symmetric
      CHECK(difference(h * h, identity, tolerance) == "");   // an involution, so orthogonal
      const Index size = width / n;
      for (Index b = 0; b < n; ++b) {
        const Matrix block = h.block(b * size, b * size, size, size);
        CHECK(block.determinant() == Approx(-1));
        CHECK((block - Matrix::Identity(size, size)).norm() == Approx(2));  // exactly 2
      }
      CHECK((h - identity).norm() == Approx(2 * std::sqrt(double(n))));
      CHECK(ether::distance_to_identity(adapter, side) == Approx(2 * std::sqrt(double(n))));
    }
}

TEST_CASE("an ETHER+ block stays within sqrt(2) of the identity") {
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    for (Index n : block_counts) {
      const auto adapter = test::random_adapter<double>(
          one_side(Variant::ether_plus, Side::input, n), width, width, seed);
      const Matrix h = transform_of(adapter);
      CHECK(difference(h, h.transpose(), 100 * u * width) == "");
      const Index size = width / n;
      double sum = 0;
      for (Index b = 0; b < n; ++b) {
        const Matrix block = h.block(b * size, b * size, size, size);
        const double distance = (block - Matrix::Identity(size, size)).norm();
        CHECK(distance <= std::sqrt(2.0) + 100 * u);
        const auto w = adapter.parameters(Side::input);
        const double c = ether::block_angle(w.row(0) + b * size, w.row(1) + b * size, size).cosine;
        CHECK(distance == Approx(std::sqrt(2 * (1 - c * c))).margin(1e-7));
        sum += distance * distance;

        // Eigenvalues 1 -+ sqrt(1 - c^2), condition number their ratio.
        const Eigen::SelfAdjointEigenSolver<Matrix> solver(block);
        const auto values = ether::eigenvalues(
            Variant::ether_plus, 1,
            ether::block_angle(w.row(0) + b * size, w.row(1) + b * size, size).sine);
        CHECK(solver.eigenvalues().minCoeff() == Approx(values[0]).margin(1e-12));
        CHECK(solver.eigenvalues().maxCoeff() == Approx(values[1]).margin(1e-12));
      }
      CHECK(ether::distance_to_identity(adapter, Side::input) ==
            Approx(std::sqrt(sum)).margin(1e-7));
    }
}

TEST_CASE("ETHER+ is the identity at v = u and v = -u") {
  for (double sign : {1.0, -1.0}) {
    auto adapter = test::random_adapter<double>(one_side(Variant::ether_plus, Side::output, 3),
                                                width, width, 8);
    const auto w = adapter.parameters(Side::output);
    for (Index i = 0; i < w.cols; ++i) w(1, i) = sign * 3.5 * w(0, i);
    CHECK(difference(transform_of(adapter), Matrix::Identity(width, width), 100 * u) == "");
    CHECK(ether::distance_to_identity(adapter, Side::output) < 1e-14);
  }
}

TEST_CASE("the authors' initialisation") {
  AdapterConfig config = one_side(Variant::ether_plus, Side::input, 4);
  config.sides = Sides::both;
  const auto adapter = ether::Adapter<double>::random(config, 40, 24, 7);
  CHECK(ether::distance_to_identity(adapter, Side::input) == 0);  // v = -u
  CHECK(ether::distance_to_identity(adapter, Side::output) == 0);
  const double bound = 1 / std::sqrt(24.0 / 4);  // Kaiming-uniform, a = sqrt(5)
  double largest = 0;
  for (Index i = 0; i < 24; ++i) largest = std::max(largest, std::abs(adapter.input_u().data[i]));
  CHECK(largest <= bound);
  CHECK(largest > 0.7 * bound);
  const auto again = ether::Adapter<double>::random(config, 40, 24, 7);
  CHECK(std::equal(adapter.data(), adapter.data() + adapter.size(), again.data()));
  const auto other = ether::Adapter<double>::random(config, 40, 24, 8);
  CHECK_FALSE(std::equal(adapter.data(), adapter.data() + adapter.size(), other.data()));
  CHECK(adapter.size() == 2 * (40 + 24));  // 2 (in + out) parameters
}

namespace {

/// ETHER+ on both sides of a weight, of a shape whose backward regroups without s, with what backward takes and what it writes.
struct BackwardCase {
  ether::EigenContext ctx;
  ether::Adapter<double> adapter = test::random_adapter<double>(both_sides(), 60, width, 3);
  Matrix w = test::random_matrix<double>(60, width, 4);
  Matrix x = test::random_matrix<double>(100, width, 5);
  Matrix g = test::random_matrix<double>(100, 60, 6);
  Matrix grad_x = Matrix(100, width);
  ether::Adapter<double> grads = ether::Adapter<double>::zeros_like(adapter);
  ether::EtherLinear<Backend> layer{ctx, w, adapter};

  static AdapterConfig both_sides() {
    AdapterConfig config = one_side(Variant::ether_plus, Side::input, 3);
    config.sides = Sides::both;
    return config;
  }
};

}  // namespace

TEST_CASE("backward takes the s that it is given") {
  BackwardCase c;
  const Matrix zero = Matrix::Zero(100, 60);
  c.layer.backward(c.ctx, {c.x, c.g, c.grad_x, zero}, c.grads);
  CHECK(test::to_double(c.grads.output_u()).norm() == 0);  // each summand has a factor s
  CHECK(test::to_double(c.grads.output_v()).norm() == 0);
  CHECK(test::to_double(c.grads.input_u()).norm() > 1);
}

TEST_CASE("gradients are orthogonal to the raw vectors") {
  BackwardCase c;
  c.layer.backward(c.ctx, c.x, c.g, {}, c.grads);
  for (Side side : {Side::input, Side::output}) {
    const Index size = c.adapter.block_size(side);
    for (Index k = 0; k < 2; ++k)
      for (Index b = 0; b < 3; ++b) {
        const Eigen::Map<const Eigen::VectorXd> raw(c.adapter.parameters(side).row(k) + b * size,
                                                    size);
        const Eigen::Map<const Eigen::VectorXd> grad(c.grads.parameters(side).row(k) + b * size,
                                                     size);
        CHECK(grad.norm() > 1);
        CHECK(std::abs(raw.dot(grad)) <= 1000 * u * raw.norm() * grad.norm());
      }
  }
}

TEST_CASE("forward of the merged weight is forward of the layer") {
  for (Variant variant : {Variant::ether, Variant::ether_plus}) {
    AdapterConfig config = one_side(variant, Side::input, 6);
    config.sides = Sides::both;
    config.output_blocks = 5;
    const auto adapter = test::random_adapter<double>(config, 30, 24, 3);
    const Matrix w = test::random_matrix<double>(30, 24, 4),
                 x = test::random_matrix<double>(9, 24, 5);
    ether::EigenContext ctx;
    Matrix y(9, 30);
    ether::EtherLinear<Backend>(ctx, w, adapter).forward(ctx, x, y);
    CHECK(difference(y, x * merged(adapter, w).transpose(), 1000 * u * x.norm() * w.norm()) == "");
  }
}

TEST_CASE("an input-side ETHER merge with one block keeps the hyperspherical energy") {
  // Sum over pairs of neurons (rows) of 1 / |ŵ_i - ŵ_j| (paper, section 3.1).
  const auto energy = [](const Matrix& w) {
    const Matrix unit = w.rowwise().normalized();
    double sum = 0;
    for (Index i = 0; i < w.rows(); ++i)
      for (Index j = 0; j < i; ++j) sum += 1 / (unit.row(i) - unit.row(j)).norm();
    return sum;
  };
  const Matrix w = test::random_matrix<double>(30, 24, 4);
  const auto one =
      test::random_adapter<double>(one_side(Variant::ether, Side::input, 1), 30, 24, 3);
  CHECK(energy(merged(one, w)) == Approx(energy(w)).epsilon(1e-13));
  // Control: ETHER+ is not orthogonal and changes it.
  const auto plus =
      test::random_adapter<double>(one_side(Variant::ether_plus, Side::input, 1), 30, 24, 3);
  CHECK(std::abs(energy(merged(plus, w)) / energy(w) - 1) > 1e-6);
}
