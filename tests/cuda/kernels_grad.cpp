// reflect_grad and project_grad.

#include "cuda/kernels.hpp"

using namespace test;
using Eigen::bfloat16;
namespace cuda = ether::detail::cuda;

namespace {

enum class Out { none, apart, over_r };

struct GradCase {
  Index rows, blocks, size, terms, height;
  Place place = vectors;
  Out out = Out::none;
  bool slice = false;  // what one row of a weight in layout row_chunk sees
  int processors = 2;
};

/// partial and its bound: sum_rows (ŵ_k.t) r + (ŵ_k.r) t, chunk by chunk.
Matrix expected_partial(const GradCase& c, const Matrix& units, Index first, Index period,
                        const Matrix& t, const Matrix& r, double& magnitude) {
  Matrix sums = Matrix::Zero((c.rows + c.height - 1) / c.height * c.terms, t.cols());
  magnitude = 0;
  for (Index row = 0; row < c.rows; ++row)
    for (Index chunk = 0; chunk < c.blocks; ++chunk)
      for (Index k = 0; k < c.terms; ++k) {
        const Index column = chunk * c.size, own = (first + chunk) / period * c.size;
        const Eigen::RowVectorXd w = units.block(k, own, 1, c.size);
        const Eigen::RowVectorXd t_b = t.block(row, column, 1, c.size);
        const Eigen::RowVectorXd r_b = r.block(row, column, 1, c.size);
        sums.block(row / c.height * c.terms + k, column, 1, c.size) +=
            w.dot(t_b) * r_b + w.dot(r_b) * t_b;
        magnitude += 2 * t_b.norm() * r_b.norm();
      }
  return sums;
}

template <class T>
void check_grad(const GradCase& c) {
  using W = Wide<T>;
  INFO(c.rows << " rows, " << c.blocks << " * " << c.size << ", " << c.terms << " terms, chunks of "
              << c.height << ", " << c.place.name << ", out " << static_cast<int>(c.out)
              << ", slice " << c.slice << ", processors " << c.processors);
  TestReflection<W> h(c.terms, c.blocks, c.size, 1, c.place);
  if (c.slice) h.first = 2 * c.blocks, h.period = 5;
  if (c.slice) REQUIRE(h.block(0, c.blocks - 1) < c.blocks);
  const Placed<T> t(random_matrix<T>(c.rows, h.width(), 2), c.place);
  const Placed<T> r(random_matrix<T>(c.rows, h.width(), 3), c.place);
  const Placed<T> apart(c.rows, h.width(), c.place);
  const Placed<W> partial((c.rows + c.height - 1) / c.height * c.terms, h.width(), c.place);
  const MatrixView<T> out = c.out == Out::none    ? MatrixView<T>{}
                            : c.out == Out::apart ? apart.view()
                                                  : r.view();
  double magnitude = 0;
  const Matrix gradient = r.values();
  const Matrix expected =
      expected_partial(c, h.units, h.first, h.period, t.values(), gradient, magnitude);
  cuda::reflect_grad<T>(device(c.processors), h.view(), t.read(), r.read(), out, c.height,
                        partial.view());

  CHECK(wrong<W>(partial.values(), expected, 2 * c.size + 2 * c.height + 10, magnitude) == "");
  CHECK(partial.surround_untouched());
  if (c.out != Out::none)
    CHECK(wrong<T>(to_double(out), h.rows(gradient), h.roundings(), h.norm() * gradient.norm()) ==
          "");
  CHECK(r.surround_untouched());
  CHECK(apart.surround_untouched());
  CHECK((c.out == Out::apart || apart.untouched()));
  CHECK((c.out == Out::over_r || r.untouched()));
  CHECK(t.untouched());
}

/// Sizes on both sides of every threshold: 16 * full lanes of one vector, a warp that holds 64 *
/// full in registers, 256 lanes that hold 512 * full, and more; of single elements 128 and 2048.
template <class T>
void check_shapes(Index terms) {
  const Index full = full_vector<T>;
  for (const Index size : {full, 15 * full, 16 * full, 17 * full, 33 * full, 64 * full}) {
    check_grad<T>({11, 3, size, terms, 4, vectors, Out::apart});
    check_grad<T>({8, 2, size, terms, 8, vectors, Out::none});
  }
  for (const Index size : {65 * full, 256 * full, 257 * full, 512 * full, 513 * full, 800 * full}) {
    check_grad<T>({5, 1, size, terms, 2, vectors, Out::over_r});
    check_grad<T>({3, 2, size, terms, 3, vectors, Out::none});
  }
  for (const Place& place : {pairs, odd_pointer, odd_stride}) {
    for (const Index size : {1, 5, 31, 32, 33, 100, 128})
      check_grad<T>({9, 3, size, terms, 4, place, size % 2 == 0 ? Out::over_r : Out::apart});
    for (const Index size : {129, 256, 700, 2047, 2048, 2049, 3000})
      check_grad<T>({5, 1, size, terms, 2, place, size % 2 == 0 ? Out::over_r : Out::none});
  }
  for (const Index size : {full + 1, 64 * full + 1, Index{2049}})
    check_grad<T>({4, 2, size, terms, 3, vectors, Out::apart});
}

template <class W>
void check_project(const TestReflection<W>& h, const Place& place) {
  INFO(h.terms << " terms, " << h.blocks << " * " << h.size << ", first " << h.first << ", period "
               << h.period << ", " << place.name);
  const Placed<W> sums(random_matrix<W>(h.terms, h.width(), 5), place);
  const Placed<W> grads(random_matrix<W>(h.terms, h.width(), 6), place);
  for (Index b = 0; b < h.blocks; ++b) grads.view()(0, b * h.size) = W(-0.0);  // + 0 would be 0
  const MatrixOf<W> before = grads.host();
  Matrix expected = to_double(before), magnitudes = expected.cwiseAbs();
  std::vector<bool> seen(static_cast<std::size_t>(h.blocks), false);
  for (Index k = 0; k < h.terms; ++k)
    for (Index b = 0; b < h.blocks; ++b) {
      Eigen::RowVectorXd g = Eigen::RowVectorXd::Zero(h.size), absolute = g;
      for (Index chunk = 0; chunk < h.blocks; ++chunk)
        if (h.block(0, chunk) == b) {
          g += sums.values().block(k, chunk * h.size, 1, h.size);
          absolute += sums.values().block(k, chunk * h.size, 1, h.size).cwiseAbs();
          seen[static_cast<std::size_t>(b)] = true;
        }
      const double factor = h.coefficient_of(k, b) * h.inverse_lengths(k, b);
      const Eigen::RowVectorXd w = h.unit_of(k, b);
      expected.block(k, b * h.size, 1, h.size) += factor * (g - g.dot(w) * w);
      magnitudes.block(k, b * h.size, 1, h.size) +=
          std::abs(factor) * (absolute + Eigen::RowVectorXd::Constant(h.size, absolute.norm()));
    }
  cuda::project_grad<W>(device(), h.view(), sums.read(), grads.view());
  CHECK(wrong<W>(grads.values(), expected, h.size + h.blocks + 10, magnitudes.norm()) == "");
  CHECK(grads.surround_untouched());
  CHECK(sums.untouched());
  for (Index b = 0; b < h.blocks; ++b)
    if (!seen[static_cast<std::size_t>(b)])
      CHECK(bit_difference<W>(grads.read().block(0, b * h.size, h.terms, h.size),
                              MatrixView<const W>(before).block(0, b * h.size, h.terms, h.size)) ==
            "");
}

}  // namespace

