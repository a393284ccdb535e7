// The Eigen backend's products, on either side of their thresholds.

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

using ether::Index;
using ether::MatrixView;
using test::Matrix;
using test::MatrixOf;

TEST_CASE("products of every kind and shape equal the plain sum") {
  ether::EigenContext ctx(3);
  for (Index m : {1, 2, 3, 5, 8, 9, 16, 25, 33, 65, 97, 300})
    for (Index n : {1, 5, 64, 131, 2050})
      for (Index k : {0, 1, 17, 256, 700}) {
        if (m * n * k > 50'000'000) continue;
        for (bool transpose_b : {true, false})
          for (bool accumulate : {true, false}) {
            INFO("m " << m << " n " << n << " k " << k << " transposed " << transpose_b
                      << " accumulate " << accumulate);
            const MatrixOf<float> a = test::random_matrix<float>(m, k, 1);
            const MatrixOf<float> b = transpose_b ? test::random_matrix<float>(n, k, 2)
                                                  : test::random_matrix<float>(k, n, 2);
            MatrixOf<float> c = test::random_matrix<float>(m, n, 3);
            const Matrix ad = test::to_double(a), bd = test::to_double(b);
            Matrix expected = test::product(ad, transpose_b ? Matrix(bd.transpose()) : bd);
            if (accumulate) expected += test::to_double(c);
            ether::EigenBackend<float>::gemm<float>(ctx, a, b, transpose_b, c, accumulate);
            const double magnitude = ad.norm() * bd.norm() + expected.norm() + 1;
            CHECK(test::difference(test::to_double(c), expected,
                                   test::tolerance<float, float>(k + 2, magnitude, 0)) == "");
          }
      }
}

namespace {

struct GemmCase {
  Index tokens, in, input_blocks, out, blocks;
  ether::Variant variant;
  bool input, output, bias;
};

/// EigenBackend without its fused operations.
template <class S>
struct Composed : ether::EigenBackend<S> {
  using FusedWith = void;
};

/// y (tokens, out) = (x H_in) w^T H_out + bias on either side of the products' thresholds, rows
/// apart, for any threads. T: the type of y, that of x or float.
template <class S, class T>
void check_multiply_reflected(const GemmCase& c) {
  using Backend = ether::EigenBackend<S>;
  INFO("tokens " << c.tokens << " in " << c.in << " in " << c.input_blocks << " blocks, out "
                 << c.out << " blocks " << c.blocks << " " << to_string(c.variant) << " input "
                 << c.input << " output " << c.output << " bias " << c.bias);
  ether::AdapterConfig config;
  config.variant = c.variant;
  config.sides = ether::Sides::both;
  config.input_blocks = c.input_blocks;
  config.output_blocks = c.blocks;
  const auto adapter = test::random_adapter<float>(config, c.out, c.in, 1);
  ether::EigenContext ctx(1), three(3);
  const ether::PreparedAdapter<Backend> prepared(ctx, adapter);
  const auto h_in =
      c.input ? prepared.reflection(ether::Side::input) : ether::identity<float>(c.in);
  const auto h_out =
      c.output ? prepared.reflection(ether::Side::output) : ether::identity<float>(c.out);
  const test::DeviceMatrix<Backend, S> x(ctx, test::random_matrix<S>(c.tokens, c.in, 2), 3);
  const test::DeviceMatrix<Backend, S> w(ctx, test::random_matrix<S>(c.out, c.in, 3), 5);
  const auto bias = test::random_matrix<S>(1, c.out, 4);
  const test::Oracle oracle(adapter, w.values());
  Matrix merged = c.input ? oracle.weight_in() : w.values();
  if (c.output) merged = test::product(oracle.h_out(), merged);
  const Matrix b = c.bias ? test::to_double(bias) : Matrix();
  const Matrix expected = test::linear(x.values(), merged, b);
  const double magnitude = 9 * x.values().norm() * w.values().norm() + expected.norm();
  const double allowed =
      test::tolerance<float, T>(2 * c.in + 2 * c.out + 10, magnitude, expected.norm());

  test::DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, 2);
  const auto run = [&](ether::EigenContext& context) {
    const MatrixView<const S> added = c.bias ? MatrixView<const S>(bias) : MatrixView<const S>{};
    Backend::multiply_reflected(context, h_in, x.const_view(), w.const_view(), h_out, added,
                                y.view());
  };
  run(ctx);
  CHECK(test::difference(y.values(), expected, allowed) == "");
  CHECK(y.surround_untouched());
  CHECK(test::difference(y.values(), expected * 1.1, allowed) != "");
  const MatrixOf<T> first = y.host();
  run(three);
  CHECK(test::bit_difference<T>(y.const_view(), first) == "");

