#pragma once

/// The shapes that every baseline goes through, and what a layer of each is compared with.

#include "allocations.hpp"
#include "catch.hpp"
#include "random.hpp"

#include <ether/ether.hpp>

namespace test {

using ether::EigenContext;

struct Shape {
  Index out, in, tokens, pad;
};
/// Ragged, with token counts on either side of the products' thresholds.
inline constexpr Shape shapes[] = {{7, 6, 1, 0},     {24, 40, 3, 1},   {57, 92, 17, 3},
                                   {129, 66, 70, 5}, {33, 130, 66, 7}, {1, 48, 2, 0},
                                   {40, 72, 300, 4}, {20, 300, 3, 4}};

/// What a layer of one shape is called with, and the same in double.
template <class T>
struct Data {
  using Backend = ether::EigenBackend<T>;
  using P = typename Backend::Parameter;
  using Grads = MatrixOf<P>;

  explicit Data(const Shape& s)
      : shape(s),
        weight(ctx, random_matrix<T>(s.out, s.in, 2), s.pad),
        bias(ctx, random_matrix<T>(1, s.out, 3), 0),
        x(ctx, random_matrix<T>(s.tokens, s.in, 4), s.pad),
        grad_y(ctx, random_matrix<T>(s.tokens, s.out, 5), s.pad),
        w(weight.values()) {}

  Index roundings() const { return 2 * (shape.in + shape.out) + shape.tokens + 20; }

  /// Norm of the sums over tokens behind a gradient. Errors of different tokens are independent:
  /// their squares add up.
  double token_products() const {
    const Matrix x_values = x.values(), g_values = grad_y.values();
    const auto x_norms = x_values.rowwise().squaredNorm();
    const auto g_norms = g_values.rowwise().squaredNorm();
    return std::sqrt(x_norms.cwiseProduct(g_norms).sum());
  }

  /// forward and merge against `expected` = W'. `magnitude`: of W', with products by absolute value.
  template <class Layer>
  void check_forward(const Layer& layer, const Matrix& expected, double magnitude) {
    DeviceMatrix<Backend, T> y(ctx, shape.tokens, shape.out, shape.pad);
    DeviceMatrix<Backend, T> merged(ctx, shape.out, shape.in, shape.pad);
    layer.forward(ctx, x.const_view(), y.view());
    const Matrix b = bias.values().replicate(shape.tokens, 1);
    const Matrix result = x.values() * expected.transpose() + b;
    const double allowed =
        tolerance<P, T>(roundings(), x.values().norm() * magnitude + b.norm(), result.norm());
    CHECK(difference(y.values(), result, allowed) == "");
    CHECK(y.surround_untouched());
    CHECK(allowed < 0.01 * result.norm());

    layer.merge(ctx, merged.view());
    const double merge_allowed = tolerance<P, T>(roundings(), magnitude, expected.norm());
    CHECK(difference(merged.values(), expected, merge_allowed) == "");
    CHECK(merged.surround_untouched());
    if (expected != w) {  // the tolerances are of use: the frozen layer is not taken for this one
      CHECK(difference(x.values() * w.transpose() + b, result, allowed) != "");
      CHECK(difference(w, expected, merge_allowed) != "");
    }
    EigenContext three(at_most(3));
    const MatrixOf<T> first = y.host();
    layer.forward(three, x.const_view(), y.view());
    CHECK(bit_difference<T>(y.const_view(), first) == "");
  }

  /// call(ctx, x, grad_y, grad_x) against grad_y W'.
  template <class Call>
  void check_grad_x(const Matrix& merged, double magnitude, Call&& call) {
    DeviceMatrix<Backend, T> grad_x(ctx, shape.tokens, shape.in, shape.pad);
    call(ctx, x.const_view(), grad_y.const_view(), grad_x.view());
    const Matrix g = grad_y.values(), expected = g * merged;
    const double allowed = tolerance<P, T>(roundings(), g.norm() * magnitude, expected.norm());
    CHECK(difference(grad_x.values(), expected, allowed) == "");
    CHECK(grad_x.surround_untouched());
    if (merged != w) CHECK(difference(g * w, expected, allowed) != "");
  }

  /// Gradients that were accumulated onto `before`.
  void check_grads(const Grads& grads, const Grads& before, const Matrix& expected,
                   double magnitude) const {
    const double allowed = tolerance<P, P>(roundings(), magnitude + before.norm(), 0);
    CHECK(difference(to_double(grads), expected + to_double(before), allowed) == "");
    // Of use: without the gradient, or without what was there before, the test would fail.
    if (expected.norm() > 0) CHECK(allowed < 0.05 * expected.norm());
    CHECK(difference(to_double(grads), expected, allowed) != "");
  }

  Shape shape;
  EigenContext ctx{1};
  DeviceMatrix<Backend, T> weight, bias, x, grad_y;
  Matrix w;
};

template <class T, class F>
void for_each_shape(F&& f) {
  for (const Shape& s : shapes) {
    INFO("weight (" << s.out << ", " << s.in << "), tokens " << s.tokens << ", pad " << s.pad);
    Data<T> data(s);
    f(data);
  }
}

template <class T>
using Backend = ether::EigenBackend<T>;

}  // namespace test
