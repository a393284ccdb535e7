// Workloads on matrices: small enough for a processor that valgrind simulates, large enough that
// the loops over elements are most of it.

#include "../adapter.hpp"
#include "workload.hpp"

#include <ether/ether.hpp>

#include <random>

namespace instructions {

namespace {

using ether::Index;
using ether::MatrixView;
using ether::Side;
using ether::Sides;
using ether::Variant;
template <class T>
using Backend = ether::EigenBackend<T>;

constexpr Index out = 256, in = 1024, tokens = 32;  // W is (out, in), x is (tokens, in)

template <class T>
struct Matrix {
  Matrix(Index row_count, Index col_count, unsigned seed) : rows(row_count), cols(col_count) {
    std::mt19937 generator(seed);
    for (Index i = 0; i < rows * cols; ++i)
      values.push_back(static_cast<T>(static_cast<float>(generator() >> 8) * 0x1p-23f - 1));
  }
  MatrixView<T> view() { return {values.data(), rows, cols}; }
  MatrixView<const T> view() const { return {values.data(), rows, cols}; }

  Index rows, cols;
  std::vector<T> values;
};

/// A layer around W, and all that its operations read and write. One thread.
template <class T, Variant variant, Sides sides, Index blocks>
struct Layer {
  ether::EigenContext ctx{1};
  Matrix<T> w{out, in, 1}, x{tokens, in, 2}, grad_y{tokens, out, 3};
  Matrix<T> y{tokens, out, 0}, grad_x{tokens, in, 0}, merged{out, in, 0};
  ether::Adapter<float> parameters =
      bench::ether_adapter(bench::ether_config(variant, sides, blocks), out, in);
  ether::Adapter<float> grads = ether::Adapter<float>::zeros_like(parameters);
  ether::EtherLinear<Backend<T>> layer{ctx, std::as_const(w).view(), parameters};

  MatrixView<const T> some_x(Index count) const { return {x.values.data(), count, in}; }
};

template <class T, Variant variant, Index blocks>
void reflect_input() {
  Layer<T, variant, Sides::input, blocks> l;
  count([&] {
    ether::reflect_input(l.ctx, l.layer.prepared(), l.some_x(tokens), l.grad_x.view());
    keep(l.grad_x.values.data());
  });
}

/// The gradients of one side's vectors, from x before H and any r after it.
template <class T, Variant variant, Index blocks>
void reflect_grad() {
  Layer<T, variant, Sides::input, blocks> l;
  const Matrix<float> r(tokens, in, 4);
  count([&] {
    Backend<T>::reflect_grad(l.ctx, l.layer.prepared().reflection(Side::input), l.some_x(tokens),
                             r.view(), ether::MatrixView<T>{}, l.grads.parameters(Side::input));
    keep(l.grads.data());
  });
}

template <class T, Variant variant, Sides sides, Index blocks>
void merge() {
  Layer<T, variant, sides, blocks> l;
  count([&] {
    l.layer.merge(l.ctx, l.merged.view());
    keep(l.merged.values.data());
  });
}

template <class T, Variant variant, Sides sides, Index blocks, Index count_of_tokens>
void forward() {
  Layer<T, variant, sides, blocks> l;
  count([&] {
    l.layer.forward(l.ctx, l.some_x(count_of_tokens),
                    {l.y.values.data(), count_of_tokens, Index{out}});
    keep(l.y.values.data());
  });
}

template <class T, Variant variant, Sides sides, Index blocks>
void backward() {
  Layer<T, variant, sides, blocks> l;
  count([&] {
    l.layer.backward(l.ctx, l.some_x(tokens), l.grad_y.view(), l.grad_x.view(), l.grads);
    keep(l.grads.data());
  });
}

template <Variant variant, Sides sides, Index blocks>
void set_adapter() {
  Layer<float, variant, sides, blocks> l;
  count([&] {
    l.layer.set_adapter(l.ctx, l.parameters);
    keep(&l.layer);
  });
}

}  // namespace

std::vector<Workload> layer_workloads() {
  using bf16 = Eigen::bfloat16;
  constexpr auto ether = Variant::ether, plus = Variant::ether_plus;
  constexpr auto input = Sides::input, both = Sides::both;
  constexpr Index x = tokens * in, w = out * in;
  return {
      {"reflect_input/ether/n:1/float", x, reflect_input<float, ether, 1>},
      {"reflect_input/ether/n:1/bfloat16", x, reflect_input<bf16, ether, 1>},
      {"reflect_input/ether_plus/n:32/float", x, reflect_input<float, plus, 32>},
      {"reflect_input/ether_plus/n:32/bfloat16", x, reflect_input<bf16, plus, 32>},
      {"reflect_grad/ether/n:1/float", x, reflect_grad<float, ether, 1>},
      {"reflect_grad/ether_plus/n:32/float", x, reflect_grad<float, plus, 32>},
      {"merge/ether/input/n:1/float", w, merge<float, ether, input, 1>},
      {"merge/ether_plus/both/n:32/float", w, merge<float, plus, both, 32>},
      {"merge/ether_plus/both/n:32/bfloat16", w, merge<bf16, plus, both, 32>},
      {"forward/ether_plus/both/n:32/float/tokens:1", w, forward<float, plus, both, 32, 1>},
      {"forward/ether_plus/both/n:32/float/tokens:32", w, forward<float, plus, both, 32, tokens>},
      {"backward/ether_plus/both/n:32/float/tokens:32", w, backward<float, plus, both, 32>},
      {"set_adapter/ether_plus/both/n:32", 2 * (in + out), set_adapter<plus, both, 32>},
  };
}

}  // namespace instructions
