// reflect_gemv.

#include "cuda/kernels.hpp"

using namespace test;
using Eigen::bfloat16;
namespace cuda = ether::detail::cuda;

namespace {

struct GemvCase {
  Index tokens, out, blocks, size, terms;
  bool bias = true;
  bool slice = false;  // what one row of a weight in layout row_chunk sees
  int processors = 2;
};

template <class T>
void check_gemv(const GemvCase& c) {
  using W = Wide<T>;
  INFO(c.tokens << " tokens, (" << c.out << ", " << c.blocks << " * " << c.size << "), " << c.terms
                << " terms, bias " << c.bias << ", slice " << c.slice);
  TestReflection<W> h(c.terms, c.blocks, c.size, 1);
  if (c.slice) h.first = c.blocks, h.period = 3;
  if (c.slice) REQUIRE(h.block(0, c.blocks - 1) < c.blocks);
  const Placed<T> x(random_matrix<T>(c.tokens, h.width(), 2));
  const Placed<T> w(random_matrix<T>(c.out, h.width(), 3));
  const Placed<T> bias(random_matrix<T>(1, c.out, 4), odd_pointer);
  const Placed<T> y(c.tokens, c.out, odd_stride);  // written element by element
  REQUIRE(cuda::reflect_gemv<T>(device(c.processors), h.view(), x.read(), w.read(),
                                c.bias ? bias.view().data : nullptr, y.view()));

  // From the third token on x H is rounded to T on its way through shared memory.
  const Matrix z = h.rows(x.values()), weight = w.values();
  Matrix expected = (c.tokens <= 2 ? z : rounded<T>(z)) * weight.transpose();
  if (c.bias) expected.rowwise() += bias.values().row(0);
  const double magnitude = h.norm() * x.values().norm() * weight.norm() + bias.values().norm();
  const Index roundings = h.roundings() + 2 * h.width() + 2;
  if (std::is_same_v<T, W> || c.tokens <= 2) {
    CHECK(wrong<T>(y.values(), expected, roundings, magnitude) == "");
  } else {  // an error in z, independent from element to element, times a column of w each
    const double z_error =
        error_of_rounding<T>(tolerance<W, W>(h.roundings(), h.norm() * x.values().norm(), 0), z);
    CHECK(difference(y.values(), expected,
                     tolerance<W, T>(roundings, magnitude, expected.norm()) +
                         z_error * weight.colwise().norm().maxCoeff()) == "");
  }
  CHECK(y.surround_untouched());
  CHECK(x.untouched());
  CHECK(w.untouched());
}

template <class T>
void check_tokens() {
  const Index full = full_vector<T>;
  for (Index terms : {1, 2})
    for (Index tokens = 1; tokens <= 8; ++tokens) {
      check_gemv<T>({tokens, 37, 3, 5 * full, terms, tokens % 2 == 0});
      check_gemv<T>({tokens, 33, 1, 97 * full, terms, tokens % 3 != 0});
      check_gemv<T>({tokens, 5, 4, 32 * full, terms, tokens % 2 != 0, true});
    }
}

/// False, and nothing done.
template <class T>
void check_refused(const Reflection<Wide<T>>& h, MatrixView<const T> x, MatrixView<const T> w,
                   const Launch& where = device()) {
  const Placed<T> y(x.rows, w.rows);
  emulator::reset_statistics();
  CHECK_FALSE(cuda::reflect_gemv<T>(where, h, x, w, nullptr, y.view()));
  CHECK(emulator::statistics.launches == 0);
  CHECK(y.untouched());
}

}  // namespace

TEST_CASE("gemv of float with 1 to 8 tokens") { check_tokens<float>(); }
TEST_CASE("gemv of double with 1 to 8 tokens") { check_tokens<double>(); }
TEST_CASE("gemv of bfloat16 with 1 to 8 tokens") { check_tokens<bfloat16>(); }

TEST_CASE("gemv of bfloat16 does not round one or two tokens before the product") {
  const TestReflection<float> h(1, 1, 16, 1);
  const Placed<bfloat16> w(random_matrix<bfloat16>(600, 16, 2));
  for (const Index tokens : {1, 2}) {
    const Placed<bfloat16> x(random_matrix<bfloat16>(tokens, 16, 3)), y(tokens, 600);
    REQUIRE(
        cuda::reflect_gemv<bfloat16>(device(), h.view(), x.read(), w.read(), nullptr, y.view()));
    const Matrix z = h.rows(x.values()), weight = w.values().transpose();
    const double magnitude = h.norm() * x.values().norm() * weight.norm();
    CHECK(wrong<bfloat16>(y.values(), z * weight, h.roundings() + 32, magnitude) == "");
    CHECK(wrong<bfloat16>(y.values(), rounded<bfloat16>(z) * weight, h.roundings() + 32,
                          magnitude) != "");
  }
}

