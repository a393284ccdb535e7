// reflect_columns in one pass, and the sums down columns that two passes begin with.

#include "cuda/kernels.hpp"

using namespace test;
using Eigen::bfloat16;
namespace cuda = ether::detail::cuda;

namespace {

template <class T>
void check_columns(Index terms, Index blocks, Index size, Index cols, bool in_place,
                   const Launch& where = device()) {
  INFO(terms << " terms, (" << blocks << " * " << size << ", " << cols << "), in place " << in_place
             << ", shared bytes " << where.shared_bytes);
  const TestReflection<Wide<T>> h(terms, blocks, size, 1, odd_stride);
  const Placed<T> in(random_matrix<T>(h.width(), cols, 2)), other(h.width(), cols);
  const Placed<T>& out = in_place ? in : other;
  const Matrix x = in.values();
  REQUIRE(cuda::reflect_columns<T>(where, h.view(), in.read(), out.view()));
  CHECK(wrong<T>(out.values(), h.columns(x), h.roundings(), h.norm() * x.norm()) == "");
  CHECK(out.surround_untouched());
  CHECK((in_place ? other : in).untouched());
}

template <class T>
void check_refused(const TestReflection<Wide<T>>& h, MatrixView<const T> in, const Placed<T>& out,
                   const Launch& where = device()) {
  emulator::reset_statistics();
  CHECK_FALSE(cuda::reflect_columns<T>(where, h.view(), in, out.view()));
  CHECK(emulator::statistics.launches == 0);
  CHECK(out.untouched());
}

/// A tile has 8 vectors across; the columns fill one, none whole, and several with a rest.
template <class T>
void check_heights() {
  const Index full = full_vector<T>;
  for (Index terms : {1, 2})
    for (const Index size : {1, 2, 8, 63, 64, 65, 128, 130, 512})
      for (const Index vectors_across : {1, 8, 19}) {
        if (size > 65 && vectors_across == 8) continue;
        const Index blocks = size < 100 ? 3 : 1;
        check_columns<T>(terms, blocks, size, vectors_across * full, (size + terms) % 2 == 0);
      }
}

/// 64 rows of a block take 8 KiB of shared memory. What a type's sums take is left to the caller.
template <class T>
void check_tallest(std::size_t shared_bytes, Index terms, Index tallest) {
  const Launch where = device(2, shared_bytes);
  const Index cols = 9 * full_vector<T>;
  check_columns<T>(terms, 1, tallest, cols, true, where);
  const TestReflection<Wide<T>> h(terms, 1, tallest + 1, 1);
  const Placed<T> in(random_matrix<T>(tallest + 1, cols, 2)), out(tallest + 1, cols);
  check_refused<T>(h, in.read(), out, where);
}

/// Both halves of a sum down columns, each against loops.
template <class T>
void check_sums(Index terms, Index blocks, Index size, Index cols, Index height,
                const Place& place) {
  using W = Wide<T>;
  INFO(terms << " terms, (" << blocks << " * " << size << ", " << cols << "), chunks of " << height
             << ", " << place.name);
  const TestReflection<W> h(terms, blocks, size, 1, odd_pointer);
  const Placed<T> in(random_matrix<T>(h.width(), cols, 2), place);
  const Index parts = (size + height - 1) / height;
  const Placed<W> partial(blocks * parts * terms, cols, place), sums(blocks * terms, cols, place);
  cuda::column_sums<T>(device(), h.view(), in.read(), height, partial.view());

  Matrix expected = Matrix::Zero(blocks * parts * terms, cols), total(blocks * terms, cols);
  for (Index b = 0; b < blocks; ++b)
    for (Index i = 0; i < size; ++i)
      for (Index k = 0; k < terms; ++k)
        expected.row((b * parts + i / height) * terms + k) +=
            h.unit_of(k, b)(i) * in.values().row(b * size + i);
  const double magnitude = in.values().norm();  // unit vectors
  CHECK(wrong<W>(partial.values(), expected, height + 8, magnitude) == "");
  CHECK(partial.surround_untouched());

  const Matrix summands = partial.values();
  cuda::sum_partials<W>(device(), partial.read(), parts, terms, sums.view());
  total.setZero();
  for (Index r = 0; r < blocks * parts * terms; ++r)
    total.row(r / (parts * terms) * terms + r % terms) += summands.row(r);
  CHECK(wrong<W>(sums.values(), total, parts + 8, summands.norm() * std::sqrt(double(parts))) ==
        "");
  CHECK(sums.surround_untouched());
  CHECK(in.untouched());
}

}  // namespace

