// reflect_rows on float and double: shapes, what is added, which H a row sees.

#include "cuda/kernels_rows.hpp"

using namespace test;

TEST_CASE("rows of float in every shape of block and address") {
  for (Index terms : {0, 1, 2}) check_row_shapes<float>(terms);
}

TEST_CASE("rows of double in every shape of block and address") {
  for (Index terms : {1, 2}) check_row_shapes<double>(terms);
}

TEST_CASE("rows of float use vectors exactly where addresses allow them") {
  // 512 floats are 32 lanes of vectors, or 256 lanes of single elements
  CHECK_FALSE(whole_blocks_meet<float, float>(512, vectors));
  CHECK(whole_blocks_meet<float, float>(516, vectors));
  CHECK(whole_blocks_meet<float, float>(512, pairs));
  CHECK(whole_blocks_meet<float, float>(512, odd_pointer));
  CHECK(whole_blocks_meet<float, float>(512, odd_stride));
  CHECK(whole_blocks_meet<float, float>(510, vectors));
  CHECK_FALSE(whole_blocks_meet<float, float>(128, odd_pointer));
  CHECK(whole_blocks_meet<float, float>(129, odd_pointer));
}

TEST_CASE("rows in and out at addresses of different kinds") {
  for (const Place& in : {vectors, pairs, odd_pointer, odd_stride})
    for (const Place& out : {vectors, pairs, odd_pointer, odd_stride})
      for (Index terms : {0, 2}) check_rows<float, float>({3, 2, 512, terms, in, out, Add::matrix});
}

TEST_CASE("rows of which a single operand lies at an odd address") {
  for (int odd = 0; odd < 5; ++odd) {
    INFO("operand " << odd);
    const auto place = [&](int operand) { return operand == odd ? odd_pointer : vectors; };
    const TestReflection<float> h(1, 2, 20, 1, place(0));
    const Placed<float> in(random_matrix<float>(3, 40, 2), place(1)), out(3, 40, place(2));
    const Placed<float> add(random_matrix<float>(3, 40, 3), place(3));
    const Placed<float> sums(random_matrix<float>(1, 40, 4), place(4));
    const Placed<float> unit(random_matrix<float>(1, 3, 5)),
        coefficient(random_matrix<float>(1, 1, 6));
    ether::detail::cuda::reflect_rows<float, float>(
        device(), h.view(), in.read(), out.view(), add.read(),
        {1, 3, unit.read(), coefficient.read(), sums.read()});
    const Matrix share = coefficient.values()(0, 0) * unit.values().transpose() * sums.values();
    CHECK(wrong<float>(out.values(), h.rows(in.values()) + add.values() + share, h.roundings() + 4,
                       h.norm() * in.values().norm() + add.values().norm() + share.norm()) == "");
  }
}

TEST_CASE("rows added to what out holds, to a bias, to a matrix and in place") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {0, 1, 2})
      for (const Index size : {40, 516}) {
        for (Add add : {Add::nothing, Add::bias, Add::matrix, Add::out})
          check_rows<float, float>({9, 3, size, terms, place, place, add});
        for (Add add : {Add::nothing, Add::bias, Add::matrix})
          check_rows<double, double>({9, 3, size, terms, place, place, add, true});
      }
}

TEST_CASE("rows whose H depends on the row") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {1, 2})
      for (Index first_row : {0, 11})
        for (int processors : {1, 2}) {
          RowsCase c{37, 4, 8, terms, place, place, Add::bias, true, true, first_row};
          c.processors = processors;
          check_rows<float, float>(c);
          c.size = 516, c.blocks = 3, c.rows = 25;  // 75 groups of 256 lanes
          check_rows<float, float>(c);
        }
}

TEST_CASE("groups of threads that take several rows each") {
  struct Shape {
    Index rows, blocks, size;
  };
  // With one processor more than 4 * 8 groups of 256 lanes, 4 * 64 of a warp, 4 * 128 of 16 lanes.
  for (const Shape& s : {Shape{100, 1, 520}, Shape{101, 2, 514}, Shape{301, 3, 260},
                         Shape{521, 2, 6}, Shape{703, 5, 16}})
    for (const Place& place : {vectors, odd_pointer}) {
      RowsCase c{s.rows, s.blocks, s.size, 2, place, place, Add::matrix};
      c.processors = 1;
      check_rows<float, float>(c);
      c.terms = 1, c.in_place = true;
      check_rows<float, float>(c);
    }
}

TEST_CASE("rows with a share of sums down columns") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {0, 1, 2})
      for (int share : {1, 2})
        for (const Index size : {24, 516}) {
          RowsCase c{11, 2, size, terms, place, place, Add::nothing, terms != 1};
          c.share = share;
          check_rows<float, float>(c);
          c.add = Add::bias, c.row_chunk = terms == 2;
          check_rows<float, float>(c);
        }
}

TEST_CASE("the bits of reflected rows do not depend on the number of processors") {
  const TestReflection<float> h(2, 2, 516, 1);
  const Placed<float> x(random_matrix<float>(90, h.width(), 2)), one(90, h.width()),
      many(90, h.width());
  const auto run = [&](int processors, const Placed<float>& y) {
    ether::detail::cuda::reflect_rows<float, float>(device(processors), h.view(), x.read(),
                                                    y.view(), {}, {});
  };
  run(1, one);
  run(132, many);
  CHECK(bit_difference<float>(one.read(), many.read()) == "");
}
