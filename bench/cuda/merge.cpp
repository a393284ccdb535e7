// W' = H_out W H_in beside a copy of W, and beside the product with a dense H.

#include "blas.hpp"
#include "tables.hpp"

namespace bench {

namespace {

/// Weights and where they are merged to, together four times the cache.
template <class T>
struct Merges {
  Weights<T> from;
  DeviceArray<T> to;

  Merges(Session& s, Index out, Index in)
      : from(s, out, in, 0.02, s.rotation(2 * out * in * static_cast<Index>(sizeof(T)))),
        to(from.copies * out * in) {}
  T* target(int call) const { return to.data() + Index{call % from.copies} * from.out * from.in; }
  T* last() const { return target(from.copies - 1); }
  std::size_t bytes() const { return static_cast<std::size_t>(from.bytes()); }

  Contestant contestant(const std::string& name) const {
    Contestant c;
    c.name = name;
    c.rotation = from.copies;
    c.outputs = {to.output()};
    return c;
  }
};

/// The blocks of H_in as dense matrices (n, size, size), rounded to T.
template <class T>
DeviceArray<T> dense_blocks(Session& s, const Adapter<float>& adapter) {
  const Index size = adapter.block_size(ether::Side::input),
              n = adapter.width(ether::Side::input) / size;
  const auto u = adapter.parameters(ether::Side::input);
  std::vector<T> dense(static_cast<std::size_t>(n * size * size));
  for (Index b = 0; b < n; ++b) {
    const float* const block = u.row(0) + b * size;
    double squares = 0;
    for (Index i = 0; i < size; ++i) squares += double{block[i]} * double{block[i]};
    for (Index i = 0; i < size; ++i)
      for (Index j = 0; j < size; ++j)
        dense[static_cast<std::size_t>((b * size + i) * size + j)] =
            static_cast<T>(static_cast<float>((i == j ? 1.0 : 0.0) -
                                              2 * double{block[i]} * double{block[j]} / squares));
  }
  return upload(s, dense);
}

/// W H_in as the paper computes it: dense blocks, in one batched product; ETHER only, since the
/// product costs the same for any H.
template <class T>
Contestant dense_contestant(Session& s, const Blas& blas, const Merges<T>& m,
                            const DeviceArray<T>& h, const Adapter<float>& adapter) {
  const Index n = adapter.config().input_blocks, out = m.from.out, in = m.from.in, size = in / n;
  Contestant c = m.contestant("dense product, n = " + std::to_string(n));
  c.enqueue = [&blas, &m, &h, n, out, in, size](int call) {  // row-major W H = column-major H W^T
    blas.strided(size, out, size, static_cast<const T*>(h.data()), size, size * size,
                 m.from.copy(call), in, size, m.target(call), in, size, n);
  };
  c.check = [&s, &m, &adapter, out, in] {
    check_merge<T>(s, "the dense product", m.from.last(), out, in, adapter, m.last());
  };
  return c;
}

std::optional<double> goal_of(Sides sides) {
  if (sides == Sides::both) return {};
  return sides == Sides::input ? 0.85 : 0.80;
}

}  // namespace

template <class T>
void merge_table(Session& s) {
  Table table{"merge",
              "W' = H_out W H_in into other memory",
              "Relative to the faster copy of W in the same turns. \"dense product\": W times the "
              "dense blocks of H_in by one batched product of cuBLAS, as the paper writes it, "
              "without the making of H.",
              {"W (out, in)", "what", "sides", "n"},
              "copy / time",
              true};
  const Blas blas(s);
  const std::vector<Index> heights =
      s.options.quick ? std::vector<Index>{4096} : std::vector<Index>{4096, 11008};
  for (Index out : heights) {
    const Index in = 4096;
    const Merges<T> m(s, out, in);
    std::vector<Adapter<float>> adapters;
    for (Variant variant : {Variant::ether, Variant::ether_plus})
      for (Sides sides : {Sides::input, Sides::output, Sides::both})
        for (Index n : {1, 4, 32})
          adapters.push_back(make_adapter(make_config(variant, sides, n), out, in, 8));
    std::vector<Layers<T>> layers;
    layers.reserve(adapters.size());
    for (const auto& adapter : adapters) layers.emplace_back(s, m.from, adapter);
    std::vector<DeviceArray<T>> dense;
    for (std::size_t i = 0; i < 3; ++i)  // ETHER, input side, n = 1, 4, 32
      dense.push_back(dense_blocks<T>(s, adapters[i]));

    std::vector<Contestant> contestants = {m.contestant("cudaMemcpyAsync"),
                                           m.contestant("own copy kernel")};
    contestants[0].enqueue = [&](int call) {
      ether::detail::cuda::check(cudaMemcpyAsync(m.target(call), m.from.copy(call), m.bytes(),
                                                 cudaMemcpyDeviceToDevice, s.stream()),
                                 "cudaMemcpyAsync");
    };
    contestants[1].enqueue = [&](int call) {
      copy_kernel(m.from.copy(call), m.target(call), m.bytes(), s.stream());
    };
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      const AdapterConfig& c = adapters[i].config();
      contestants.push_back(m.contestant(name_of(c.variant)));
      contestants.back().enqueue = [&, i](int call) {
        layers[i][call].merge(s.ctx, MatrixView<T>(m.target(call), out, in));
      };
      contestants.back().check = [&, i] {
        const AdapterConfig& config = adapters[i].config();
        check_merge<T>(s,
                       "merge, " + name_of(config.variant) + ", " + to_string(config.sides) +
                           ", n = " + std::to_string(config.input_blocks),
                       m.from.last(), out, in, adapters[i], m.last());
      };
    }
    for (std::size_t i = 0; i < dense.size(); ++i)
      contestants.push_back(dense_contestant(s, blas, m, dense[i], adapters[i]));

    const auto times = s.timer.compare(contestants);
    const Spread& copy = times[0].median < times[1].median ? times[0] : times[1];
    const std::string shape = "(" + std::to_string(out) + ", " + std::to_string(in) + ")";
    for (std::size_t i = 0; i < times.size(); ++i) {
      Row row{{shape, contestants[i].name}, times[i], 2 * m.from.bytes(), 0,
              ratio(copy, times[i]),        {}};
      if (i >= 2 && i < 2 + adapters.size()) {
        const AdapterConfig& c = adapters[i - 2].config();
        row.labels.push_back(to_string(c.sides));
        row.labels.push_back(std::to_string(c.input_blocks));
        row.goal = goal_of(c.sides);
      } else if (i >= 2) {
        const double size =
            static_cast<double>(in) /
            static_cast<double>(adapters[i - 2 - adapters.size()].config().input_blocks);
        row.flops = 2 * size * static_cast<double>(out) * static_cast<double>(in);
      }
      table.rows.push_back(row);
    }
  }
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(merge_table)