TEST_CASE("gradient sums of float in every shape of block and address") {
  for (Index terms : {1, 2}) check_shapes<float>(terms);
}
TEST_CASE("gradient sums of double in every shape of block and address") {
  for (Index terms : {1, 2}) check_shapes<double>(terms);
}
TEST_CASE("gradient sums of bfloat16 in every shape of block and address") {
  for (Index terms : {1, 2}) check_shapes<bfloat16>(terms);
}

TEST_CASE("gradient sums of few rows, of many, and of a row alone") {
  for (const Index rows : {1, 7, 8, 9, 40})
    for (const Index height : {1, 3, 8, 64})
      for (Out out : {Out::none, Out::apart, Out::over_r}) {
        check_grad<float>({rows, 2, 24, 2, height, vectors, out});
        check_grad<float>({rows, 3, 130, 1, height, odd_pointer, out});
        if (rows < 10) check_grad<float>({rows, 1, 2060, 2, height, vectors, out});
      }
}

TEST_CASE("gradient sums where a single operand lies at an odd address") {
  const GradCase c{3, 2, 20, 1, 2};
  for (int odd = 0; odd < 5; ++odd) {
    INFO("operand " << odd);
    const auto place = [&](int operand) { return operand == odd ? odd_pointer : vectors; };
    const TestReflection<float> h(1, 2, 20, 1, place(0));
    const Placed<float> t(random_matrix<float>(3, 40, 2), place(1)), out(3, 40, place(3));
    const Placed<float> r(random_matrix<float>(3, 40, 3), place(2)), partial(2, 40, place(4));
    double magnitude = 0;
    const Matrix expected = expected_partial(c, h.units, 0, 1, t.values(), r.values(), magnitude);
    cuda::reflect_grad<float>(device(), h.view(), t.read(), r.read(), out.view(), 2,
                              partial.view());
    CHECK(wrong<float>(partial.values(), expected, 60, magnitude) == "");
    CHECK(wrong<float>(out.values(), h.rows(r.values()), h.roundings(),
                       h.norm() * r.values().norm()) == "");
  }
}