  // The same out of three operations.
  test::DeviceMatrix<Backend, T> composed(ctx, c.tokens, c.out, 2);
  const ether::DenseWeight<Composed<S>> weight(w.const_view());
  const MatrixView<const S> added = c.bias ? MatrixView<const S>(bias) : MatrixView<const S>{};
  weight.multiply_reflected(ctx, h_in, x.const_view(), h_out, added, composed.view());
  CHECK(test::difference(composed.values(), expected, allowed) == "");
  CHECK(composed.surround_untouched());
}

}  // namespace

TEST_CASE("products with H_in in the packing of the tokens and H_out on finished tiles") {
  struct Output {
    Index width, blocks;
  };
  // Blocks too long for a tile, of a size that does not suit the kernel, of a tile, some in a tile.
  const Output outputs[] = {{260, 1}, {37, 1}, {330, 5}, {256, 2}, {96, 2}, {144, 9}};
  for (Index tokens : {1, 8, 9, 16, 17, 24, 25, 300})
    for (const auto& o : outputs)
      for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
        for (bool input : {false, true})
          for (bool output : {false, true}) {
            // Input blocks within a tile of the depth, and over several of them, for one tile of
            // tokens and for two.
            const Index in = tokens == 25 || tokens == 300 ? 516 : 36;
            const Index input_blocks = o.blocks == 1 ? 1 : o.blocks == 2 ? 2 : 4;
            const bool bias = (tokens + o.blocks + input + output) % 2 == 0;
            const GemmCase c{tokens,  in,    input_blocks, o.width, o.blocks,
                             variant, input, output,       bias};
            check_multiply_reflected<float, float>(c);
            check_multiply_reflected<Eigen::bfloat16, float>(c);
            check_multiply_reflected<Eigen::bfloat16, Eigen::bfloat16>(c);
          }
}

namespace {

/// Packed x H: the bits of what the row operation makes of x, zeros for the tokens that fill the last
/// panel, and nothing around it.
template <class S>
void check_packing(Index tokens, Index in, Index blocks) {
  using Backend = ether::EigenBackend<S>;
  using P = typename Backend::Parameter;
  constexpr Index panel = ether::detail::panel_tokens<P>;
  INFO("tokens " << tokens << " in " << in << " blocks " << blocks);

  ether::AdapterConfig config;
  config.variant = ether::Variant::ether_plus;
  config.input_blocks = blocks;
  config.layout = ether::BlockLayout::row_chunk;
  ether::EigenContext ctx(3);
  const ether::PreparedAdapter<Backend> prepared(ctx, test::random_adapter<P>(config, 3, in, 1));
  const test::DeviceMatrix<Backend, S> x(ctx, test::random_matrix<S>(tokens, in, 2), 3);
  for (const auto& h :
       {ether::identity<P>(in), prepared.reflection(ether::Side::input).at_row(1)}) {
    MatrixOf<P> z(tokens, in);
    Backend::reflect(ctx, h, x.const_view(), MatrixView<P>(z), MatrixView<const S>{});
    constexpr Index around = 64;
    const Index size = ether::detail::packed_size<P>(tokens, in), padded = size / in;
    REQUIRE((padded >= tokens && padded < tokens + panel && padded % panel == 0));
    std::vector<P> expected(std::size_t(size + 2 * around), P(7)), packed = expected;
    P* to = expected.data() + around;
    for (Index k = 0; k < in; k += ether::detail::depth_tile)
      for (Index first = 0; first < padded; first += panel)
        for (Index c = k; c < std::min(in, k + ether::detail::depth_tile); ++c)
          for (Index t = first; t < first + panel; ++t) *to++ = t < tokens ? z(t, c) : P(0);
    ether::detail::pack_tokens(ctx, h, x.const_view(), packed.data() + around);
    REQUIRE(expected == packed);
  }
}

}  // namespace

TEST_CASE("tokens are packed as the product takes them") {
  struct Shape {
    Index in, blocks;
  };
  // Blocks shorter than a vector, ragged, of a depth tile, across its border, longer than it.
  const Shape shapes[] = {{1, 1},   {3, 3},   {6, 3},   {27, 3},  {255, 1}, {256, 1},
                          {258, 6}, {512, 2}, {516, 4}, {516, 1}, {780, 2}};
  for (Index tokens : {1, 2, 3, 4, 7, 33})
    for (const auto& shape : shapes) {
      check_packing<float>(tokens, shape.in, shape.blocks);
      check_packing<double>(tokens, shape.in, shape.blocks);
      check_packing<Eigen::bfloat16>(tokens, shape.in, shape.blocks);
      check_packing<Eigen::half>(tokens, shape.in, shape.blocks);
    }
}
