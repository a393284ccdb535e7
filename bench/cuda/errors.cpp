// Correctness at small and ragged sizes; and how large the error is that rounding leaves.

#include "tables.hpp"

namespace bench {

namespace {

/// Forward by every path, merge and backward of one small layer.
template <class T>
void check_small(Session& s, Variant variant, Sides sides, Index blocks, Index tokens) {
  const Index out = 96, in = 160;
  const Adapter<float> adapter = make_adapter(make_config(variant, sides, blocks), out, in, 3);
  const Weights<T> w(s, out, in, 0.02, 1);
  const Layers<T> layers(s, w, adapter);
  const auto x = random_array<T>(s, tokens * in, 71), grad_y = random_array<T>(s, tokens * out, 72);
  const DeviceArray<T> y(tokens * out), grad_x(tokens * in), merged(out * in);
  const DeviceArray<float> grads_input(2 * in), grads_output(2 * out);
  const MatrixView<const T> x_view(x.data(), tokens, in), grad_view(grad_y.data(), tokens, out);
  const auto set = [&](const auto& array, int byte) {
    ether::detail::cuda::check(cudaMemsetAsync(array.data(), byte, array.bytes(), s.stream()),
                               "cudaMemsetAsync");
  };
  const std::string what = name_of(variant) + ", " + to_string(sides) +
                           ", n = " + std::to_string(blocks) + ", W (96, 160), " +
                           std::to_string(tokens) + " tokens";
  for (bool fused : {false, true})
    for (bool dependent : {false, true}) {
      s.take({fused, dependent});
      set(y, 0xff);
      layers[0].forward(s.ctx, x_view, MatrixView<T>(y.data(), tokens, out));
      check_forward<T>(s, "forward, " + what, w.last(), out, in, &adapter, x.data(), y.data(),
                       tokens);
    }
  s.take({});

  set(merged, 0xff);
  layers[0].merge(s.ctx, MatrixView<T>(merged.data(), out, in));
  check_merge<T>(s, "merge, " + what, w.last(), out, in, adapter, merged.data());

  set(grad_x, 0xff);
  set(grads_input, 0);
  set(grads_output, 0);
  const auto view = [](const DeviceArray<float>& array, Index terms, Index width) {
    return terms == 0 ? MatrixView<float>{} : MatrixView<float>{array.data(), terms, width};
  };
  layers[0].backward(
      s.ctx, {x_view, grad_view, MatrixView<T>(grad_x.data(), tokens, in)},
      ether::GradientViews<float>{view(grads_input, adapter.terms(ether::Side::input), in),
                                  view(grads_output, adapter.terms(ether::Side::output), out)});
  check_backward<T>(s, "backward, " + what, w.last(), out, in, adapter, x.data(), grad_y.data(),
                    grad_x.data(), grads_input.data(), grads_output.data(), tokens);
}

struct Sum {
  double squares = 0, norm = 0;

  void add(const std::vector<double>& got, const std::vector<double>& expected) {
    for (std::size_t i = 0; i < got.size(); ++i) {
      squares += (got[i] - expected[i]) * (got[i] - expected[i]);
      norm += expected[i] * expected[i];
    }
  }
  double relative() const { return std::sqrt(squares / norm); }
};

struct Case {
  AdapterConfig config;
  Index tokens;
  Sum ours, merged;
};

std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", value);
  return text;
}

}  // namespace

template <class T>
void errors_table(Session& s) {
  for (Variant variant : {Variant::ether, Variant::ether_plus})
    for (Sides sides : {Sides::input, Sides::output, Sides::both})
      for (Index blocks : {1, 4, 32})
        for (Index tokens : {1, 5, 17}) check_small<T>(s, variant, sides, blocks, tokens);

  Table table{"errors",
              "error against float64, W (4096, 4096)",
              "Norm of the error of y over the norm of y: of the layer's forward pass, and of "
              "cuBLAS's product with the merged weight, in the same type. Before this table, "
              "forward by every path, merge and backward were right at small, ragged sizes.",
              {"variant", "sides", "n", "tokens", "this layer", "merged weight"},
              "layer / merged",
              false};
  const Index size = 4096, most_tokens = 64;
  std::vector<Case> cases;
  for (Variant variant : {Variant::ether, Variant::ether_plus})
    for (Sides sides : {Sides::input, Sides::output, Sides::both})
      for (Index blocks : {1, 32})
        for (Index tokens : {Index{4}, most_tokens})
          cases.push_back({make_config(variant, sides, blocks), tokens, {}, {}});

  const DeviceArray<T> y(most_tokens * size), merged(size * size);
  const std::uint64_t seeds = s.options.quick ? 1 : 4;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const auto w = random_array<T>(s, size * size, 80 + seed, std::sqrt(3.0 / double(size)), 0);
    const auto x = random_array<T>(s, most_tokens * size, 90 + seed, 1, 0);
    for (Case& c : cases) {
      using Backend = ether::CudaBackend<T>;
      const Adapter<float> adapter = make_adapter(c.config, size, size, seed, 0);
      const ether::EtherLinear<Backend> layer(
          s.ctx, ether::DenseWeight<Backend>(w.data(), size, size), adapter);
      const auto rows = sampled(c.tokens);
      std::vector<double> z = download_rows(s, static_cast<const T*>(x.data()), size, rows);
      const HostReflection h_in(adapter, ether::Side::input), h_out(adapter, ether::Side::output);
      for (std::size_t r = 0; r < rows.size(); ++r) h_in.apply(z.data() + r * std::size_t(size));
      auto expected = reference_product<T>(s, z, w.data(), size, size, false);
      for (std::size_t r = 0; r < rows.size(); ++r)
        h_out.apply(expected.data() + r * std::size_t(size));

      const MatrixView<const T> x_view(x.data(), c.tokens, size);
      const MatrixView<T> y_view(y.data(), c.tokens, size);
      layer.forward(s.ctx, x_view, y_view);
      const auto ours = download_rows(s, static_cast<const T*>(y.data()), size, rows);
      const MatrixView<T> merged_view(merged.data(), size, size);
      layer.merge(s.ctx, merged_view);
      Backend::gemm(s.ctx, x_view, MatrixView<const T>(merged_view), true, y_view, false);
      const auto by_merged = download_rows(s, static_cast<const T*>(y.data()), size, rows);
      check_close("the layer's forward pass", ours, expected, tolerance<T>(size));
      check_close("the product with the merged weight", by_merged, expected, tolerance<T>(size));
      c.ours.add(ours, expected);
      c.merged.add(by_merged, expected);
    }
  }
  for (const Case& c : cases)
    table.rows.push_back({{name_of(c.config.variant), to_string(c.config.sides),
                           std::to_string(c.config.input_blocks), std::to_string(c.tokens),
                           scientific(c.ours.relative()), scientific(c.merged.relative())},
                          {},
                          0,
                          0,
                          c.ours.relative() / c.merged.relative(),
                          1.1});
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(errors_table)
