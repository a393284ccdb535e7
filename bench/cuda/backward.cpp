// The backward pass over the product that it contains, grad_y W.

#include "tables.hpp"

#include <cstring>

namespace bench {

namespace {

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Everything a backward pass of one shape reads and writes. kept_s: for those that go with the
/// tokens before H_out, kept by the forward pass.
template <class T>
struct Training {
  Weights<T> w;
  DeviceArray<T> x, y, kept_s, grad_y, grad_x;
  DeviceArray<float> grads_input, grads_output;  // room for two terms

  Training(Session& s, Index out, Index in, Index most_tokens)
      : w(s, out, in),
        x(random_array<T>(s, most_tokens * in, 41)),
        y(most_tokens * out),
        kept_s(random_array<T>(s, most_tokens * out, 43)),
        grad_y(random_array<T>(s, most_tokens * out, 42)),
        grad_x(most_tokens * in),
        grads_input(2 * in),
        grads_output(2 * out) {}

  void run(Session& s, const Layers<T>& layers, const Adapter<float>& adapter, Index tokens,
           bool keeps, int call) const {
    const auto view = [](const DeviceArray<float>& array, Index terms, Index width) {
      return terms == 0 ? MatrixView<float>{} : MatrixView<float>{array.data(), terms, width};
    };
    ether::BackwardArguments<ether::CudaBackend<T>> arguments;
    arguments.x = {x.data(), tokens, w.in};
    arguments.grad_y = {grad_y.data(), tokens, w.out};
    arguments.grad_x = {grad_x.data(), tokens, w.in};
    arguments.s = {kept_s.data(), keeps ? tokens : 0, w.out};
    layers[call].backward(
        s.ctx, arguments,
        ether::GradientViews<float>{view(grads_input, adapter.terms(ether::Side::input), w.in),
                                    view(grads_output, adapter.terms(ether::Side::output), w.out)});
  }

