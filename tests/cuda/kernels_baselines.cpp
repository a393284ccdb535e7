// The benchmark's kernels for HRA and OFT, bench/cuda/*.cuh, against explicit dense matrices.

#include "../../bench/cuda/block_product.cuh"
#include "../../bench/cuda/householder_chain.cuh"
#include "cuda/kernels.hpp"
#include "support/baseline_oracle.hpp"

using namespace test;
using bench::block_product;
using bench::householder_chain;
using Eigen::bfloat16;

namespace {

struct ChainCase {
  Index rows, width, rank;
  Place place = vectors;
  int processors = 2;
};

/// Rows of length 1, as T holds them.
template <class T>
MatrixOf<T> unit_rows(Index rank, Index width) {
  return random_matrix<double>(rank, width, 1).rowwise().normalized().cast<T>();
}

/// H_r ... H_1, H_k = I - 2 û_k^T û_k of the rows û_k, whose lengths are 1 but for rounding.
Matrix chain_of(const Matrix& unit) {
  Matrix h = Matrix::Identity(unit.cols(), unit.cols());
  for (Index k = unit.rows() - 1; k >= 0; --k) h -= 2 * (h * unit.row(k).transpose()) * unit.row(k);
  return h;
}

/// No reflection changes a norm, so the errors of each add up, behind 2 width + 8 roundings of
/// products with magnitude at most |z| + 2 |z|.
template <class T>
std::string wrong_chain(const Matrix& actual, const Matrix& x, const Matrix& unit) {
  return wrong<T>(actual, x * chain_of(unit), unit.rows() * (2 * unit.cols() + 8), 3 * x.norm());
}

template <class T>
void check_chain(const ChainCase& c) {
  INFO("(" << c.rows << ", " << c.width << "), rank " << c.rank << ", " << c.place.name << ", "
           << c.processors << " processors");
  const Placed<T> unit(unit_rows<T>(c.rank, c.width), c.place);
  const Placed<T> x(random_matrix<T>(c.rows, c.width, 2), c.place), z(c.rows, c.width, c.place);
  REQUIRE(householder_chain<T>(device(c.processors), unit.read(), x.read(), z.view()));
  CHECK(wrong_chain<T>(z.values(), x.values(), unit.values()) == "");
  if (c.rank > 1 && c.width > 1)  // H_1 ... H_r is another matrix
    CHECK(wrong_chain<T>(z.values(), x.values(), unit.values().colwise().reverse()) != "");
  CHECK(z.surround_untouched());
  CHECK(x.untouched());
  CHECK(unit.untouched());
}

struct BlocksCase {
  Index rows, blocks;
  int processors = 2;
};

template <class T>
void check_blocks(const BlocksCase& c) {
  const Index size = bench::oft_block, width = c.blocks * size;
  INFO("(" << c.rows << ", " << c.blocks << " * 32), " << c.processors << " processors");
  const Matrix orthogonal = OftOracle{random_matrix<double>(width, size, 1) / 4}.h();
  MatrixOf<T> above(width, size);
  for (Index row = 0; row < width; row += size)
    above.middleRows(row, size) = orthogonal.block(row, row, size, size).cast<T>();
  const Placed<T> h(above), x(random_matrix<T>(c.rows, width, 2)), z(c.rows, width);
  REQUIRE(block_product<T>(device(c.processors), h.read(), x.read(), z.view()));

  const Matrix dense = rounded<T>(orthogonal);
  const double magnitude = std::sqrt(static_cast<double>(size)) * x.values().norm();
  CHECK(wrong<T>(z.values(), x.values() * dense, 2 * size, magnitude) == "");
  CHECK(wrong<T>(z.values(), x.values() * dense.transpose(), 2 * size, magnitude) != "");
  CHECK(z.surround_untouched());
  CHECK(x.untouched());
  CHECK(h.untouched());
}

}  // namespace

TEST_CASE("rows through a chain of reflections, at every width") {
  for (Index width : {1, 5, 31, 33, 130, 256, 516, 1000})
    for (const Place& place : {vectors, odd_pointer, odd_stride})
      for (Index rank : {1, 3, 8}) {
        check_chain<float>({3, width, rank, place});
        check_chain<float>({1, width, rank, place});
      }
  check_chain<float>({1, 4096, 2});
  check_chain<float>({2, 4095, 2, odd_stride});
  for (Index width : {33, 520}) check_chain<double>({3, width, 8});
  for (Index width : {33, 520, 2056}) check_chain<bfloat16>({3, width, 8});
}

TEST_CASE("rows through a chain together, of which the last group has fewer") {
  for (Index rows : {5, 6, 7, 8, 9})  // on one processor, 6 and more go together
    for (Index width : {36, 516}) {
      check_chain<float>({rows, width, 3, vectors, 1});
      check_chain<bfloat16>({rows, 2 * width, 8, vectors, 1});
    }
  for (const Index rows : {5, 6, 9}) {
    emulator::reset_statistics();
    check_chain<float>({rows, 36, 1, vectors, 1});
    CHECK(emulator::statistics.blocks == 3u * static_cast<unsigned>(rows < 6 ? rows : rows / 3));
  }
}

TEST_CASE("a product with a block-diagonal matrix, at every number of rows") {
  for (Index rows : {1, 2, 15, 16, 17, 33, 64, 65, 130})
    for (Index blocks : {1, 3})
      for (int processors : {1, 132}) {  // large tiles, small ones
        check_blocks<float>({rows, blocks, processors});
        check_blocks<bfloat16>({rows, blocks, processors});
      }
  check_blocks<double>({19, 5});
}

TEST_CASE("what the baselines' kernels do not suit, they leave") {
  const Placed<float> x(random_matrix<float>(2, 4097, 1)), z(2, 4097), none(0, 4097);
  const Placed<float> odd(random_matrix<float>(2, 64, 1), odd_pointer), h(64, 32), to(2, 64);
  emulator::reset_statistics();
  CHECK_FALSE(householder_chain<float>(device(), x.read(), x.read(), z.view()));
  CHECK_FALSE(householder_chain<float>(device(), none.read(), x.read(), z.view()));
  CHECK_FALSE(block_product<float>(device(), h.read(), x.read(), z.view()));
  CHECK_FALSE(block_product<float>(device(), h.read(), odd.read(), to.view()));
  CHECK(emulator::statistics.launches == 0);
  CHECK(z.untouched());
  CHECK(to.untouched());
}
