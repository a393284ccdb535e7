// Parts of the Eigen backend and of the views that the conformance suite does not single out.

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

#include <cstring>

namespace {

using ether::Index;
using ether::MatrixView;
using test::Matrix;
using test::MatrixOf;

/// Every 16-bit pattern there is.
template <class T>
std::vector<T> all_patterns() {
  std::vector<T> all(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    std::memcpy(static_cast<void*>(&all[bits]), &half, sizeof half);
  }
  return all;
}

template <class T>
void check_conversion() {
  const std::vector<T> patterns = all_patterns<T>();
  std::vector<float> wide(patterns.size());
  ether::detail::convert<float>(patterns.data(), Index(patterns.size()), wide.data());
  std::vector<float> inputs;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const float expected = static_cast<float>(patterns[i]);
    if (!(wide[i] == expected || (std::isnan(wide[i]) && std::isnan(expected))))
      FAIL("pattern " << i << " widens to " << wide[i] << " instead of " << expected);
    // The value itself, its neighbours in float, and the ties to the next pattern.
    std::uint32_t bits;
    std::memcpy(&bits, &wide[i], sizeof bits);
    constexpr std::uint32_t tie = std::uint32_t{1} << (23 - std::numeric_limits<T>::digits);
    for (std::uint32_t offset : {0u, 1u, tie - 1, tie, tie + 1}) {
      const std::uint32_t near = bits + offset;
      float value;
      std::memcpy(&value, &near, sizeof value);
      inputs.push_back(value);
    }
  }
  for (Index shift : {0, 1, 5}) {  // all of it, and tails of every length
    std::vector<T> narrow(inputs.size());
    const Index count = Index(inputs.size()) - shift;
    ether::detail::convert<float>(inputs.data() + shift, count, narrow.data());
    for (Index i = 0; i < count; ++i) {
      const float input = inputs[std::size_t(i + shift)];
      const T expected = static_cast<T>(input);  // Eigen's scalar conversion, to nearest even
      const T actual = narrow[std::size_t(i)];
      const bool both_nan = std::isnan(static_cast<float>(actual)) && std::isnan(input);
      if (!(both_nan || std::memcmp(&actual, &expected, sizeof(T)) == 0))
        FAIL(input << " rounds to " << float(actual) << " instead of " << float(expected));
    }
  }
}

}  // namespace

TEST_CASE("16-bit conversion is exact one way and to nearest even the other") {
  check_conversion<Eigen::bfloat16>();
  check_conversion<Eigen::half>();
}

TEST_CASE("products of every kind and shape equal the plain sum") {
  ether::EigenContext ctx(3);
  for (Index m : {1, 2, 3, 4, 5, 16, 24, 25, 65, 300})
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
            Matrix expected = transpose_b ? Matrix(ad * bd.transpose()) : Matrix(ad * bd);
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
  Index tokens, in, out, blocks;
  ether::Variant variant;
  bool input, output, bias;
};

/// y (tokens, out) = (x H_in) w^T H_out + bias on either side of the products' thresholds, rows
/// apart, for any threads. T: the type of y, that of x or float.
template <class S, class T>
void check_reflect_gemm(const GemmCase& c) {
  using Backend = ether::EigenBackend<S>;
  INFO("tokens " << c.tokens << " in " << c.in << " out " << c.out << " blocks " << c.blocks << " "
                 << to_string(c.variant) << " input " << c.input << " output " << c.output
                 << " bias " << c.bias);
  ether::AdapterConfig config;
  config.variant = c.variant;
  config.sides = ether::Sides::both;
  config.input_blocks = 4;
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
  if (c.output) merged = oracle.h_out() * merged;
  const Matrix b = c.bias ? test::to_double(bias) : Matrix(Matrix::Zero(1, c.out));
  const Matrix expected = x.values() * merged.transpose() + b.replicate(c.tokens, 1);
  const double magnitude = 9 * x.values().norm() * w.values().norm() + expected.norm();
  const double allowed =
      test::tolerance<float, T>(2 * c.in + 2 * c.out + 10, magnitude, expected.norm());

  test::DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, 2);
  const auto run = [&](ether::EigenContext& context) {
    const MatrixView<const S> added = c.bias ? MatrixView<const S>(bias) : MatrixView<const S>{};
    Backend::reflect_gemm(context, h_in, x.const_view(), w.const_view(), h_out, added, y.view());
  };
  run(ctx);
  CHECK(test::difference(y.values(), expected, allowed) == "");
  CHECK(y.surround_untouched());
  CHECK(test::difference(y.values(), expected * 1.1, allowed) != "");
  const MatrixOf<T> first = y.host();
  run(three);
  CHECK(test::bit_difference<T>(y.const_view(), first) == "");
}

}  // namespace

