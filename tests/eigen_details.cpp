// Parts of the Eigen backend and of the views that the conformance suite does not single out.

#include "backends/plain_backend.hpp"
#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/ether.hpp>

namespace {

using ether::Index;
using ether::MatrixView;
using test::Matrix;
using test::MatrixOf;

/// A merge into other memory, streamed, and the merge in place, never streamed, give the same bits.
/// They differ from the result of plain loops in double by rounding alone.
template <class T>
void check_streamed_merge(Index out, Index in, Index output_blocks, ether::BlockLayout layout) {
  using Backend = ether::EigenBackend<T>;
  for (auto sides : {ether::Sides::input, ether::Sides::output, ether::Sides::both}) {
    ether::AdapterConfig config;
    config.variant = ether::Variant::ether_plus;
    config.sides = sides;
    config.layout = layout;
    config.input_blocks = 8;
    config.output_blocks = output_blocks;
    const auto adapter = test::random_adapter<float>(config, out, in, 1);
    MatrixOf<T> w(out, in), merged(out, in);
    for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<T>(float(i % 1013) - 500);
    REQUIRE(ether::detail::worth_streaming(MatrixView<const T>(w), MatrixView<T>(merged), in / 8));
    REQUIRE_FALSE(
        ether::detail::worth_streaming(MatrixView<const T>(w), MatrixView<T>(merged), in / 8 - 1));
    ether::EigenContext ctx(2);
    const ether::EtherLinear<Backend> layer(ctx, w, adapter);
    const Matrix exact = w.template cast<double>();
    layer.merge(ctx, merged);
    layer.merge(ctx, w);
    // Each side's dot products have as many terms as a block; two terms a side, |c| = 1.
    const double terms = double(in) / 8 + double(out) / double(output_blocks);
    const double allowed =
        exact.norm() * (test::unit_roundoff<T>() + 4 * terms * test::unit_roundoff<float>());
    using Plain = test::PlainBackend<double>;
    ether::Adapter<double> wide(config, out, in);
    std::copy_n(adapter.data(), adapter.size(), wide.data());
    Plain::Context plain;
    Matrix expected(out, in);
    ether::EtherLinear<Plain>(plain, exact, wide).merge(plain, expected);
    CHECK(test::difference(merged.template cast<double>(), expected, allowed) == "");
    CHECK(test::difference(exact, expected, allowed) != "");
    CHECK(test::bit_difference<T>(merged, w) == "");
  }
}

}  // namespace

TEST_CASE("large merges, written past the cache, give the bits of small ones") {
  // Input blocks that are no whole packets; several output blocks in a panel of 8 MiB, and one.
  check_streamed_merge<float>(2100, 4128, 30, ether::BlockLayout::diagonal);
  check_streamed_merge<float>(2100, 4128, 3, ether::BlockLayout::row_chunk);
  check_streamed_merge<Eigen::bfloat16>(4203, 4032, 9, ether::BlockLayout::diagonal);
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
