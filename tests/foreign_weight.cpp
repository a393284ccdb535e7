// EtherLinear over a product that is not ours.

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

namespace {

using ether::EigenContext;
using ether::Index;
using ether::MatrixView;
using test::Matrix;

/// W = diag(scale) B, held apart; multiplies in double.
template <class P>
struct ScaledWeight {
  const Matrix* b;
  const Eigen::VectorXd* scale;
  Index first = 0, count;

  ScaledWeight(const Matrix& b_, const Eigen::VectorXd& s) : b(&b_), scale(&s), count(b_.rows()) {}
  Matrix dense_double() const {
    return scale->segment(first, count).asDiagonal() * b->middleRows(first, count);
  }
  Index out_features() const { return count; }
  Index in_features() const { return b->cols(); }
  void multiply(EigenContext&, MatrixView<const P> z, MatrixView<P> s) const {
    store(test::to_double(z) * dense_double().transpose(), s);
  }
  void multiply_transposed(EigenContext&, MatrixView<const P> grad_s, MatrixView<P> grad_z) const {
    store(test::to_double(grad_s) * dense_double(), grad_z);
  }
  static void store(const Matrix& m, MatrixView<P> to) {
    for (Index r = 0; r < to.rows; ++r)
      for (Index c = 0; c < to.cols; ++c) to(r, c) = static_cast<P>(m(r, c));
  }
};

template <class P>
struct SlicedWeight : ScaledWeight<P> {
  using ScaledWeight<P>::ScaledWeight;
  SlicedWeight slice_rows(Index from, Index rows) const {
    SlicedWeight slice = *this;
    slice.first += from;
    slice.count = rows;
    return slice;
  }
};

template <class T, template <class> class Weight>
void check_foreign(ether::BlockLayout layout) {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;
  using Foreign = Weight<typename Backend::Intermediate>;
  for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
    for (auto sides : {ether::Sides::input, ether::Sides::output, ether::Sides::both})
      for (Index tokens : {1, 70}) {
        ether::AdapterConfig config;
        config.variant = variant;
        config.sides = sides;
        config.layout = layout;
        config.input_blocks = 4;
        config.output_blocks = 3;
        const Matrix b = test::random_matrix<double>(33, 28, 1);
        const Eigen::VectorXd scale = test::random_matrix<double>(33, 1, 2);
        const auto adapter = test::random_adapter<P>(config, 33, 28, 3);
        const auto x = test::random_matrix<T>(tokens, 28, 4),
                   g = test::random_matrix<T>(tokens, 33, 5);
        EigenContext ctx;
        const Foreign weight(b, scale);
        const ether::EtherLinear<Backend, Foreign> layer(ctx, weight, adapter);
        test::MatrixOf<T> y(tokens, 33), grad_x(tokens, 28);
        auto grads = ether::Adapter<P>::zeros_like(adapter);
        layer.forward(ctx, x, y);
        layer.backward(ctx, x, g, grad_x, grads);

        const test::Oracle oracle(adapter, weight.dense_double());
        const Matrix xd = test::to_double(x), gd = test::to_double(g);
        const auto close = [&](const Matrix& a, const Matrix& e, double magnitude, bool rounded) {
          const double once = rounded ? test::unit_roundoff<T>() * e.norm() : 0;
          return test::difference(a, e, 600 * test::unit_roundoff<P>() * magnitude + once);
        };
        const double w = 9 * oracle.weight.norm();
        CHECK(close(test::to_double(y), oracle.forward(xd, {}), xd.norm() * w, true) == "");
        CHECK(close(test::to_double(grad_x), oracle.grad_x(gd), gd.norm() * w, true) == "");
        const double scale_of_grads = 8 * xd.norm() * gd.norm() * w;
        CHECK(close(test::to_double(grads.parameters(ether::Side::input)),
                    oracle.grad_input(xd, gd), scale_of_grads, false) == "");
        CHECK(close(test::to_double(grads.parameters(ether::Side::output)),
                    oracle.grad_output(xd, gd), scale_of_grads, false) == "");
      }
}

}  // namespace

TEST_CASE("a foreign weight gives the dense layer's results") {
  check_foreign<float, ScaledWeight>(ether::BlockLayout::diagonal);
  check_foreign<double, ScaledWeight>(ether::BlockLayout::diagonal);
  check_foreign<Eigen::bfloat16, ScaledWeight>(ether::BlockLayout::diagonal);
}

TEST_CASE("a foreign weight that can be sliced supports row_chunk") {
  check_foreign<float, SlicedWeight>(ether::BlockLayout::row_chunk);
  check_foreign<Eigen::bfloat16, SlicedWeight>(ether::BlockLayout::row_chunk);
}

