// What no version can beat: copies, launches, and the product alone.

#include "tables.hpp"

namespace bench {

namespace {

struct Buffers {
  DeviceArray<std::byte> from, to;
  Index bytes;
  int copies;

  Buffers(Session& s, Index bytes_, int copies_)
      : from(bytes_ * copies_), to(bytes_ * copies_), bytes(bytes_), copies(copies_) {
    fill(reinterpret_cast<float*>(from.data()), bytes * copies / 4, 3, 1, 0, s.stream());
  }
  const std::byte* source(int call) const { return from.data() + call % copies * bytes; }
  std::byte* target(int call) const { return to.data() + call % copies * bytes; }
};

void check_copied(Session& s, const char* what, const Buffers& b) {
  const auto last = b.copies - 1;
  for (Index at : {Index{0}, b.bytes / 2, b.bytes - 4096})
    if (download_bits(s, b.source(last) + at, 4096) != download_bits(s, b.target(last) + at, 4096))
      throw Wrong(std::string(what) + " is wrong: " + std::to_string(at) +
                  " bytes behind its beginning the copy differs");
}

}  // namespace

void floors_table(Session& s) {
  Table table{"floors",
              "copies and launches",
              "GB/s count bytes read and bytes written. \"Of copy\" in all tables is relative to "
              "the faster copy of 256 MiB here.",
              {"what", "size"},
              "",
              false};
  struct Size {
    const char* name;
    Index bytes;
  };
  const std::vector<Size> sizes = {{"256 MiB", Index{256} << 20},
                                   {"W 4096→4096, 16 bits", Index{4096} * 4096 * 2},
                                   {"W 4096→11008, 16 bits", Index{4096} * 11008 * 2}};
  double rate = 0;
  for (const Size& size : sizes) {
    const Buffers b(s, size.bytes, s.rotation(2 * size.bytes));
    const auto length = static_cast<std::size_t>(size.bytes);
    Contestant memcpy_node{"cudaMemcpyAsync",
                           [&](int call) {
                             ether::detail::cuda::check(
                                 cudaMemcpyAsync(b.target(call), b.source(call), length,
                                                 cudaMemcpyDeviceToDevice, s.stream()),
                                 "cudaMemcpyAsync");
                           },
                           b.copies,
                           {b.to.output()},
                           [&] { check_copied(s, "cudaMemcpyAsync", b); }};
    Contestant own = memcpy_node;
    own.name = "own copy kernel";
    own.enqueue = [&](int call) {
      copy_kernel(b.source(call), b.target(call), length, s.stream());
    };
    own.check = [&] { check_copied(s, "the copy kernel", b); };
    const std::vector<Contestant> contestants = {memcpy_node, own};
    const auto times = s.timer.compare(contestants);
    const double bytes = 2.0 * static_cast<double>(size.bytes);
    for (std::size_t i = 0; i < times.size(); ++i) {
      table.rows.push_back({{contestants[i].name, size.name}, times[i], bytes, 0, {}, {}});
      if (&size == &sizes[0]) rate = std::max(rate, bytes / times[i].median);
    }
  }
  Contestant empty;
  empty.enqueue = [&](int) { launch_empty(s.stream()); };
  table.rows.push_back(
      {{"empty kernel, a node of a graph", "1 warp"}, s.timer.compare({empty})[0], 0, 0, {}, {}});
  s.report.set_copy_rate(rate);
  s.report.add(table);
}

template <class T>
void product_table(Session& s) {
  Table table{
      "product",
      "the frozen product alone: cuBLAS's first choice",
      "The baseline of all that follows, through the library's own gemm. The last column is "
      "its time over the time that a copy at the measured rate takes for the same bytes.",
      {"shape", "tokens"},
      "time / bytes at copy rate",
      false};
  const auto all = s.tokens({1, 2, 4, 8, 16, 64, 256, 1024, 4096}, {1, 16, 4096});
  for (Index out : {4096, 11008, 14336}) {
    const Weights<T> w(s, out, 4096);
    const auto x = random_array<T>(s, all.back() * w.in, 21);
    const DeviceArray<T> y(all.back() * out);
    for (Index tokens : all) {
      const auto times =
          s.timer.compare({product_contestant(s, w, x.data(), y, tokens, "the frozen product")});
      const double bytes = product_bytes(w, tokens);
      table.rows.push_back({{shape_name(w.in, out), std::to_string(tokens)},
                            times[0],
                            bytes,
                            product_flops(w, tokens),
                            times[0].median * s.report.copy_rate() / bytes,
                            {}});
    }
  }
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(product_table)
