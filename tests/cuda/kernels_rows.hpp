#pragma once

/// One launch of reflect_rows against its oracle.

#include "cuda/kernels.hpp"

#include <sstream>

namespace test {

enum class Add { nothing, bias, matrix, out };

struct RowsCase {
  Index rows, blocks, size, terms;
  Place in = vectors, out = vectors;
  Add add = Add::nothing;
  bool in_place = false;
  bool row_chunk = false;
  Index first_row = 0;  // of the weight that row_chunk cuts
  int share = 0;        // terms of a ColumnShare, whose blocks are 3 rows high
  int processors = 2;
};

inline std::string describe(const RowsCase& c) {
  std::ostringstream s;
  s << "(" << c.rows << ", " << c.blocks << " * " << c.size << "), " << c.terms << " terms, from "
    << c.in.name << " to " << c.out.name << ", add " << static_cast<int>(c.add)
    << (c.in_place ? ", in place" : "") << (c.row_chunk ? ", row_chunk" : "") << ", share "
    << c.share << ", processors " << c.processors;
  return s.str();
}

template <class A, class B>
void check_rows(const RowsCase& c) {
  using W = Wide<B>;
  INFO(describe(c));
  TestReflection<W> h(c.terms, c.blocks, c.size, 1, c.in);
  const Index width = h.width();
  if (c.row_chunk) {
    h.first = c.first_row * c.blocks;
    h.step = c.blocks;
    h.period = c.first_row + c.rows + 1;
  }
  Placed<A> in(random_matrix<A>(c.rows, width, 4), c.in);
  Placed<B> other(random_matrix<B>(c.rows, width, 5), c.out);
  const Placed<B> bias(random_matrix<B>(1, width, 6), c.out);
  const Placed<B> addend(random_matrix<B>(c.rows, width, 7), c.out);

  MatrixView<B> out = other.view();
  if constexpr (std::is_same_v<A, B>)
    if (c.in_place) out = in.view();
  MatrixView<const B> add;
  Matrix more = Matrix::Zero(c.rows, width);
  if (c.add == Add::bias) add = {bias.view().data, c.rows, width, 0};
  if (c.add == Add::bias) more.rowwise() += bias.values().row(0);
  if (c.add == Add::matrix) add = addend.read(), more = addend.values();
  if (c.add == Add::out) add = out, more = other.values();

  // The second pass over a weight whose output blocks are 3 rows high.
  const Index height = 3, share_blocks = (c.rows + height - 1) / height;
  const Placed<W> share_unit(random_matrix<W>(c.share, c.rows, 8), c.in);
  const Placed<W> share_coefficient(random_matrix<W>(c.share, share_blocks, 9), c.in);
  const Placed<W> sums(random_matrix<W>(share_blocks * c.share, width, 10), c.in);
  ether::detail::cuda::ColumnShare<W> share;
  if (c.share != 0)
    share = {c.share, height, share_unit.read(), share_coefficient.read(), sums.read()};
  double magnitude = more.norm();
  for (Index r = 0; r < c.rows; ++r)
    for (Index k = 0; k < c.share; ++k) {
      const Index b = r / height;
      const Eigen::RowVectorXd part = share_coefficient.values()(k, b) * share_unit.values()(k, r) *
                                      sums.values().row(b * c.share + k);
      more.row(r) += part;
      magnitude += part.norm();
    }

  const Matrix x = in.values(), expected = h.rows(x) + more;
  ether::detail::cuda::reflect_rows<A, B>(device(c.processors), h.view(), in.read(), out, add,
                                          share);

  magnitude += h.norm() * x.norm();
  CHECK(wrong<B>(to_double(out), expected, h.roundings() + 6, magnitude) == "");
  CHECK(in.surround_untouched());
  CHECK(other.surround_untouched());
  CHECK((c.in_place ? other : addend).untouched());
  if (!c.in_place) CHECK(in.untouched());
  CHECK(h.unit.untouched());
  CHECK(sums.untouched());
}

/// Whether threads of several warps met, as they do only in groups of 256 lanes.
template <class A, class B>
bool whole_blocks_meet(Index size, const Place& place) {
  emulator::reset_statistics();
  check_rows<A, B>({2, 1, size, 1, place, place});
  return emulator::statistics.barriers != 0;
}

/// Sizes on both sides of every threshold, at every kind of address.
template <class T>
void check_row_shapes(Index terms) {
  const Index full = full_vector<T>;
  for (const Place& place : {vectors, pairs, odd_pointer, odd_stride})
    for (const Index size : {Index{1}, Index{6}, full, 7 * full, 16 * full, 17 * full, 50 * full,
                             Index{130}, Index{258}, Index{129}}) {
      const Index blocks = size < 100 ? 5 : 2;
      check_rows<T, T>({7, blocks, size, terms, place, place, Add::nothing, size % 4 == 2});
      check_rows<T, T>({5, blocks, size, terms, place, place, Add::bias, size % 4 == 0});
    }
  for (const Index size :
       {128 * full, 129 * full, 300 * full, Index{4096}, Index{5000}, Index{11008}}) {
    check_rows<T, T>({2, 1, size, terms, vectors, vectors, Add::matrix, true});
    check_rows<T, T>({2, 2, size + 2, terms, pairs, pairs, Add::bias});
    check_rows<T, T>({2, 1, size + 1, terms, odd_pointer, vectors});
    check_rows<T, T>({1, 1, size, terms, odd_stride, odd_stride});  // a single row: no stride
  }
}

}  // namespace test
