// The row operation alone, beside copies; and RMSNorm with it.

#include "tables.hpp"

namespace bench {

namespace {

constexpr Index width = 4096;
constexpr double epsilon = 1e-5;

/// Activations, as many as are four times the cache, at most 512.
template <class T>
struct Activations {
  Index tokens;
  int copies;
  DeviceArray<T> x, z;

  Activations(Session& s, Index tokens_)
      : tokens(tokens_),
        copies(s.rotation(2 * tokens * width * static_cast<Index>(sizeof(T)))),
        x(random_array<T>(s, copies * tokens * width, 31)),
        z(copies * tokens * width) {}
  MatrixView<const T> from(int call) const { return {x.data() + at(call), tokens, width}; }
  MatrixView<T> to(int call) const { return {z.data() + at(call), tokens, width}; }
  std::size_t bytes_of_call() const { return static_cast<std::size_t>(tokens * width) * sizeof(T); }
  Index at(int call) const { return call % copies * tokens * width; }

  Contestant contestant(const std::string& name) const {
    Contestant c;
    c.name = name;
    c.rotation = copies;
    c.outputs = {z.output()};
    return c;
  }
  /// Compares sampled rows of the last call with f applied to rows of x in double.
  template <class F>
  void check(Session& s, const std::string& what, F&& f) const {
    const auto rows = sampled(tokens);
    std::vector<double> expected = download_rows(s, from(copies - 1).data, width, rows);
    for (std::size_t r = 0; r < rows.size(); ++r)
      f(expected.data() + r * static_cast<std::size_t>(width));
    check_close(what, download_rows(s, static_cast<const T*>(to(copies - 1).data), width, rows),
                expected, tolerance<T>(width));
  }
};

/// One input side, prepared.
template <class T>
struct Reflector {
  AdapterConfig config;
  HostReflection host;
  ether::PreparedAdapter<ether::CudaBackend<T>> prepared;

  Reflector(Session& s, Variant variant, Index blocks)
      : Reflector(s, make_adapter(make_config(variant, Sides::input, blocks), width, width, 7)) {}
  std::string name() const {
    return name_of(config.variant) + ", n = " + std::to_string(config.input_blocks);
  }

 private:
  Reflector(Session& s, const Adapter<float>& adapter)
      : config(adapter.config()), host(adapter, ether::Side::input), prepared(s.ctx, adapter) {}
};

template <class T>
std::vector<Reflector<T>> reflectors(Session& s) {
  std::vector<Reflector<T>> all;
  all.reserve(6);
  for (Variant variant : {Variant::ether, Variant::ether_plus})
    for (Index blocks : {1, 4, 32}) all.emplace_back(s, variant, blocks);
  return all;
}

}  // namespace

template <class T>
void transform_table(Session& s) {
  Table table{"transform",
              "z = x H_in alone, width 4096",
              "Relative to the faster copy of the same bytes in the same turns. At most 512 calls "
              "have data of their own: with few tokens that is less than four times the cache, and "
              "a launch is most of the time.",
              {"tokens", "what"},
              "copy / time",
              true};
  const auto all = reflectors<T>(s);
  for (Index tokens : s.tokens({1, 4, 16, 64, 256, 1024, 4096}, {1, 256, 4096})) {
    const Activations<T> a(s, tokens);
    std::vector<Contestant> contestants = {a.contestant("cudaMemcpyAsync"),
                                           a.contestant("own copy kernel")};
    contestants[0].enqueue = [&](int call) {
      ether::detail::cuda::check(
          cudaMemcpyAsync(a.to(call).data, a.from(call).data, a.bytes_of_call(),
                          cudaMemcpyDeviceToDevice, s.stream()),
          "cudaMemcpyAsync");
    };
    contestants[1].enqueue = [&](int call) {
      copy_kernel(a.from(call).data, a.to(call).data, a.bytes_of_call(), s.stream());
    };
    for (const Reflector<T>& r : all) {
      contestants.push_back(a.contestant(r.name()));
      contestants.back().enqueue = [&](int call) {
        ether::reflect_input(s.ctx, r.prepared, a.from(call), a.to(call));
      };
      contestants.back().check = [&] {
        a.check(s, "reflect_input, " + r.name(), [&](double* row) { r.host.apply(row); });
      };
    }
    const auto times = s.timer.compare(contestants);
    const Spread& copy = times[0].median < times[1].median ? times[0] : times[1];
    for (std::size_t i = 0; i < times.size(); ++i) {
      std::optional<double> goal;
      if (i >= 2 && tokens == 4096) goal = 0.85;
      table.rows.push_back({{std::to_string(tokens), contestants[i].name},
                            times[i],
                            2.0 * static_cast<double>(a.bytes_of_call()),
                            0,
                            ratio(copy, times[i]),
                            goal});
    }
  }
  s.report.add(table);
}

template <class T>
void norm_table(Session& s) {
  Table table{"norm",
              "RMSNorm, and RMSNorm with H_in in the same kernel, width 4096",
              "The baseline is a plain RMSNorm of the benchmark's own, which reads its row once. "
              "\"then\": that kernel and reflect_input behind it.",
              {"tokens", "what"},
              "time / RMSNorm",
              false};
  const auto all = reflectors<T>(s);
  const auto gamma = random_array<T>(s, width, 33, 0.5, 2);
  const std::vector<double> scale = download(s, gamma.data(), width);
  const auto norm = [&scale](double* row) {
    double squares = 0;
    for (Index i = 0; i < width; ++i) squares += row[i] * row[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (Index i = 0; i < width; ++i) row[i] *= inverse * scale[static_cast<std::size_t>(i)];
  };
  for (Index tokens : s.tokens({1, 16, 256, 1024, 4096}, {1, 4096})) {
    const Activations<T> a(s, tokens);
    const auto plain = [&](int call) {
      if (!rms_norm(a.from(call).data, gamma.data(), epsilon, a.to(call).data, tokens, width,
                    s.stream()))
        throw Wrong("the benchmark's rms_norm does not take this width");
    };
    std::vector<Contestant> contestants = {a.contestant("RMSNorm"),
                                           a.contestant("RMSNorm, then ETHER, n = 1")};
    contestants[0].enqueue = plain;
    contestants[0].check = [&] { a.check(s, "the benchmark's rms_norm", norm); };
    contestants[1].enqueue = [&](int call) {
      plain(call);
      ether::reflect_input(s.ctx, all[0].prepared, MatrixView<const T>(a.to(call)), a.to(call));
    };
    for (const Reflector<T>& r : all) {
      contestants.push_back(a.contestant("RMSNorm with " + r.name()));
      contestants.back().enqueue = [&](int call) {
        ether::rms_norm_reflect_input(s.ctx, r.prepared, a.from(call), gamma.data(), epsilon,
                                      a.to(call));
      };
      contestants.back().check = [&] {
        a.check(s, "rms_norm_reflect_input, " + r.name(), [&](double* row) {
          norm(row);
          r.host.apply(row);
        });
      };
    }
    contestants[1].check = [&] {
      a.check(s, "rms_norm and reflect_input", [&](double* row) {
        norm(row);
        all[0].host.apply(row);
      });
    };
    const auto times = s.timer.compare(contestants);
    for (std::size_t i = 0; i < times.size(); ++i) {
      std::optional<double> goal;
      if (i >= 2) goal = 1.05;
      table.rows.push_back({{std::to_string(tokens), contestants[i].name},
                            times[i],
                            2.0 * static_cast<double>(a.bytes_of_call()),
                            0,
                            ratio(times[i], times[0]),
                            goal});
    }
  }
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(transform_table)
ETHER_BENCH_TABLE(norm_table)
