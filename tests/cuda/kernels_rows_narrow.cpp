// reflect_rows on bfloat16, and from one type to another.

#include "cuda/kernels_rows.hpp"

using namespace test;
using Eigen::bfloat16;

TEST_CASE("rows of bfloat16 in every shape of block and address") {
  for (Index terms : {0, 1, 2}) check_row_shapes<bfloat16>(terms);
}

TEST_CASE("rows of bfloat16 use vectors and pairs exactly where addresses allow them") {
  // 32 lanes hold up to 1024 in vectors of 8, 256 in pairs, 128 in single elements
  CHECK_FALSE(whole_blocks_meet<bfloat16, bfloat16>(1024, vectors));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(1032, vectors));
  CHECK_FALSE(whole_blocks_meet<bfloat16, bfloat16>(256, pairs));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(264, pairs));
  CHECK_FALSE(whole_blocks_meet<bfloat16, bfloat16>(250, vectors));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(258, vectors));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(256, odd_pointer));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(256, odd_stride));
  CHECK(whole_blocks_meet<bfloat16, bfloat16>(129, vectors));
}

TEST_CASE("rows of bfloat16 with all that can be added, at every kind of address") {
  for (const Place& place : {vectors, pairs, odd_pointer, odd_stride})
    for (Index terms : {0, 1, 2})
      for (const Index size : {16, 384, 1040})
        for (Add add : {Add::nothing, Add::bias, Add::matrix, Add::out}) {
          RowsCase c{6, 2, size, terms, place, place, add, add == Add::bias};
          c.share = add == Add::nothing ? 2 : add == Add::bias ? 1 : 0;
          c.row_chunk = add == Add::matrix;
          c.first_row = 5;
          check_rows<bfloat16, bfloat16>(c);
        }
}

TEST_CASE("bfloat16 rows in groups of threads that take several rows each") {
  for (const Place& place : {vectors, pairs, odd_pointer}) {
    RowsCase c{97, 1, 1040, 2, place, place, Add::nothing, true};
    c.processors = 1;
    check_rows<bfloat16, bfloat16>(c);
  }
}

TEST_CASE("rows from bfloat16 to float and back") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {0, 1, 2})
      for (const Index size : {3, 16, 128, 129, 264, 1040})
        for (Add add : {Add::nothing, Add::bias, Add::matrix, Add::out}) {
          RowsCase c{5, 2, size, terms, vectors, place, add};
          c.share = add == Add::nothing ? static_cast<int>(terms) : 0;
          c.row_chunk = add == Add::bias;
          check_rows<bfloat16, float>(c);
          check_rows<float, bfloat16>(c);
        }
}
