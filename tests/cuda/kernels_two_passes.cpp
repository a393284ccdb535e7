// The operations that are put together of several kernels: columns in two passes, both sides at
// once, and what is cut into panels.

#include "cuda/kernels.hpp"

#include "cuda/emulated_backend.hpp"

using namespace test;
using Eigen::bfloat16;

namespace {

/// Through the backend, which takes one pass where it can: `launches` says which way it went.
template <class T, class A, class B>
void check_columns(Index terms, Index blocks, Index size, Index cols, const Place& place,
                   bool in_place, std::uint64_t launches) {
  INFO(terms << " terms, (" << blocks << " * " << size << ", " << cols << "), " << place.name);
  const TestReflection<Wide<T>> h(terms, blocks, size, 1);
  const Placed<A> in(random_matrix<A>(h.width(), cols, 2), place);
  const Placed<B> other(h.width(), cols, place);
  MatrixView<B> out = other.view();
  if constexpr (std::is_same_v<A, B>)
    if (in_place) out = in.view();
  const Matrix x = in.values();
  EmulatedContext ctx;
  emulator::reset_statistics();
  EmulatedBackend<T>::transform(ctx, ether::identity<Wide<T>>(cols), h.view(), in.read(), out);
  CHECK(emulator::statistics.launches == launches);
  CHECK(wrong<B>(to_double(out), h.columns(x), h.roundings() + size / 4, h.norm() * x.norm()) ==
        "");
  CHECK(in.surround_untouched());
  CHECK(other.surround_untouched());
  CHECK((in_place ? other.untouched() : in.untouched()));
}

template <class T>
void check_both(const TestReflection<Wide<T>>& h_in, const TestReflection<Wide<T>>& h_out,
                const Place& place, bool in_place) {
  const Index rows = h_out.width(), cols = h_in.width();
  INFO("(" << h_out.blocks << " * " << h_out.size << ", " << h_in.blocks << " * " << h_in.size
           << "), " << place.name << ", in place " << in_place);
  const Placed<T> in(random_matrix<T>(rows, cols, 3), place), other(rows, cols, place);
  const Placed<T>& out = in_place ? in : other;
  const Matrix x = in.values();
  EmulatedContext ctx;
  EmulatedBackend<T>::transform(ctx, h_in.view(), h_out.view(), in.read(), out.view());
  CHECK(wrong<T>(out.values(), h_out.columns(h_in.rows(x)), h_in.roundings() + h_out.roundings(),
                 h_in.norm() * h_out.norm() * x.norm()) == "");
  CHECK(out.surround_untouched());
  CHECK((in_place ? other : in).untouched());
}

// Launches: a block taller than column_sums_height is summed in parts.
constexpr std::uint64_t one_pass = 1, two_passes = 2, in_parts = 3;

}  // namespace

TEST_CASE("columns take one pass where they can, and two where they must") {
  check_columns<float, float, float>(1, 2, 65, 40, vectors, false, one_pass);
  check_columns<float, float, float>(1, 2, 65, 40, odd_pointer, false, two_passes);
  check_columns<float, float, float>(2, 2, 65, 37, vectors, true, two_passes);
  check_columns<float, float, float>(1, 1, 769, 40, vectors, false, in_parts);
  check_columns<float, float, float>(2, 2, 1030, 36, vectors, true, in_parts);
  check_columns<double, double, double>(2, 1, 800, 13, odd_stride, true, in_parts);
  check_columns<bfloat16, bfloat16, bfloat16>(1, 3, 705, 24, vectors, true, in_parts);
  check_columns<bfloat16, bfloat16, bfloat16>(2, 5, 40, 33, pairs, true, two_passes);
}

TEST_CASE("columns from one type to another take two passes") {
  for (Index terms : {1, 2})
    for (const Place& place : {vectors, odd_pointer}) {
      check_columns<bfloat16, bfloat16, float>(terms, 3, 20, 40, place, false, two_passes);
      check_columns<bfloat16, float, bfloat16>(terms, 1, 300, 33, place, false, in_parts);
    }
}

TEST_CASE("both sides of a weight in two readings") {
  for (const Place& place : {vectors, odd_stride})
    for (Index terms : {1, 2})
      for (bool in_place : {false, true}) {
        const TestReflection<float> h_in(terms, 3, 12, 1), h_out(3 - terms, 5, 9, 2);
        check_both<float>(h_in, h_out, place, in_place);
        const TestReflection<float> wide(terms, 1, 516, 1), tall(terms, 2, 270, 2);
        check_both<float>(wide, h_out, place, in_place);
        check_both<float>(h_in, tall, place, in_place);
        check_both<bfloat16>(wide, h_out, place, in_place);
      }
}

TEST_CASE("both sides of a weight whose rows see different blocks") {
  for (const Place& place : {vectors, odd_stride})
    for (bool in_place : {false, true}) {
      TestReflection<float> h_in(2, 4, 8, 1), h_out(1, 3, 15, 2);
      h_in.step = 4, h_in.period = h_out.width();
      check_both<float>(h_in, h_out, place, in_place);
      check_both<bfloat16>(h_in, h_out, place, in_place);
    }
}

// A panel has 16 MiB.

TEST_CASE("blocks that do not fit into a panel together") {
  const ScopedOrders once(1);
  const TestReflection<double> h_in(1, 1, 65536, 1), h_out(1, 3, 16, 2);  // 8 MiB a block
  check_both<double>(h_in, h_out, vectors, true);
}

TEST_CASE("a block that does not fit into a panel") {
  const ScopedOrders once(1);
  // 17 MiB, 256 columns at a time: 256 and 17
  check_columns<double, double, double>(1, 1, 8192, 273, odd_stride, true, 2 * in_parts);
}

TEST_CASE("columns without vectors are a copy") {
  EmulatedContext ctx;
  const Placed<float> in(random_matrix<float>(5, 12, 1));
  const Placed<float> columns(5, 12);
  using Backend = EmulatedBackend<float>;
  Backend::transform(ctx, ether::identity<float>(12), ether::identity<float>(5), in.read(),
                     columns.view());
  CHECK(to_double(columns.view()) == in.values());
}
