// Banks on the CPU.

#include "bank_conformance.hpp"

namespace {

using ether::Index;
using test::Sides;
using test::Variant;

ETHER_BANK_CONFORMANCE(ether::EigenBackend<float>, "eigen_float")
ETHER_BANK_CONFORMANCE(ether::EigenBackend<double>, "eigen_double")
ETHER_BANK_CONFORMANCE(ether::EigenBackend<Eigen::bfloat16>, "eigen_bfloat16")

TEST_CASE("banks of 16-bit vectors", "[bank]") {
  test::test_bank_forward<ether::EigenBackend<float>, Eigen::half>();
  test::test_bank_forward<ether::EigenBackend<Eigen::bfloat16>, Eigen::bfloat16>();
  test::test_bank_slots<ether::EigenBackend<float>, Eigen::half>();
}

template <class T>
void check_threads() {
  using Backend = ether::EigenBackend<T>;
  ether::EigenContext one(1), three(3);
  const test::BankFixture<Backend> f(one, 132, 270, 70, Sides::both, Variant::ether_plus);
  CHECK(test::bit_difference<T>(f.forward(one, f.ids), f.forward(three, f.ids)) == "");
  std::vector<test::MatrixOf<T>> grad_x(2, test::MatrixOf<T>(70, 270));
  ether::BankGradients<Backend> a(one, f.bank), b(three, f.bank);
  f.layer.backward(one, f.x.const_view(), f.grad_y.const_view(), grad_x[0], f.bank, f.ids.data(),
                   a);
  f.layer.backward(three, f.x.const_view(), f.grad_y.const_view(), grad_x[1], f.bank, f.ids.data(),
                   b);
  using P = typename Backend::Parameter;
  CHECK(test::bit_difference<T>(grad_x[0], grad_x[1]) == "");
  for (const auto side : {ether::Side::input, ether::Side::output})
    CHECK(test::bit_difference<P>(a.view(side), b.view(side)) == "");
}

TEST_CASE("banks: the number of threads changes no bit", "[bank]") {
  check_threads<float>();
  check_threads<Eigen::bfloat16>();
}

using Float = ether::EigenBackend<float>;

TEST_CASE("banks: an id that is no slot is refused before anything is written", "[bank]") {
  ether::EigenContext ctx;
  const test::BankFixture<Float> f(ctx, 24, 40, 3, Sides::both, Variant::ether_plus);
  test::MatrixOf<float> y = test::MatrixOf<float>::Constant(3, 24, 5), grad_x(3, 40);
  grad_x.setConstant(5);
  ether::BankGradients<Float> grads(ctx, f.bank);
  for (const std::int32_t wrong : {24, -2, 1 << 30}) {
    const std::int32_t ids[] = {1, -1, wrong};
    const std::string number = std::to_string(wrong);
    CHECK_REFUSED(f.layer.forward(ctx, f.x.const_view(), y, f.bank, ids), ether::shape_error,
                  "ids[2]", number, "24 slots", "-1");
    CHECK_REFUSED(
        f.layer.backward(ctx, f.x.const_view(), f.grad_y.const_view(), grad_x, f.bank, ids, grads),
        ether::shape_error, "ids[2]", number);
  }
  CHECK_REFUSED(f.layer.forward(ctx, f.x.const_view(), y, f.bank, nullptr), ether::shape_error,
                "ids is null", "3");
  CHECK((y.array() == 5).all());
  CHECK((grad_x.array() == 5).all());
  CHECK(test::to_double(grads.views().input).norm() == 0);
}

TEST_CASE("banks: what a slot cannot hold is refused and changes nothing", "[bank]") {
  ether::EigenContext ctx;
  test::BankFixture<Float> f(ctx, 24, 40, 2, Sides::input, Variant::ether);
  const std::vector<std::int32_t> ids = {1, 2};
  const auto before = f.forward(ctx, ids);
  ether::AdapterConfig config;
  const auto adapter = [&](Index out = 24, Index in = 40) {
    return test::random_adapter<float>(config, out, in, 1);
  };
  CHECK_REFUSED(f.bank.set(ctx, 1, adapter(24, 41)), ether::shape_error, "(24, 41)", "(24, 40)");
  CHECK_REFUSED(f.bank.set(ctx, 24, adapter()), ether::parameter_error, "24", "counted from 0");
  CHECK_REFUSED(f.bank.set(ctx, -1, adapter()), ether::parameter_error, "-1");
  CHECK_REFUSED(f.bank.clear(ctx, 24), ether::parameter_error, "24");
  CHECK_REFUSED(f.bank.config(23), ether::parameter_error, "23", "empty");
  config.variant = Variant::ether_plus;
  CHECK_REFUSED(f.bank.set(ctx, 1, adapter()), ether::parameter_error, "ether_plus", "ether",
                "limits");
  config.variant = Variant::ether;
  config.sides = Sides::both;
  CHECK_REFUSED(f.bank.set(ctx, 1, adapter()), ether::parameter_error, "both", "input", "limits");
  config.sides = Sides::input;
  config.layout = ether::BlockLayout::row_chunk;
  config.input_blocks = 2;
  CHECK_REFUSED(f.bank.set(ctx, 1, adapter()), ether::parameter_error, "row_chunk", "2",
                "merge it");
  config.input_blocks = 1;  // then the layouts agree
  f.bank.set(ctx, 3, adapter());
  auto broken = adapter();
  broken.input_u()(0, 3) = std::numeric_limits<float>::quiet_NaN();
  CHECK_REFUSED(f.bank.set(ctx, 1, broken), ether::parameter_error, "input_u", "finite");
  CHECK(test::bit_difference<float>(f.forward(ctx, ids), before) == "");
  for (const Index capacity : {Index{0}, Index{-1}, Index{1} << 31})
    CHECK_REFUSED(ether::AdapterBank<Float>(ctx, config, 24, 40, capacity), ether::parameter_error,
                  std::to_string(capacity), "capacity");
}

TEST_CASE("banks belong to frozen layers of their shape, gradients to their bank", "[bank]") {
  ether::EigenContext ctx;
  const test::BankFixture<Float> f(ctx, 24, 40, 1, Sides::both, Variant::ether_plus);
  const test::BankFixture<Float> other(ctx, 24, 39, 1, Sides::both, Variant::ether_plus);
  const test::BankFixture<Float> like(ctx, 24, 40, 1, Sides::both, Variant::ether_plus);
  test::MatrixOf<float> y(1, 24), grad_x(1, 40);
  CHECK_REFUSED(f.layer.forward(ctx, f.x.const_view(), y, other.bank, f.ids.data()),
                ether::shape_error, "(24, 39)", "(24, 40)");
  const ether::EtherLinear<Float> adapted(ctx, f.w.const_view(), *f.adapters[1]);
  CHECK_REFUSED(adapted.forward(ctx, f.x.const_view(), y, f.bank, f.ids.data()),
                ether::parameter_error, "adapter of its own");
  ether::BankGradients<Float> own(ctx, f.bank);
  CHECK_REFUSED(adapted.backward(ctx, f.x.const_view(), f.grad_y.const_view(), grad_x, f.bank,
                                 f.ids.data(), own),
                ether::parameter_error, "adapter of its own");
  ether::BankGradients<Float> grads(ctx, like.bank);
  CHECK_REFUSED(f.layer.backward(ctx, f.x.const_view(), f.grad_y.const_view(), grad_x, f.bank,
                                 f.ids.data(), grads),
                ether::shape_error, "another bank");
}

TEST_CASE("a layer without an adapter is the frozen layer", "[bank]") {
  ether::EigenContext ctx;
  const auto w = test::random_matrix<float>(24, 40, 1), x = test::random_matrix<float>(5, 40, 2);
  const auto g = test::random_matrix<float>(5, 24, 3);
  const ether::EtherLinear<Float> layer(ctx, w);
  test::MatrixOf<float> y(5, 24), grad_x(5, 40), merged(24, 40);
  layer.forward(ctx, x, y);
  const auto wide = [](const auto& m) { return test::to_double<float>(m); };
  const auto close = [](double norms) { return test::tolerance<float, float>(64, norms, 0); };
  CHECK(test::difference(wide(y), test::linear(wide(x), wide(w), {}),
                         close(wide(x).norm() * wide(w).norm())) == "");
  layer.backward(ctx, {x, g, grad_x}, ether::GradientViews<float>{});
  CHECK(test::difference(wide(grad_x), test::product(wide(g), wide(w)),
                         close(wide(g).norm() * wide(w).norm())) == "");
  layer.merge(ctx, merged);
  CHECK(test::bit_difference<float>(merged, w) == "");
  layer.unmerge(ctx, merged);
  CHECK(test::bit_difference<float>(merged, w) == "");
  CHECK_REFUSED(layer.config(), ether::parameter_error, "0");
}

}  // namespace
