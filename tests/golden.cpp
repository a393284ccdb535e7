// Every golden vector: the authors' layers and the paper's formulas, float64.

#include "support/golden.hpp"
#include "support/catch.hpp"
#include "support/oracle.hpp"

#include <ether/ether.hpp>

#include <filesystem>
#include <set>

namespace {

using test::Golden;
using test::Matrix;
using test::MatrixOf;
using test::to_double;

std::set<std::string> golden_files() {
  std::set<std::string> names;
  for (const char* folder : {"official", "paper"})
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(ETHER_GOLDEN_DIR) + "/" + folder))
      if (entry.path().extension() == ".safetensors")
        names.insert(std::string(folder) + "/" + entry.path().filename().string());
  return names;
}

/// |actual - expected| <= roundings * u * |expected| scaled by `slack` for cancellation.
template <class T>
double allowed(const Matrix& expected) {
  return 500 * test::unit_roundoff<T>() * expected.norm() + 1e-300;
}

template <class T>
void check_layer(const Golden& golden) {
  using Backend = ether::EigenBackend<T>;
  ether::EigenContext ctx;
  const auto cast = [&](const char* name) -> MatrixOf<T> { return golden[name].cast<T>(); };
  const MatrixOf<T> weight = cast("weight"), x = cast("x"), grad_y = cast("grad_y");
  const MatrixOf<T> bias = golden.has("bias") ? cast("bias") : MatrixOf<T>();
  const auto adapter = golden.adapter<T>();
  const ether::EtherLinear<Backend> layer(ctx, weight, adapter,
                                          bias.size() == 0 ? nullptr : bias.data());

  MatrixOf<T> y(x.rows(), weight.rows()), grad_x(x.rows(), weight.cols());
  MatrixOf<T> merged(weight.rows(), weight.cols());
  auto grads = ether::Adapter<T>::zeros_like(adapter);
  layer.forward(ctx, x, y);
  layer.backward(ctx, x, grad_y, grad_x, grads);
  layer.merge(ctx, merged);

  using test::difference;
  CHECK(difference(to_double(y), golden["y"], allowed<T>(golden["y"])) == "");
  CHECK(difference(to_double(grad_x), golden["grad_x"], allowed<T>(golden["grad_x"])) == "");
  CHECK(difference(to_double(merged), golden["merged"], allowed<T>(golden["merged"])) == "");
  const auto expected = golden.adapter<double>("grad.");
  for (ether::Side side : {ether::Side::input, ether::Side::output}) {
    const Matrix e = to_double(expected.parameters(side));
    CHECK(difference(to_double(grads.parameters(side)), e, allowed<T>(e)) == "");
  }
}

}  // namespace

TEST_CASE("the layer reproduces every golden vector") {
  const auto names = golden_files();
  CHECK(names.size() == 66);
  for (const std::string& name : names) {
    INFO(name);
    const Golden golden(name);
    check_layer<double>(golden);
    check_layer<float>(golden);
  }
}

TEST_CASE("the oracle agrees with every golden vector") {
  for (const std::string& name : golden_files()) {
    INFO(name);
    const Golden golden(name);
    const auto adapter = golden.adapter<double>();
    const test::Oracle oracle(adapter, golden["weight"]);
    const Matrix x = golden["x"], grad_y = golden["grad_y"];
    const auto close = [](const Matrix& a, const Matrix& b) {
      return test::difference(a, b, 1e-12 * (1 + b.norm()));
    };
    CHECK(close(oracle.forward(x, golden["bias"]), golden["y"]) == "");
    CHECK(close(oracle.merged(), golden["merged"]) == "");
    CHECK(close(oracle.grad_x(grad_y), golden["grad_x"]) == "");
    const auto expected = golden.adapter<double>("grad.");
    CHECK(close(oracle.grad_input(x, grad_y), to_double(expected.parameters(ether::Side::input))) ==
          "");
    CHECK(close(oracle.grad_output(x, grad_y),
                to_double(expected.parameters(ether::Side::output))) == "");
  }
}

TEST_CASE("the wrong block layout is seen by the golden vectors") {
  const Golden golden("official/ether_d24_f40_n4.safetensors");
  REQUIRE(golden.config().layout == ether::BlockLayout::row_chunk);
  auto config = golden.config();
  config.layout = ether::BlockLayout::diagonal;
  ether::Adapter<double> wrong(config, 40, 24);
  const auto right = golden.adapter<double>();
  std::copy_n(right.data(), right.size(), wrong.data());
  CHECK(test::difference(test::Oracle(wrong, golden["weight"]).merged(), golden["merged"],
                         allowed<double>(golden["merged"])) != "");
}
