// Every barrier and every shuffle of every kernel is needed, and the emulator sees it if one is
// missing: the launch throws, or the result is another.

#include "../../bench/cuda/block_product.cuh"
#include "../../bench/cuda/householder_chain.cuh"
#include "cuda/kernels.hpp"

#include <functional>
#include <string>

using namespace test;
using Eigen::bfloat16;
namespace cuda = ether::detail::cuda;

namespace {

/// Makes its inputs, launches, and returns what the kernel wrote.
using Run = std::function<Matrix()>;

bool same_bits(const Matrix& a, const Matrix& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(double)) == 0;
}

bool noticed(const Run& run, const Matrix& right, const emulator::Faults& faults) {
  const emulator::ScopedFaults scope(faults);
  Matrix result;
  const std::string error = emulator::error_of([&] { result = run(); });
  return !error.empty() || !same_bits(result, right);
}

/// `barriers` that a thread comes to, and the shuffles of the first sum over lanes.
void check_faults(const Run& run, int barriers, int shuffles) {
  emulator::reset_statistics();
  const Matrix right = run();
  CHECK(emulator::statistics.most_barriers == barriers);
  CHECK(right.allFinite());
  CHECK_FALSE(noticed(run, right, {}));  // the same launch again: the same bits
  for (int n = 1; n <= barriers; ++n) {
    INFO("without barrier " << n);
    CHECK(noticed(run, right, {n, 0}));
  }
  for (int n = 1; n <= shuffles; ++n) {
    INFO("without lane 31 in shuffle " << n);
    CHECK(noticed(run, right, {0, n}));
  }
}

template <class T>
Matrix rows(Index count, Index terms, Index size, const Place& place) {
  const TestReflection<Wide<T>> h(terms, 1, size, 1, place);
  const Placed<T> in(random_matrix<T>(count, size, 2), place), out(count, size, place);
  cuda::reflect_rows<T, T>(device(1), h.view(), in.read(), out.view(), {}, {});
  return out.values();
}

template <class T>
Matrix grad(Index count, Index terms, Index size, const Place& place) {
  const TestReflection<Wide<T>> h(terms, 1, size, 1, place);
  const Placed<T> t(random_matrix<T>(count, size, 2), place),
      r(random_matrix<T>(count, size, 3), place);
  const Placed<Wide<T>> partial((count + 3) / 4 * terms, size, place);
  cuda::reflect_grad<T>(device(), h.view(), t.read(), r.read(), r.view(), 4, partial.view());
  Matrix both(partial.view().rows + count, size);
  both << partial.values(), r.values();
  return both;
}

template <class T>
Matrix columns(Index terms, Index size, Index cols) {
  const TestReflection<Wide<T>> h(terms, 1, size, 1);
  const Placed<T> in(random_matrix<T>(size, cols, 2)), out(size, cols);
  const bool done = cuda::reflect_columns<T>(device(), h.view(), in.read(), out.view());
  REQUIRE(done);
  return out.values();
}

template <class T>
Matrix sums_down(Index terms, Index cols) {
  const TestReflection<Wide<T>> h(terms, 2, 100, 1);
  const Placed<T> in(random_matrix<T>(200, cols, 2));
  const Placed<Wide<T>> partial(4 * terms, cols);
  cuda::column_sums<T>(device(), h.view(), in.read(), 64, partial.view());
  return partial.values();
}

template <class T>
Matrix gemv(Index tokens, Index terms, Index blocks, Index size) {
  const TestReflection<Wide<T>> h(terms, blocks, size, 1);
  const Placed<T> x(random_matrix<T>(tokens, h.width(), 2)), w(random_matrix<T>(40, h.width(), 3));
  const Placed<T> y(tokens, 40);
  const bool done =
      cuda::reflect_gemv<T>(device(), h.view(), x.read(), w.read(), nullptr, y.view());
  REQUIRE(done);
  return y.values();
}

template <class T>
Matrix norm(Index terms, Index blocks, Index size, const Place& place) {
  const TestReflection<Wide<T>> h(terms, blocks, size, 1, place);
  const Placed<T> x(random_matrix<T>(3, h.width(), 2), place), z(3, h.width(), place);
  const Placed<T> gamma(random_matrix<T>(1, h.width(), 3), place);
  const bool done =
      cuda::rms_norm_reflect<T>(device(), h.view(), x.read(), gamma.view().data, 1e-6f, z.view());
  REQUIRE(done);
  return z.values();
}

Matrix chain(Index count, Index rank, Index width, const Place& place) {
  const Placed<float> unit(random_matrix<float>(rank, width, 1), place);
  const Placed<float> x(random_matrix<float>(count, width, 2), place), z(count, width, place);
  const bool done = bench::householder_chain<float>(device(1), unit.read(), x.read(), z.view());
  REQUIRE(done);
  return z.values();
}