TEST_CASE("gradient sums where chunks of columns share blocks of H") {
  for (const Place& place : {vectors, odd_stride})
    for (const Index size : {8, 520}) {
      check_grad<float>({5, 6, size, 2, 2, place, Out::apart, true});
      check_grad<bfloat16>({5, 6, size, 1, 2, place, Out::over_r, true});
    }
}

TEST_CASE("the bits of gradient sums do not depend on the number of processors") {
  const TestReflection<float> h(2, 2, 520, 1);
  const Placed<float> t(random_matrix<float>(50, h.width(), 2)),
      r(random_matrix<float>(50, h.width(), 3));
  const auto partial = [&](int processors) {
    const Placed<float> sums(2 * 7, h.width());
    cuda::reflect_grad<float>(device(processors), h.view(), t.read(), r.read(), {}, 8, sums.view());
    return sums.host();
  };
  const MatrixOf<float> one = partial(1), many = partial(132);
  CHECK(bit_difference<float>(one, many) == "");
}

TEST_CASE("gradients are projected block by block and added") {
  for (const Place& place : {vectors, odd_pointer})
    for (Index terms : {1, 2})
      for (const Index size : {1, 7, 255, 256, 257, 1000}) {
        check_project(TestReflection<float>(terms, 3, size, 1), place);
        check_project(TestReflection<double>(terms, 1, size, 1, odd_stride), place);
      }
}

TEST_CASE("gradients of a slice where several chunks share a block and others have none") {
  // Row o of a weight of `out` rows sees, in chunk c of 6, the block (6 o + c) / out.
  for (Index terms : {1, 2})
    for (const Index size : {4, 300})
      for (const Index out : {1, 2, 4, 9, 24})
        for (Index o = 0; o < out; ++o) {
          TestReflection<float> h(terms, 6, size, 1);
          h.first = 6 * o, h.period = out;
          check_project(h, vectors);
        }
}