  /// Two runs from zero: the same bits; and the right ones.
  void check(Session& s, const std::string& what, const Layers<T>& layers,
             const Adapter<float>& adapter, Index tokens, bool keeps) const {
    if (keeps)
      layers[w.copies - 1].forward(s.ctx, MatrixView<const T>(x.data(), tokens, w.in),
                                   MatrixView<T>(y.data(), tokens, w.out),
                                   MatrixView<T>(kept_s.data(), tokens, w.out));
    std::vector<T> grad_x_bits[2];
    std::vector<float> input_bits[2], output_bits[2];
    const Index of_input = adapter.terms(ether::Side::input) * w.in;
    const Index of_output = adapter.terms(ether::Side::output) * w.out;
    for (int again : {0, 1}) {
      using ether::detail::cuda::check;
      check(cudaMemsetAsync(grads_input.data(), 0, grads_input.bytes(), s.stream()),
            "cudaMemsetAsync");
      check(cudaMemsetAsync(grads_output.data(), 0, grads_output.bytes(), s.stream()),
            "cudaMemsetAsync");
      check(cudaMemsetAsync(grad_x.data(), 0xff, grad_x.bytes(), s.stream()), "cudaMemsetAsync");
      run(s, layers, adapter, tokens, keeps, w.copies - 1);
      grad_x_bits[again] = download_bits(s, static_cast<const T*>(grad_x.data()), tokens * w.in);
      input_bits[again] = download_bits(s, static_cast<const float*>(grads_input.data()), of_input);
      output_bits[again] =
          download_bits(s, static_cast<const float*>(grads_output.data()), of_output);
    }
    if (!same_bits(grad_x_bits[0], grad_x_bits[1]) || !same_bits(input_bits[0], input_bits[1]) ||
        !same_bits(output_bits[0], output_bits[1]))
      throw Wrong(what + ": a second run gives other bits");
    check_backward<T>(s, what, w.last(), w.out, w.in, adapter, x.data(), grad_y.data(),
                      grad_x.data(), grads_input.data(), grads_output.data(), tokens);
  }
};

}  // namespace

template <class T>
void backward_table(Session& s) {
  Table table{"backward",
              "grad_x and all gradients of u and v, beyond grad_x = grad_y W alone",
              "Before it is timed every backward pass is run twice from the same state, and has to "
              "give the same bits. The metric is (time - product) / product.",
              {"shape", "tokens", "variant", "sides", "n", "s kept"},
              "extra",
              false};
  const Index in = 4096;
  for (Index out : {Index{4096}, Index{11008}}) {
    const auto all = s.tokens({256, 4096}, {256});
    const Training<T> t(s, out, in, all.back());
    struct Kind {
      Adapter<float> adapter;
      bool keeps;  // s, from the forward pass; of use to the output side alone
    };
    std::vector<Kind> kinds;
    for (Variant variant : {Variant::ether, Variant::ether_plus})
      for (Sides sides : {Sides::input, Sides::output, Sides::both})
        for (Index n : {1, 32})
          for (bool keeps : {false, true})
            if (!keeps || sides != Sides::input)
              kinds.push_back({make_adapter(make_config(variant, sides, n), out, in, 9), keeps});
    std::vector<Layers<T>> layers;
    layers.reserve(kinds.size());
    for (const Kind& kind : kinds) layers.emplace_back(s, t.w, kind.adapter);

    for (Index tokens : all) {
      const std::string shape = shape_name(in, out), count = std::to_string(tokens);
      Contestant product;
      product.rotation = t.w.copies;
      product.outputs = {t.grad_x.output()};
      product.enqueue = [&](int call) {
        ether::CudaBackend<T>::gemm(s.ctx, MatrixView<const T>(t.grad_y.data(), tokens, out),
                                    t.w.view(call), false,
                                    MatrixView<T>(t.grad_x.data(), tokens, in), false);
      };
      product.check = [&] {
        const auto rows = sampled(tokens);
        check_close("grad_y W", download_rows(s, static_cast<const T*>(t.grad_x.data()), in, rows),
                    reference_product(
                        s, download_rows(s, static_cast<const T*>(t.grad_y.data()), out, rows),
                        t.w.last(), out, in, true),
                    tolerance<T>(out));
      };
      std::vector<Contestant> contestants = {product};
      for (std::size_t i = 0; i < kinds.size(); ++i) {
        const AdapterConfig& c = kinds[i].adapter.config();
        t.check(s,
                "backward, " + name_of(c.variant) + ", " + to_string(c.sides) +
                    ", n = " + std::to_string(c.input_blocks) +
                    (kinds[i].keeps ? ", s kept, " : ", ") + shape + ", " + count + " tokens",
                layers[i], kinds[i].adapter, tokens, kinds[i].keeps);
        contestants.push_back({});
        contestants.back().rotation = t.w.copies;
        contestants.back().enqueue = [&, i, tokens](int call) {
          t.run(s, layers[i], kinds[i].adapter, tokens, kinds[i].keeps, call);
        };
      }
      const auto times = s.timer.compare(contestants);
      const double flops = product_flops(t.w, tokens);
      table.rows.push_back({{shape, count, "grad_y W"}, times[0], 0, flops, 0.0, {}});
      for (std::size_t i = 0; i < kinds.size(); ++i) {
        const AdapterConfig& c = kinds[i].adapter.config();
        std::optional<double> goal;
        if (out == 11008 && tokens == 4096 && c.sides != Sides::both &&
            (c.sides == Sides::input || kinds[i].keeps))
          goal = 0.10;
        table.rows.push_back({{shape, count, name_of(c.variant), to_string(c.sides),
                               std::to_string(c.input_blocks), kinds[i].keeps ? "yes" : "no"},
                              times[i + 1],
                              0,
                              flops,
                              ratio(times[i + 1], times[0]) - 1,
                              goal});
      }
    }
  }
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(backward_table)
