/// Contexts: the caller's stream, handle and workspace; switches; RMSNorm with H.

#include "cuda/cuda_types.hpp"

#include "support/fixture.hpp"

namespace {

using namespace test;
using Catch::Matchers::ContainsSubstring;
using ether::detail::cuda::check;
using T = __nv_bfloat16;
using Backend = ether::CudaBackend<T>;

struct Handle {
  Handle() { check(cublasCreate(&handle), "cublasCreate"); }
  ~Handle() { cublasDestroy(handle); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cublasHandle_t handle = nullptr;
};

std::size_t free_memory() {
  std::size_t free = 0, total = 0;
  check(cudaDeviceSynchronize(), "synchronize");
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

Case wide(Index tokens) {
  Case c{{}, 512, 384, tokens, 0};
  c.config.sides = Sides::both;
  c.config.input_blocks = 3;
  c.config.output_blocks = 4;
  return c;
}

/// Everything a layer computes, in one list of bits.
template <class B>
std::vector<float> all_results(ether::CudaContext& ctx, Fixture<B>& f, const Case& c) {
  DeviceMatrix<B, T> y(ctx, c.tokens, c.out, 0), grad_x(ctx, c.tokens, c.in, 0);
  DeviceMatrix<B, T> merged(ctx, c.out, c.in, 0);
  auto grads = Adapter<float>::zeros_like(f.adapter);
  f.layer.forward(ctx, f.x.view(), y.view());
  f.layer.backward(ctx, f.x.view(), f.grad_y.view(), grad_x.view(), grads);
  f.layer.merge(ctx, merged.view());
  std::vector<float> all(grads.data(), grads.data() + grads.size());
  for (const Matrix& m : {y.values(), grad_x.values(), merged.values()})
    for (Index i = 0; i < m.size(); ++i) all.push_back(static_cast<float>(m.data()[i]));
  return all;
}

}  // namespace

TEST_CASE("a Context of the caller's handle and workspace computes the same") {
  const Handle handle;
  const Case c = wide(50);
  ether::CudaContext own;
  Fixture<Backend> f(own, c);
  const auto expected = all_results(own, f, c);
  const std::size_t bytes = 2 * own.blas_bytes() + (std::size_t{8} << 20);
  const auto workspace = ether::detail::cuda::device_bytes(bytes);
  ether::CudaContext given(nullptr, handle.handle, workspace.get(), bytes);
  CHECK(all_results(given, f, c) == expected);

  ether::CudaContext little(nullptr, handle.handle, workspace.get(), 4096);
  DeviceMatrix<Backend, T> y(own, c.tokens, c.out, 0);
  CHECK_THROWS_WITH(f.layer.forward(little, f.x.view(), y.view()),
                    ContainsSubstring("needs 38400 bytes of workspace") &&
                        ContainsSubstring("was given 2048 bytes"));
}

TEST_CASE("after the first call of a size nothing is allocated on the device") {
  ether::CudaContext ctx;
  for (Index tokens : {3, 200}) {
    const Case c = wide(tokens);
    Fixture<Backend> f(ctx, c);
    DeviceMatrix<Backend, T> y(ctx, c.tokens, c.out, 0);
    f.layer.forward(ctx, f.x.view(), y.view());
    f.layer.set_adapter(ctx, f.adapter);
    const std::size_t before = free_memory();
    for (int i = 0; i < 10; ++i) {
      f.layer.forward(ctx, f.x.view(), y.view());
      f.layer.set_adapter(ctx, f.adapter);
    }
    CHECK(free_memory() >= before);  // in steps of what the driver takes; see also capture.cpp
  }
}

TEST_CASE("switches change the way, not the result") {
  for (Index tokens : {1, 2, 5, 8, 64}) {
    const Case c = wide(tokens);
    ether::CudaContext ctx, dependent, separate;
    dependent.set_dependent_launch(true);
    separate.set_fused_gemv(false);
    Fixture<Backend> f(ctx, c);
    CHECK(all_results(dependent, f, c) == all_results(ctx, f, c));
    DeviceMatrix<Backend, T> y(ctx, tokens, c.out, 0);
    f.layer.forward(separate, f.x.view(), y.view());
    const Matrix expected = f.oracle.forward(to_double(f.host_x), to_double(f.host_bias));
    const double magnitude = to_double(f.host_x).norm() * f.weight_magnitude();
    CHECK(difference(y.values(), expected,
                     layer_tolerance<Backend>(f.roundings(), magnitude, expected.norm())) == "");
  }
}

TEST_CASE("RMSNorm and H in one kernel") {
  ether::CudaContext ctx;
  for_each_case([&](const Case& c) {
    if (c.config.layout == BlockLayout::row_chunk) return;
    Fixture<Backend> f(ctx, c);
    const ether::PreparedAdapter<Backend> prepared(ctx, f.adapter);
    const auto host_gamma = random_matrix<T>(1, c.in, 6);
    DeviceMatrix<Backend, T> gamma(ctx, host_gamma, 0), z(ctx, c.tokens, c.in, c.pad);
    const double epsilon = 1e-5;
    ether::rms_norm_reflect_input<T>(ctx, prepared, f.x.view(), gamma.view().data, epsilon,
                                     z.view());
    Matrix normed = to_double(f.host_x);
    for (Index r = 0; r < normed.rows(); ++r)
      normed.row(r) = normed.row(r).cwiseProduct(to_double(host_gamma).row(0)) /
                      std::sqrt(normed.row(r).squaredNorm() / double(c.in) + epsilon);
    Oracle square = f.oracle;  // W = I, no output side: its merged weight is H_in
    square.weight = Matrix::Identity(c.in, c.in);
    const Matrix expected = normed * square.weight_in();
    CHECK(difference(z.values(), expected,
                     tolerance<float, T>(f.roundings(), f.oracle.h_norm() * normed.norm(),
                                         expected.norm())) == "");
    CHECK(z.surround_untouched());
  });
}
