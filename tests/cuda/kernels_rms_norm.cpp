// rms_norm_reflect.

#include "cuda/kernels.hpp"

using namespace test;
using Eigen::bfloat16;
namespace cuda = ether::detail::cuda;

namespace {

struct NormCase {
  Index rows, blocks, size, terms;
  double epsilon = 1e-5;
  Place place = vectors;
  bool in_place = false;
  double scale = 1;    // of x
  int odd = -1;        // H, x, z or gamma, alone at an odd address; -1: none
  bool slice = false;  // what one row of a weight in layout row_chunk sees
};

template <class T>
void check_norm(const NormCase& c) {
  using W = Wide<T>;
  INFO("(" << c.rows << ", " << c.blocks << " * " << c.size << "), " << c.terms
           << " terms, epsilon " << c.epsilon << ", " << c.place.name << ", in place " << c.in_place
           << ", scale " << c.scale << ", odd operand " << c.odd);
  const auto place = [&](int operand) { return operand == c.odd ? odd_pointer : c.place; };
  TestReflection<W> h(c.terms, c.blocks, c.size, 1, place(0));
  if (c.slice) h.first = 2 * c.blocks, h.period = 5;
  const Index width = h.width();
  MatrixOf<T> values = random_matrix<T>(c.rows, width, 2);
  for (Index i = 0; i < values.size(); ++i)
    values.data()[i] = static_cast<T>(static_cast<double>(values.data()[i]) * c.scale);
  const Placed<T> x(values, place(1)), other(c.rows, width, place(2));
  const Placed<T> gamma(random_matrix<T>(1, width, 3), place(3));
  const Placed<T>& z = c.in_place ? x : other;
  const auto epsilon = static_cast<W>(c.epsilon);
  REQUIRE(cuda::rms_norm_reflect<T>(device(), h.view(), x.read(), gamma.view().data, epsilon,
                                    z.view()));

  Matrix normed = to_double(values);
  for (Index r = 0; r < c.rows; ++r) {
    double squares = 0;
    for (Index i = 0; i < width; ++i) squares += normed(r, i) * normed(r, i);
    const double mean = squares / static_cast<double>(width);
    for (Index i = 0; i < width; ++i)
      normed(r, i) *= gamma.values()(0, i) / std::sqrt(mean + static_cast<double>(epsilon));
  }
  CHECK(wrong<T>(z.values(), h.rows(normed), h.roundings() + 2 * width + 10,
                 h.norm() * normed.norm()) == "");
  CHECK(z.surround_untouched());
  CHECK((c.in_place ? other : x).untouched());
  CHECK(gamma.untouched());
}

template <class T>
void check_sizes() {
  const Index full = full_vector<T>;
  for (Index terms : {0, 1, 2}) {
    for (const Index size : {full, 3 * full, 31 * full, 32 * full, 33 * full, 65 * full})
      for (Index blocks : {1, 3})
        check_norm<T>({3, blocks, size, terms, 1e-5, vectors, blocks == 3});
    for (const Place& place : {pairs, odd_pointer, odd_stride})
      for (const Index size : {1, 7, 32, 33, 300})
        check_norm<T>({3, size < 10 ? 6 : 2, size, terms, 1e-5, place, size % 2 == 0});
    check_norm<T>({2, 2, full + 1, terms});
    check_norm<T>({2, 1, 4096, terms, 1e-6});
    check_norm<T>({1, 1, 5000, terms, 1e-6, odd_stride});  // a single row: no stride
    check_norm<T>({2, 32, 40, terms, 1e-6, vectors, true});
  }
}

}  // namespace

TEST_CASE("norm and H of float in blocks of every size") { check_sizes<float>(); }
TEST_CASE("norm and H of double in blocks of every size") { check_sizes<double>(); }
TEST_CASE("norm and H of bfloat16 in blocks of every size") { check_sizes<bfloat16>(); }

TEST_CASE("norm and H where a single operand lies at an odd address") {
  for (int odd = 0; odd < 4; ++odd) check_norm<float>({3, 2, 20, 1, 1e-5, vectors, false, 1, odd});
}

TEST_CASE("norm and H where chunks of columns share blocks of H") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {1, 2}) {
      check_norm<float>({2, 6, 20, terms, 1e-5, place, false, 1, -1, true});
      check_norm<double>({2, 6, 300, terms, 1e-5, place, true, 1, -1, true});
    }
}

TEST_CASE("epsilon counts where a row is small, and is added to the mean") {
  for (Index terms : {0, 2})
    for (const double epsilon : {0.0, 1e-5, 0.5}) {
      check_norm<float>({3, 2, 40, terms, epsilon, vectors, false, 1e-3});
      check_norm<float>({3, 2, 40, terms, epsilon, odd_pointer, true, 1e3});
      check_norm<bfloat16>({3, 2, 40, terms, epsilon, vectors, false, 1e-2});
    }
}

TEST_CASE("a row of zeros has norm 0 and stays 0") {
  const TestReflection<float> h(2, 2, 40, 1);
  MatrixOf<float> values(2, 80);
  values.setZero();
  const Placed<float> x(values), gamma(random_matrix<float>(1, 80, 3)), z(2, 80);
  REQUIRE(cuda::rms_norm_reflect<float>(device(), h.view(), x.read(), gamma.view().data, 1e-6f,
                                        z.view()));
  CHECK(difference(z.values(), Matrix::Zero(2, 80), 0) == "");
}

TEST_CASE("norm and H in as many blocks as shared memory has room for, and one more") {
  for (Index terms : {0, 1, 2}) {
    // A block of one element is a segment: terms + 1 sums, 4 bytes each, of 12 KiB.
    const Launch where = device(2, 12 << 10);
    const Index most = (12 << 10) / (4 * (terms + 1));
    for (const Index blocks : {most, most + 1}) {
      const TestReflection<float> h(terms, blocks, 1, 1);
      const Placed<float> x(random_matrix<float>(1, blocks, 2)), z(1, blocks);
      const Placed<float> gamma(random_matrix<float>(1, blocks, 3));
      emulator::reset_statistics();
      CHECK(cuda::rms_norm_reflect<float>(where, h.view(), x.read(), gamma.view().data, 1e-6f,
                                          z.view()) == (blocks == most));
      CHECK(emulator::statistics.launches == (blocks == most ? 1 : 0));
      CHECK(z.untouched() == (blocks != most));
      CHECK(z.surround_untouched());
    }
  }
}

TEST_CASE("the bits of a normed row depend neither on its neighbours nor on the processors") {
  const TestReflection<float> h(2, 3, 136, 1);
  const Placed<float> x(random_matrix<float>(5, h.width(), 2)), all(5, h.width()),
      one(1, h.width());
  const Placed<float> gamma(random_matrix<float>(1, h.width(), 3));
  REQUIRE(cuda::rms_norm_reflect<float>(device(1), h.view(), x.read(), gamma.view().data, 1e-6f,
                                        all.view()));
  for (Index r = 0; r < 5; ++r) {
    REQUIRE(cuda::rms_norm_reflect<float>(device(132), h.view(), x.read().middle_rows(r, 1),
                                          gamma.view().data, 1e-6f, one.view()));
    CHECK(bit_difference<float>(one.read(), all.read().middle_rows(r, 1)) == "");
  }
}