TEST_CASE("columns of float in blocks of every height") { check_heights<float>(); }
TEST_CASE("columns of double in blocks of every height") { check_heights<double>(); }
TEST_CASE("columns of bfloat16 in blocks of every height") { check_heights<bfloat16>(); }

TEST_CASE("columns in the tallest blocks that shared memory holds, and one row more") {
  check_tallest<float>(99 << 10, 1, 768);  // 12 * 8 + 2 KiB
  check_tallest<float>(99 << 10, 2, 704);  // 11 * 8 + 4, and 12 * 8 + 4 is 1 KiB too many
  check_tallest<double>(99 << 10, 1, 768);
  check_tallest<bfloat16>(99 << 10, 1, 704);
  check_tallest<bfloat16>(48 << 10, 2, 320);  // 5 * 8 + 8 KiB, all there is
  check_tallest<float>(227 << 10, 1, 1792);
}

TEST_CASE("columns that do not suit vectors are left to two passes") {
  const TestReflection<float> h(1, 2, 8, 1);
  const Placed<float> in(random_matrix<float>(16, 32, 2)), out(16, 32);
  for (const Place& place : {pairs, odd_pointer, odd_stride}) {
    const Placed<float> odd(random_matrix<float>(16, 32, 2), place), odd_out(16, 32, place);
    check_refused<float>(h, odd.read(), out);
    check_refused<float>(h, in.read(), odd_out);
  }
  const Placed<float> ragged(random_matrix<float>(16, 30, 2)), ragged_out(16, 30);
  check_refused<float>(h, ragged.read(), ragged_out);
  const Placed<bfloat16> narrow(random_matrix<bfloat16>(16, 36, 2)), narrow_out(16, 36);
  check_refused<bfloat16>(h, narrow.read(), narrow_out);
}

TEST_CASE("sums down columns in chunks of rows") {
  for (const Place& place : {vectors, odd_pointer, odd_stride})
    for (Index terms : {1, 2})
      for (const Index cols : {1, 32, 33, 72, 140}) {
        check_sums<float>(terms, 3, 7, cols, 256, place);   // one chunk a block
        check_sums<float>(terms, 2, 100, cols, 33, place);  // the last one shorter
        check_sums<bfloat16>(terms, 2, 64, cols, 32, place);
        check_sums<double>(terms, 1, 300, cols, 20, place);  // more parts than warps add
      }
}

TEST_CASE("sums of parts that lie any number of rows apart") {
  for (const Index count : {1, 2, 7, 8, 9, 64, 65})
    for (const Index inner : {1, 2, 5}) {
      INFO(count << " parts, " << inner << " rows apart");
      const Index groups = 3, cols = 45;
      const Placed<float> partial(random_matrix<float>(groups * count * inner, cols, 1),
                                  odd_stride);
      const Placed<float> sums(groups * inner, cols, odd_pointer);
      cuda::sum_partials<float>(device(), partial.read(), count, inner, sums.view());
      Matrix expected = Matrix::Zero(groups * inner, cols);
      for (Index g = 0; g < groups; ++g)
        for (Index p = 0; p < count; ++p)
          expected.middleRows(g * inner, inner) +=
              partial.values().middleRows((g * count + p) * inner, inner);
      CHECK(wrong<float>(sums.values(), expected, count + 8,
                         partial.values().norm() * std::sqrt(double(count))) == "");
      CHECK(sums.surround_untouched());
    }
}