TEST_CASE("backward uses the Weight's own product, also where it has a dense view") {
  struct Counting : ScaledWeight<float> {
    Counting(const Matrix& b_, const Eigen::VectorXd& s, const test::MatrixOf<float>& w_, int* c)
        : ScaledWeight<float>(b_, s), w(&w_), calls(c) {}
    void multiply(EigenContext& ctx, MatrixView<const float> z, MatrixView<float> s) const {
      ++*calls;
      ScaledWeight<float>::multiply(ctx, z, s);
    }
    void multiply_transposed(EigenContext& ctx, MatrixView<const float> g,
                             MatrixView<float> z) const {
      ++*calls;
      ScaledWeight<float>::multiply_transposed(ctx, g, z);
    }
    MatrixView<const float> dense() const { return *w; }
    const test::MatrixOf<float>* w;
    int* calls;
  };
  ether::AdapterConfig config;
  config.sides = ether::Sides::both;
  const Matrix b = test::random_matrix<double>(64, 32, 1);
  const test::MatrixOf<float> dense = b.cast<float>();
  const Eigen::VectorXd scale = Eigen::VectorXd::Ones(64);
  const auto adapter = test::random_adapter<float>(config, 64, 32, 3);
  const auto x = test::random_matrix<float>(100, 32, 4), g = test::random_matrix<float>(100, 64, 5);
  EigenContext ctx;
  int calls = 0;
  using Layer = ether::EtherLinear<ether::EigenBackend<float>, Counting>;
  const Layer layer(ctx, Counting(b, scale, dense, &calls), adapter);
  test::MatrixOf<float> grad_x(100, 32), merged(64, 32);
  auto grads = ether::Adapter<float>::zeros_like(adapter);
  layer.backward(ctx, x, g, grad_x, grads);
  CHECK(calls == 2);  // grad_s W, and z W^T for the output side's gradients
  test::MatrixOf<float> y(100, 64), kept(100, 64);
  layer.forward(ctx, x, y, kept);
  calls = 0;
  layer.backward(ctx, {x, g, grad_x, kept}, grads);
  CHECK(calls == 1);  // z W^T was kept
  layer.merge(ctx, merged);
  CHECK(test::difference(test::to_double(merged),
                         test::Oracle(adapter, test::to_double(dense)).merged(),
                         1e-5 * dense.norm()) == "");
}

TEST_CASE("a foreign weight that cannot be sliced refuses row_chunk") {
  ether::AdapterConfig config;
  config.layout = ether::BlockLayout::row_chunk;
  config.input_blocks = 4;
  const Matrix b = test::random_matrix<double>(33, 28, 1);
  const Eigen::VectorXd scale = Eigen::VectorXd::Ones(33);
  EigenContext ctx;
  using Layer = ether::EtherLinear<ether::EigenBackend<float>, ScaledWeight<float>>;
  const auto adapter = test::random_adapter<float>(config, 33, 28, 3);
  CHECK_THROWS_AS(Layer(ctx, ScaledWeight<float>(b, scale), adapter), ether::parameter_error);
  config.input_blocks = 1;  // one block: both layouts agree
  CHECK_NOTHROW(
      Layer(ctx, ScaledWeight<float>(b, scale), test::random_adapter<float>(config, 33, 28, 3)));
}

TEST_CASE("a MixedWeight computes what the same weight as float does") {
  using Backend = ether::EigenBackend<float>;
  using Element = Eigen::bfloat16;
  using Mixed = ether::MixedWeight<Backend, Element>;
  for (const auto sides : {ether::Sides::input, ether::Sides::both})
    for (const auto layout : {ether::BlockLayout::diagonal, ether::BlockLayout::row_chunk})
      for (const Index tokens : {1, 5, 70}) {
        ether::AdapterConfig config;
        config.variant = ether::Variant::ether_plus;
        config.sides = sides;
        config.layout = layout;
        config.input_blocks = 4;
        config.output_blocks = 3;
        const Index out = 33, in = 92;
        const auto adapter = test::random_adapter<float>(config, out, in, 1);
        const auto w = test::random_matrix<Element>(out, in + 3, 2);  // rows further apart
        const test::MatrixOf<float> wide = w.leftCols(in).cast<float>();
        const auto bias = test::random_matrix<float>(1, out, 3),
                   x = test::random_matrix<float>(tokens, in, 4),
                   g = test::random_matrix<float>(tokens, out, 5);
        EigenContext ctx(2);
        const ether::EtherLinear<Backend, Mixed> mixed(ctx, Mixed({w.data(), out, in, in + 3}),
                                                       adapter, bias.data());
        const ether::EtherLinear<Backend> same(ctx, wide, adapter, bias.data());
        test::MatrixOf<float> y(tokens, out), expected(tokens, out), grad_x(tokens, in),
            wanted(tokens, in);
        auto grads = ether::Adapter<float>::zeros_like(adapter), reference = grads;
        mixed.forward(ctx, x, y);
        same.forward(ctx, x, expected);
        mixed.backward(ctx, x, g, grad_x, grads);
        same.backward(ctx, x, g, wanted, reference);
        const auto norm = [](const auto& m) { return test::to_double(m).norm(); };
        // Both are within a tolerance of the exact result, hence within two of each other.
        const double magnitude = 9 * norm(wide);
        const auto near = [&](const auto& a, const auto& b, double size) {
          return test::difference(test::to_double(a), test::to_double(b),
                                  2 * test::tolerance<float, float>(2 * (in + out) + 20, size, 0));
        };
        CHECK(near(y, expected, magnitude * norm(x)) == "");
        CHECK(near(grad_x, wanted, magnitude * norm(g)) == "");
        const auto flat = [](const ether::Adapter<float>& a) {
          return MatrixView<const float>(a.data(), Index{1}, a.size());
        };
        // (ŵ.t) r + (ŵ.r) t, over the length of w, which is above 1 here.
        CHECK(near(flat(grads), flat(reference), 4 * magnitude * norm(x) * norm(g)) == "");
      }
}