TEST_CASE("products with H_in in the packing of the tokens and H_out on finished tiles") {
  struct Output {
    Index width, blocks;
  };
  // Blocks too long for a tile, of a size that does not suit the kernel, of a tile, some in a tile.
  const Output outputs[] = {{260, 1}, {37, 1}, {330, 5}, {256, 2}, {96, 2}, {144, 9}};
  for (Index tokens : {1, 24, 25, 28, 300})
    for (const auto& o : outputs)
      for (auto variant : {ether::Variant::ether, ether::Variant::ether_plus})
        for (bool input : {false, true})
          for (bool output : {false, true}) {
            const Index in = tokens == 25 ? 516 : 36;
            const bool bias = (tokens + o.blocks + input + output) % 2 == 0;
            const GemmCase c{tokens, in, o.width, o.blocks, variant, input, output, bias};
            check_reflect_gemm<float, float>(c);
            check_reflect_gemm<Eigen::bfloat16, float>(c);
            check_reflect_gemm<Eigen::bfloat16, Eigen::bfloat16>(c);
          }
}

namespace {

/// A merge into other memory, streamed, and the merge in place, never streamed: the same bits.
template <class T>
void check_streamed_merge(Index out, Index in, ether::BlockLayout layout) {
  using Backend = ether::EigenBackend<T>;
  for (auto sides : {ether::Sides::input, ether::Sides::output, ether::Sides::both}) {
    ether::AdapterConfig config;
    config.variant = ether::Variant::ether_plus;
    config.sides = sides;
    config.layout = layout;
    config.input_blocks = 8;
    config.output_blocks = 3;
    const auto adapter = test::random_adapter<float>(config, out, in, 1);
    MatrixOf<T> w(out, in), merged(out, in);
    for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<T>(float(i % 1013) - 500);
    REQUIRE(ether::detail::worth_streaming(MatrixView<const T>(w), MatrixView<T>(merged)));
    ether::EigenContext ctx(2);
    const ether::EtherLinear<Backend> layer(ctx, w, adapter);
    layer.merge(ctx, merged);
    layer.merge(ctx, w);
    CHECK(test::bit_difference<T>(merged, w) == "");
  }
}

}  // namespace

TEST_CASE("large merges, written past the cache, give the bits of small ones") {
  check_streamed_merge<float>(2100, 4120, ether::BlockLayout::diagonal);
  check_streamed_merge<float>(2100, 4120, ether::BlockLayout::row_chunk);
  check_streamed_merge<Eigen::bfloat16>(4203, 4040, ether::BlockLayout::diagonal);  // ragged blocks
}

TEST_CASE("views side by side in one matrix do not overlap") {
  MatrixOf<float> m(6, 10);
  const MatrixView<float> left = m.leftCols(4), right = m.rightCols(6), middle = m.middleCols(3, 3);
  using ether::detail::overlap;
  CHECK_FALSE(overlap(left, right));
  CHECK_FALSE(overlap(right, left));
  CHECK(overlap(left, middle));
  CHECK(overlap(middle, left));
  CHECK(overlap(middle, right));
  CHECK(overlap(left, left));
  CHECK_FALSE(overlap(MatrixView<float>(m.topRows(3)), MatrixView<float>(m.bottomRows(3))));
  CHECK(overlap(MatrixView<float>(m.topRows(4)), MatrixView<float>(m.bottomRows(3))));
  const MatrixView<float> wrapped{m.data() + 8, 5, 4, 10};  // columns 8, 9 and the next row's 0, 1
  CHECK(overlap(wrapped, left));
  CHECK_FALSE(overlap(wrapped, MatrixView<float>(m.middleCols(2, 6))));
}

