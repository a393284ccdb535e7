// Adapters under weights of engines: rows in another order, several adapters in one weight.

#include "support/check_message.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <algorithm>
#include <numeric>
#include <random>

namespace {

using ether::Adapter;
using ether::AdapterConfig;
using ether::Index;
using ether::MatrixView;
using ether::Side;
using ether::Sides;
using ether::Variant;
using test::Matrix;
using test::MatrixOf;

AdapterConfig make_config(Variant variant, Sides sides, Index input_blocks, Index output_blocks,
                          ether::BlockLayout layout = ether::BlockLayout::diagonal) {
  AdapterConfig config;
  config.variant = variant;
  config.sides = sides;
  config.input_blocks = input_blocks;
  config.output_blocks = output_blocks;
  config.layout = layout;
  return config;
}

std::vector<Index> shuffled(Index rows, unsigned seed) {
  std::vector<Index> order(static_cast<std::size_t>(rows));
  std::iota(order.begin(), order.end(), Index{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

/// Row r of the result is row order[r] of `rows`.
template <class M>
M reordered(const M& rows, const std::vector<Index>& order) {
  if (order.empty()) return rows;
  M result(rows.rows(), rows.cols());
  for (Index r = 0; r < rows.rows(); ++r)
    result.row(r) = rows.row(order[static_cast<std::size_t>(r)]);
  return result;
}

/// An adapter, its rows of the weight, and what they become. The engine's rows are made from the
/// adapter's by hand, and transformed before they are put in the engine's order.
struct Part {
  AdapterConfig config;
  Index first, out;
  std::vector<Index> order;
};

template <class T>
struct Engine {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;

  Engine(Index out, Index in, const std::vector<Part>& parts_)
      : parts(parts_), w(test::random_matrix<T>(out, in, 1)), merged(test::to_double(w)) {
    unsigned seed = 10;
    for (const Part& p : parts)
      adapters.push_back(test::random_adapter<P>(p.config, p.out, in, ++seed));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& p = parts[i];
      const MatrixOf<T> original = test::random_matrix<T>(p.out, in, 20 + static_cast<unsigned>(i));
      w.middleRows(p.first, p.out) = reordered(original, p.order);
      const test::Oracle oracle(adapters[i], test::to_double(original));
      merged.middleRows(p.first, p.out) = reordered(Matrix(oracle.merged()), p.order);
    }
  }
  std::vector<ether::AdaptedRows<P>> rows() const {
    std::vector<ether::AdaptedRows<P>> result;
    for (std::size_t i = 0; i < parts.size(); ++i)
      result.push_back({adapters[i], parts[i].first, parts[i].order});
    return result;
  }
  /// Of x W'^T; |H| is at most 3 on either side.
  double tolerance(const Matrix& x, double result) const {
    return test::tolerance<P, T>(2 * (w.rows() + w.cols()) + 20,
                                 9 * x.norm() * test::to_double(w).norm(), result);
  }

  std::vector<Part> parts;
  std::vector<Adapter<P>> adapters;
  MatrixOf<T> w;
  Matrix merged;  // what the weight becomes
};

/// forward, and the row operations around the engine's own product with bias and residual.
template <class T>
void check(const Engine<T>& engine, Index tokens) {
  using Backend = ether::EigenBackend<T>;
  using I = typename Backend::Intermediate;
  const Index out = engine.w.rows(), in = engine.w.cols();
  const auto x = test::random_matrix<T>(tokens, in, 5);
  const auto bias = test::random_matrix<T>(1, out, 6);
  const auto residual = test::random_matrix<T>(tokens, out, 7);
  typename Backend::Context ctx(2);
  const ether::EtherLinear<Backend> layer(ctx, engine.w, engine.rows(), bias.data());
  MatrixOf<T> y(tokens, out);
  layer.forward(ctx, x, y);
  const Matrix xd = test::to_double(x);
  const Matrix plain = xd * engine.merged.transpose();
  const Matrix expected = plain.rowwise() + test::to_double(bias).row(0);
  CHECK(test::difference(test::to_double(y), expected, engine.tolerance(xd, expected.norm())) ==
        "");
  MatrixOf<I> s(tokens, out);
  layer.forward(ctx, x, y, s);
  CHECK(test::difference(test::to_double(y), expected, engine.tolerance(xd, expected.norm())) ==
        "");

  // The engine's own product in double, between the two row operations. Only z and s are rounded to T.
  const auto& prepared = layer.prepared();
  MatrixOf<T> z(tokens, in), rounded(tokens, out);
  Matrix s_double(tokens, out);
  for (Index row = 0, count; row < out; row += count) {
    count = ether::rows_alike(prepared, row);
    REQUIRE(count >= 1);
    ether::reflect_input(prepared, row, x, z);
    s_double.middleCols(row, count) =
        test::to_double(z) * test::to_double(engine.w).middleRows(row, count).transpose();
  }
  rounded = s_double.template cast<T>();
  ether::reflect_output(prepared, rounded, y);
  // H_out carries on the roundings of z and s.
  const double roundings =
      6 * test::unit_roundoff<T>() * 3 * xd.norm() * test::to_double(engine.w).norm();
  CHECK(test::difference(test::to_double(y), plain,
                         engine.tolerance(xd, plain.norm()) + roundings) == "");

  // Each of the following computes the same again, in another order of additions, and rounds once.
  const Matrix bare = test::to_double(y);
  const double added = test::to_double(residual).norm() +
                       std::sqrt(static_cast<double>(tokens)) * test::to_double(bias).norm();
  const double once = 2 * test::unit_roundoff<T>() * (bare.norm() + added) +
                      test::tolerance<typename Backend::Parameter, T>(
                          out + 20, 3 * test::to_double(rounded).norm() + added, 0);
  const Matrix with_bias = bare.rowwise() + test::to_double(bias).row(0);
  ether::reflect_output(ctx, prepared, rounded, y, {bias.data(), {}});
  CHECK(test::difference(test::to_double(y), with_bias, once) == "");
  ether::reflect_output(prepared, rounded, y, {nullptr, residual});
  CHECK(test::difference(test::to_double(y), bare + test::to_double(residual), once) == "");
  y = residual;  // y += s H_out + bias
  ether::reflect_output(ctx, prepared, rounded, y, {bias.data(), y});
  CHECK(test::difference(test::to_double(y), with_bias + test::to_double(residual), once) == "");
  y = rounded;  // in place
  ether::reflect_output(ctx, prepared, y, y, {bias.data(), residual});
  CHECK(test::difference(test::to_double(y), with_bias + test::to_double(residual), once) == "");
}

template <class T>
void check_merge(const Engine<T>& engine) {
  using Backend = ether::EigenBackend<T>;
  typename Backend::Context ctx(2);
  const ether::EtherLinear<Backend> layer(ctx, engine.w, engine.rows());
  MatrixOf<T> merged(engine.w.rows(), engine.w.cols());
  layer.merge(ctx, merged);
  const double norm = test::to_double(engine.w).norm();
  CHECK(test::difference(
            test::to_double(merged), engine.merged,
            test::tolerance<typename Backend::Parameter, T>(engine.w.rows() + engine.w.cols() + 20,
                                                            9 * norm, engine.merged.norm())) == "");
}

}  // namespace

TEST_CASE(
    "row order: interleaved_row_order pairs the rows that a rotary embedding turns together") {
  const std::vector<Index> order = ether::interleaved_row_order(2, 6);
  CHECK(order == std::vector<Index>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11});
  CHECK_THROWS_AS(ether::interleaved_row_order(2, 5), ether::parameter_error);
  CHECK_THROWS_AS(ether::interleaved_row_order(0, 4), ether::parameter_error);
}

TEST_CASE("row order: heads of 8 rows, blocks of 1 to 48") {
  const Index heads = 6, head_dim = 8, out = heads * head_dim, in = 20;
  for (const Variant variant : {Variant::ether, Variant::ether_plus})
    for (const Index blocks : {48, 24, 12, 6, 3, 2, 1}) {
      INFO(to_string(variant) << ", " << blocks << " blocks");
      const auto config = make_config(variant, Sides::both, 5, blocks);
      const Engine<float> engine(out, in,
                                 {{config, 0, out, ether::interleaved_row_order(heads, head_dim)}});
      check(engine, 3);
      if (blocks <= heads) check_merge(engine);  // whole heads in each block
    }
}

TEST_CASE("row order: any permutation, in 16 bits too") {
  for (const Index blocks : {1, 3, 12, 24}) {
    const auto config = make_config(Variant::ether_plus, Sides::both, 2, blocks);
    check(Engine<float>(24, 10, {{config, 0, 24, shuffled(24, 1)}}), 2);
    check(Engine<Eigen::bfloat16>(24, 10, {{config, 0, 24, shuffled(24, 2)}}), 5);
  }
  // An order that only exchanges whole blocks takes none apart.
  std::vector<Index> exchanged(24);
  for (Index r = 0; r < 24; ++r) exchanged[static_cast<std::size_t>(r)] = (r + 8) % 24;
  const Engine<float> engine(24, 10,
                             {{make_config(Variant::ether, Sides::both, 2, 3), 0, 24, exchanged}});
  check(engine, 2);
  check_merge(engine);
}

TEST_CASE("row order: q, k and v in one weight, some rows of nobody's") {
  const auto both = make_config(Variant::ether_plus, Sides::both, 4, 4);
  const auto output = make_config(Variant::ether, Sides::output, 1, 2);
  const auto input = make_config(Variant::ether, Sides::input, 2, 1);
  const std::vector<Part> parts = {{input, 44, 8, {}},  // in any order
                                   {both, 3, 32, ether::interleaved_row_order(4, 8)},
                                   {output, 35, 8, ether::interleaved_row_order(1, 8)}};
  for (const Index tokens : {1, 9}) {
    check(Engine<float>(55, 16, parts), tokens);
    check(Engine<Eigen::bfloat16>(55, 16, parts), tokens);
  }
  auto whole_blocks = parts;
  whole_blocks[2].config.output_blocks = 1;
  check_merge(Engine<float>(55, 16, whole_blocks));
  check_merge(Engine<Eigen::bfloat16>(55, 16, whole_blocks));
}

TEST_CASE("row order: layout row_chunk, whose H_in depends on the row") {
  const auto chunked =
      make_config(Variant::ether_plus, Sides::both, 4, 2, ether::BlockLayout::row_chunk);
  check(Engine<float>(26, 16, {{chunked, 1, 24, ether::interleaved_row_order(3, 8)}}), 3);
  check(Engine<float>(24, 16, {{chunked, 0, 24, shuffled(24, 3)}}), 3);
  check_merge(Engine<float>(27, 16, {{chunked, 2, 24, {}}}));
}

TEST_CASE("row order: told nothing, the row operation computes something else") {
  const auto config = make_config(Variant::ether_plus, Sides::output, 1, 4);
  const Index out = 32;
  const auto order = ether::interleaved_row_order(2, 16);
  const auto adapter = test::random_adapter<float>(config, out, 8, 1);
  using Backend = ether::EigenBackend<float>;
  using Prepared = ether::PreparedAdapter<Backend>;
  Backend::Context ctx(1);
  const auto s = test::random_matrix<float>(4, out, 2);
  const MatrixOf<float> engines = reordered(MatrixOf<float>(s.transpose()), order).transpose();
  MatrixOf<float> right(4, out), y(4, out);
  ether::reflect_output(Prepared(ctx, adapter), s, right);
  const MatrixOf<float> expected = reordered(MatrixOf<float>(right.transpose()), order).transpose();
  ether::reflect_output(Prepared(ctx, out, 8, {{adapter, 0, order}}), engines, y);
  CHECK((y - expected).norm() <= 1e-6f * expected.norm());
  ether::reflect_output(Prepared(ctx, adapter), engines, y);
  CHECK((y - expected).norm() > 0.1f * expected.norm());
}

TEST_CASE("row order: one part's adapter is replaced") {
  using Backend = ether::EigenBackend<float>;
  const auto config = make_config(Variant::ether, Sides::output, 1, 4);
  const auto order = ether::interleaved_row_order(2, 8);
  const auto a = test::random_adapter<float>(config, 16, 8, 1),
             b = test::random_adapter<float>(config, 16, 8, 2);
  Backend::Context ctx(1);
  ether::PreparedAdapter<Backend> changed(ctx, 32, 8, {{a, 0, order}, {a, 16, order}});
  const ether::PreparedAdapter<Backend> fresh(ctx, 32, 8, {{a, 0, order}, {b, 16, order}});
  changed.set(ctx, b, 1);
  const auto s = test::random_matrix<float>(3, 32, 3);
  MatrixOf<float> y(3, 32), expected(3, 32);
  ether::reflect_output(changed, s, y);
  ether::reflect_output(fresh, s, expected);
  CHECK(test::bit_difference<float>(y, expected) == "");
  CHECK_THROWS_AS(changed.set(ctx, b, 2), ether::parameter_error);
}

TEST_CASE("row order: what cannot be is refused") {
  using Backend = ether::EigenBackend<float>;
  using Prepared = ether::PreparedAdapter<Backend>;
  Backend::Context ctx(1);
  const auto config = make_config(Variant::ether, Sides::both, 2, 4);
  const auto a = test::random_adapter<float>(config, 16, 8, 1);
  using Rows = std::vector<Index>;
  CHECK(Prepared(ctx, 16, 8, {}).reflection(Side::output).terms() == 0);  // none: the identity
  CHECK_REFUSED(Prepared(ctx, 16, 9, {{a}}), ether::shape_error,
                "in_features is 8 but the weight's is 9");
  CHECK_REFUSED(Prepared(ctx, 16, 8, {{a, 1}}), ether::shape_error,
                "the rows [1, 17) of a weight that has 16");
  CHECK_REFUSED(Prepared(ctx, 16, 8, {{a, -1}}), ether::shape_error,
                "the rows [-1, 15) of a weight that has 16");
  CHECK_REFUSED(Prepared(ctx, 40, 8, {{a, 0}, {a, 15}}), ether::shape_error,
                "[15, 31) and [0, 16) overlap");
  CHECK_REFUSED(Prepared(ctx, 16, 8, {{a, 0, Rows(15, 0)}}), ether::parameter_error,
                "order has 15 rows");
  CHECK_REFUSED(Prepared(ctx, 16, 8, {{a, 0, Rows(16, 3)}}), ether::parameter_error,
                "order names row 3 twice");
  Rows beyond(16);
  std::iota(beyond.begin(), beyond.end(), Index{1});
  CHECK_REFUSED(Prepared(ctx, 16, 8, {{a, 0, beyond}}), ether::parameter_error,
                "order names row 16;");

  MatrixOf<float> w = test::random_matrix<float>(16, 8, 2), x = test::random_matrix<float>(2, 8, 3),
                  y(2, 16), grad_x(2, 8);
  const auto order = ether::interleaved_row_order(1, 16);  // takes blocks of 4 apart
  const ether::EtherLinear<Backend> layer(ctx, w, {{a, 0, order}});
  auto grads = Adapter<float>::zeros_like(a);
  const MatrixOf<float> before = w;
  CHECK_REFUSED(layer.merge(ctx, w), ether::parameter_error, "takes the adapter's blocks apart");
  CHECK_REFUSED(layer.unmerge(ctx, w), ether::parameter_error,
                "one adapter, for all rows in its own order");
  CHECK_REFUSED(layer.backward(ctx, x, y, grad_x, grads), ether::parameter_error,
                "one adapter, for all rows");
  CHECK(w == before);
  MatrixOf<float> z(2, 8);
  const Prepared two(ctx, 32, 8, {{a, 0}, {a, 16}});
  CHECK_REFUSED(ether::reflect_input(ctx, two, x, z), ether::parameter_error,
                "the output rows see 2 different H_in");
  MatrixOf<float> s(2, 32), residual(2, 31);
  CHECK_REFUSED(ether::reflect_output(two, s, s, {nullptr, residual}), ether::shape_error,
                "residual is (2, 31)");
  CHECK_REFUSED(ether::reflect_output(two, s, s, {nullptr, s}), ether::shape_error,
                "y (2, 32) overlaps residual");
}

TEST_CASE("row order: a weight that cannot be sliced") {
  struct Whole {
    Index out_features() const { return 32; }
    Index in_features() const { return 8; }
    void multiply(ether::EigenContext&, MatrixView<const float>, MatrixView<float> s) const {
      for (Index r = 0; r < s.rows; ++r) std::fill_n(s.row(r), s.cols, 1.0f);
    }
  };
  using Backend = ether::EigenBackend<float>;
  using Layer = ether::EtherLinear<Backend, Whole>;
  Backend::Context ctx(1);
  const auto both =
      test::random_adapter<float>(make_config(Variant::ether, Sides::both, 2, 4), 16, 8, 1);
  const auto output =
      test::random_adapter<float>(make_config(Variant::ether, Sides::output, 1, 4), 16, 8, 1);
  CHECK_THROWS_AS(Layer(ctx, Whole{}, {{both, 0}, {both, 16}}), ether::parameter_error);
  const Layer layer(ctx, Whole{}, {{output, 0}, {output, 16}});  // one product for both
  const auto x = test::random_matrix<float>(2, 8, 3);
  MatrixOf<float> y(2, 32), expected(2, 32);
  layer.forward(ctx, x, y);
  ether::reflect_output(layer.prepared(), MatrixOf<float>(MatrixOf<float>::Ones(2, 32)), expected);
  CHECK((y - expected).norm() <= 1e-6f * expected.norm());
}