TEST_CASE("gemv with any number of weight rows and of columns") {
  for (const Index tokens : {1, 2, 3, 8})
    for (const Index out : {1, 15, 16, 17, 31, 32, 33, 70}) {
      check_gemv<float>({tokens, out, 2, 12, 1});
      check_gemv<bfloat16>({tokens, out, 3, 88, 2, false});
    }
  for (const Index size : {4, 124, 128, 132, 252, 256, 260, 516}) {
    check_gemv<float>({1, 18, 1, size, 1});
    check_gemv<float>({3, 18, 2, size, 2});
  }
}

TEST_CASE("gemv with as many tokens and columns as shared memory holds, and one vector more") {
  // Half of 99 KiB for 8 (2 in + 4 * segments) bytes: 12 segments of 256 are 49,536 bytes; 3128
  // columns and a 13th segment 50,464; 3136 columns 50,592; 3144 columns 50,720 are too many.
  check_gemv<bfloat16>({8, 9, 1, 3136, 1});
  const TestReflection<float> h(1, 1, 3144, 1);
  const Placed<bfloat16> x(random_matrix<bfloat16>(8, 3144, 2)),
      w(random_matrix<bfloat16>(3, 3144, 3));
  check_refused<bfloat16>(h.view(), x.read(), w.read());
  check_gemv<bfloat16>({4, 9, 1, 3144, 1});

  const TestReflection<float> small(2, 400, 4, 1);  // a segment for each block of 4 elements
  const Placed<float> v(random_matrix<float>(2, 1600, 2)), m(random_matrix<float>(3, 1600, 3));
  check_refused<float>(small.view(), v.read(), m.read(), device(2, 32 << 10));
  check_gemv<float>({2, 3, 400, 4, 2});
}

TEST_CASE("gemv leaves to others what does not suit it") {
  const TestReflection<float> h(1, 2, 16, 1);
  const Placed<float> x(random_matrix<float>(2, 32, 2)), w(random_matrix<float>(5, 32, 3));
  const Placed<float> nine(random_matrix<float>(9, 32, 2));
  check_refused<float>(h.view(), nine.read(), w.read());
  check_refused<float>(ether::identity<float>(32), x.read(), w.read());
  for (const Place& place : {pairs, odd_pointer, odd_stride}) {
    const Placed<float> odd_x(x.host(), place), odd_w(w.host(), place);
    check_refused<float>(h.view(), odd_x.read(), w.read());
    check_refused<float>(h.view(), x.read(), odd_w.read());
  }
  const TestReflection<float> odd_unit(2, 2, 16, 1, odd_stride), odd_size(1, 2, 18, 1);
  check_refused<float>(odd_unit.view(), x.read(), w.read());
  const Placed<float> x_36(random_matrix<float>(2, 36, 2)), w_36(random_matrix<float>(5, 36, 3));
  check_refused<float>(odd_size.view(), x_36.read(), w_36.read());
  auto of_rows = h.view();
  of_rows.step = 2, of_rows.period = 5;
  check_refused<float>(of_rows, x.read(), w.read());
  const TestReflection<float> twelve(1, 2, 12, 1);  // 12 is no multiple of 8
  const Placed<bfloat16> x_24(random_matrix<bfloat16>(2, 24, 2)),
      w_24(random_matrix<bfloat16>(5, 24, 3));
  check_refused<bfloat16>(twelve.view(), x_24.read(), w_24.read());
}

TEST_CASE("the bits of a token in gemv do not depend on the tokens beside it") {
  const TestReflection<float> h(2, 2, 136, 1);
  const MatrixOf<float> values = random_matrix<float>(8, h.width(), 2);
  const Placed<float> x(values), w(random_matrix<float>(21, h.width(), 3)), y(8, 21);
  REQUIRE(cuda::reflect_gemv<float>(device(), h.view(), x.read(), w.read(), nullptr, y.view()));
  for (Index tokens = 1; tokens < 8; ++tokens) {
    const Placed<float> fewer(tokens, 21);
    REQUIRE(cuda::reflect_gemv<float>(device(132), h.view(), x.read().middle_rows(0, tokens),
                                      w.read(), nullptr, fewer.view()));
    CHECK(bit_difference<float>(fewer.read(), y.read().middle_rows(0, tokens)) == "");
  }
}