TEST_CASE("streaming stores write what stores write, at every alignment") {
  constexpr Index lanes = ether::detail::lanes<float>;
  alignas(64) float values[lanes];
  for (Index i = 0; i < lanes; ++i) values[i] = 1.1f * float(i) - 3;
  const auto check = [&](auto type) {
    using T = decltype(type);
    alignas(64) T stored[4 * lanes], streamed[4 * lanes];
    for (Index offset = 0; offset < 2 * lanes; ++offset) {
      std::fill_n(stored, 4 * lanes, T(7));
      std::fill_n(streamed, 4 * lanes, T(7));
      ether::detail::store<float>(stored + offset, ether::detail::load<float>(values));
      ether::detail::stream<float>(streamed + offset, ether::detail::load<float>(values));
      ether::detail::finish_streaming();
      CHECK(std::memcmp(stored, streamed, sizeof stored) == 0);
    }
  };
  check(float());
  check(Eigen::bfloat16());
  check(Eigen::half());
}

TEST_CASE("row-major Eigen matrices, maps and blocks become views") {
  MatrixOf<float> m = test::random_matrix<float>(5, 8, 1);
  const MatrixView<float> all = m;
  CHECK((all.data == m.data() && all.rows == 5 && all.cols == 8 && all.stride == 8));
  const MatrixView<const float> block = m.block(1, 2, 3, 4);
  CHECK((block.data == &m(1, 2) && block.rows == 3 && block.cols == 4 && block.stride == 8));
  const MatrixOf<float>& constant = m;
  const MatrixView<const float> row = constant.row(2);
  CHECK((row.data == &m(2, 0) && row.rows == 1 && row.cols == 8));
  using Strided = Eigen::Map<MatrixOf<float>, 0, Eigen::OuterStride<>>;
  const MatrixView<float> map = Strided(m.data(), 2, 3, Eigen::OuterStride<>(16));
  CHECK((map.rows == 2 && map.cols == 3 && map.stride == 16));
  static_assert(std::is_convertible_v<MatrixOf<float>&, MatrixView<float>>);
  static_assert(std::is_convertible_v<const MatrixOf<float>&, MatrixView<const float>>);
  static_assert(!std::is_convertible_v<const MatrixOf<float>&, MatrixView<float>>);
  static_assert(!std::is_convertible_v<MatrixOf<double>&, MatrixView<float>>);
  static_assert(!std::is_convertible_v<Eigen::MatrixXf&, MatrixView<float>>);
  static_assert(!std::is_convertible_v<MatrixView<const float>, MatrixView<float>>);
}

TEST_CASE("the slices of output rows of layout row_chunk") {
  for (Index out : {1, 5, 8, 12, 40, 41})
    for (Index blocks : {1, 2, 3, 4, 8, 40}) {
      ether::Reflection<float> h;
      h.blocks = blocks;
      h.block_size = 1;
      h.step = blocks;
      h.period = out;
      Index slices = 0, row = 0;
      while (row < out) {
        const Index count = h.rows_alike(row, out);
        REQUIRE(count >= 1);
        for (Index o = row; o < row + count; ++o)
          for (Index c = 0; c < blocks; ++c) {
            CHECK(h.block(o, c) == (o * blocks + c) / out);
            CHECK(h.block(o, c) == h.at_row(row).block(7, c));
          }
        row += count, ++slices;
      }
      CHECK(row == out);
      CHECK(slices <= 2 * blocks - 1);
    }
}

TEST_CASE("workspace frames nest and give back what they took") {
  ether::EigenContext ctx;
  float* first = nullptr;
  {
    ether::EigenContext::Frame frame(ctx);
    first = frame.matrix<float>(10, 10).data;
    CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
    double* inner = nullptr;
    {
      ether::EigenContext::Frame nested(ctx);
      inner = nested.matrix<double>(100, 100).data;
      CHECK(static_cast<void*>(inner) != first);
    }
    CHECK(frame.matrix<double>(100, 100).data == inner);
  }
  ether::EigenContext::Frame frame(ctx);
  CHECK(frame.matrix<float>(10, 10).data == first);
}