template <class T>
Matrix blocks(Index count, int processors) {
  const Placed<T> h(random_matrix<T>(64, 32, 1)), x(random_matrix<T>(count, 64, 2)), z(count, 64);
  const bool done = bench::block_product<T>(device(processors), h.read(), x.read(), z.view());
  REQUIRE(done);
  return z.values();
}

}  // namespace

TEST_CASE("reflect_rows needs its barriers and shuffles") {
  for (const Place& place : {vectors, odd_pointer})
    for (int terms : {1, 2}) {
      // 130 rows are 4 for each of 33 groups: a barrier for each, with two arrays in turn
      check_faults([=] { return rows<float>(130, terms, 516, place); }, 4, 4 * 5 * terms);
      check_faults([=] { return rows<float>(8, terms, 60, place); }, 0,
                   (place.left == vectors.left ? 4 : 5) * terms);  // 16 lanes, 32 lanes
    }
  check_faults([] { return rows<bfloat16>(70, 2, 1040, vectors); }, 2, 20);
  check_faults([] { return rows<bfloat16>(70, 1, 300, pairs); }, 2, 10);
}

TEST_CASE("reflect_grad needs its barriers and shuffles") {
  for (const Place& place : {vectors, odd_pointer})
    for (int terms : {1, 2}) {
      check_faults([=] { return grad<float>(11, terms, 516, place); }, 4, 4 * 10 * terms);
      check_faults([=] { return grad<float>(6, terms, 2052, place); }, 4, 4 * 10 * terms);
    }
  check_faults([] { return grad<bfloat16>(7, 2, 1040, vectors); }, 4, 20);
  check_faults([] { return grad<float>(4, 2, 60, vectors); }, 0, 16);
}

TEST_CASE("project_grad needs its barrier and shuffles") {
  for (const Index size : {40, 300})
    check_faults(
        [=] {
          const TestReflection<float> h(2, 2, size, 1);
          const Placed<float> sums(random_matrix<float>(2, h.width(), 2));
          const Placed<float> grads(random_matrix<float>(2, h.width(), 3));
          cuda::project_grad<float>(device(), h.view(), sums.read(), grads.view());
          return grads.values();
        },
        1, 5);
}

TEST_CASE("reflect_columns needs its barriers and shuffles") {
  for (int terms : {1, 2}) {
    check_faults([=] { return columns<float>(terms, 40, 36); }, 2, 2 * 4 * terms);
    check_faults([=] { return columns<float>(terms, 130, 36); }, 2, 2 * 4 * terms);
    check_faults([=] { return columns<bfloat16>(terms, 70, 64); }, 2, 2 * 8 * terms);
  }
}

TEST_CASE("sums down columns need their barriers and shuffles") {
  for (int terms : {1, 2})
    check_faults([=] { return sums_down<float>(terms, 32); }, 2, 2 * 4 * terms);
  // Single columns, one row for a warp. (With one term each thread reads back its own sum only.)
  check_faults([] { return sums_down<float>(2, 33); }, 2, 0);
  check_faults(
      [] {
        const Placed<float> partial(random_matrix<float>(40, 33, 2)), sums(2, 33);
        cuda::sum_partials<float>(device(), partial.read(), 20, 2, sums.view());
        return sums.values();
      },
      1, 0);
}

TEST_CASE("reflect_gemv needs its barriers and shuffles") {
  for (int terms : {1, 2}) {
    check_faults([=] { return gemv<float>(1, terms, 1, 1400); }, 2, 5 * terms);
    check_faults([=] { return gemv<float>(3, terms, 5, 136); }, 2, 5 * terms);
    check_faults([=] { return gemv<bfloat16>(8, terms, 1, 512); }, 2, 5 * terms);
    check_faults([=] { return gemv<float>(2, terms, 1, 12); }, 2, 5 * terms);
  }
}

TEST_CASE("rms_norm_reflect needs its barrier and shuffles") {
  for (const Place& place : {vectors, odd_pointer})
    for (int terms : {0, 1, 2}) {
      check_faults([=] { return norm<float>(terms, 3, 300, place); }, 1, 5 * (terms + 1));
      check_faults([=] { return norm<bfloat16>(terms, 1, 2600, place); }, 1, 5 * (terms + 1));
    }
}

TEST_CASE("householder_chain needs its barriers and shuffles") {
  check_faults([] { return chain(2, 3, 1300, vectors); }, 3, 3 * 5);
  check_faults([] { return chain(2, 3, 300, odd_pointer); }, 3, 3 * 5);
  check_faults([] { return chain(7, 2, 1300, vectors); }, 2, 2 * 5 * 3);  // three rows together
}

TEST_CASE("block_product needs its barrier") {
  check_faults([] { return blocks<float>(20, 1); }, 1, 0);
  check_faults([] { return blocks<bfloat16>(20, 132); }, 1, 0);
}
