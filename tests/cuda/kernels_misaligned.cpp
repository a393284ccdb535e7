// Kernels at addresses that do not suit their vectors, which their launchers never give them: the
// emulator sees every one.

#include "cuda/kernels.hpp"

using namespace test;
namespace cuda = ether::detail::cuda;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Two views of a matrix, at an address for vectors and one element further.
template <class T>
struct Two {
  Two(Index rows, Index cols, std::uint64_t seed)
      : good(random_matrix<T>(rows, cols, seed)), odd(good.host(), odd_pointer) {}
  MatrixView<T> view(bool misaligned) const { return misaligned ? odd.view() : good.view(); }

  Placed<T> good, odd;
};

/// `launch` is given the number of the argument that is misaligned; with -1 none is.
template <class Launcher>
void check_arguments(int count, const Launcher& launch) {
  CHECK(emulator::error_of([&] { launch(-1); }) == "");
  for (int odd = 0; odd < count; ++odd) {
    INFO("argument " << odd);
    CHECK_THAT(emulator::error_of([&] { launch(odd); }), ContainsSubstring("misaligned access"));
  }
}

constexpr Index rows = 3, size = 40;

struct Matrices {
  const Two<float> a{rows, size, 1}, b{rows, size, 2}, c{rows, size, 3}, d{2, size, 4};
};

/// H of which the unit vectors are misaligned, or not.
struct TwoReflections {
  explicit TwoReflections(Index height)
      : good(1, 1, height, 5), odd(1, 1, height, 5, odd_pointer) {}
  Reflection<float> view(bool misaligned) const { return misaligned ? odd.view() : good.view(); }

  TestReflection<float> good, odd;
};

}  // namespace

TEST_CASE("reflect_rows_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(size);
  check_arguments(5, [&](int odd) {
    const MatrixView<float> ones = m.d.view(false).block(0, 0, 1, rows);
    const cuda::ColumnShare<float> share{1, rows, ones, ones, m.d.view(odd == 4)};
    cuda::launch<cuda::reflect_rows_kernel<float, float, 1, cuda::RowShape<16, 4>>>(
        device(), dim3(1), 128, 0, h.view(odd == 0), m.a.view(odd == 1), m.b.view(odd == 2),
        m.c.view(odd == 3), share, Index{1});
  });
}

TEST_CASE("reflect_grad_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(size);
  const Two<float> partial(1, size, 6);
  check_arguments(5, [&](int odd) {
    cuda::launch<cuda::reflect_grad_kernel<float, 1, cuda::GradShape<16, 4, 1>>>(
        device(), dim3(1), 128, 0, h.view(odd == 0), m.a.view(odd == 1), m.b.view(odd == 2),
        m.c.view(odd == 3), rows, partial.view(odd == 4));
  });
}

TEST_CASE("reflect_columns_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(rows);  // read one element at a time
  check_arguments(2, [&](int odd) {
    cuda::launch<cuda::reflect_columns_kernel<float, 1, cuda::TileShape<128, 8, 4>>>(
        device(), dim3(2), 128, 2048, h.view(true), m.a.view(odd == 0), m.b.view(odd == 1));
  });
}

TEST_CASE("column_sums_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(rows);
  const Two<float> partial(1, size, 6);
  check_arguments(2, [&](int odd) {
    cuda::launch<cuda::column_sums_kernel<float, 1, cuda::TileShape<256, 8, 4>>>(
        device(), dim3(2), 256, 0, h.view(true), m.a.view(odd == 0), rows, partial.view(odd == 1));
  });
}

TEST_CASE("reflect_gemv_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(size);
  const Two<float> y(2, rows, 6);
  check_arguments(3, [&](int odd) {
    const float* const bias = nullptr;
    cuda::launch<cuda::reflect_gemv_kernel<float, 2, 1, 2>>(device(), dim3(1), 256, 1024,
                                                            h.view(odd == 0), m.d.view(odd == 1),
                                                            m.a.view(odd == 2), bias, y.view(true));
  });
}

TEST_CASE("rms_norm_kernel at odd addresses") {
  const Matrices m;
  const TwoReflections h(size);
  check_arguments(4, [&](int odd) {
    const float* const gamma = m.d.view(odd == 3).data;
    cuda::launch<cuda::rms_norm_kernel<float, 1, 4>>(device(), dim3(rows), 256, 1024,
                                                     h.view(odd == 0), m.a.view(odd == 1), gamma,
                                                     1e-6f, m.b.view(odd == 2));
  });
}

TEST_CASE("rows one element further apart than vectors allow") {
  const Matrices m;
  const TwoReflections h(size);
  const Placed<float> x(random_matrix<float>(rows, size, 1), odd_stride);
  CHECK_THAT(emulator::error_of([&] {
               cuda::launch<cuda::reflect_rows_kernel<float, float, 1, cuda::RowShape<16, 4>>>(
                   device(), dim3(1), 128, 0, h.view(false), x.view(), m.b.view(false),
                   MatrixView<float>{}, cuda::ColumnShare<float>{}, Index{1});
             }),
             ContainsSubstring("misaligned access"));
}
