// Rows of a batch that each have an adapter of their own: ETHER by ids in one launch, LoRA as two
// batched products.

#include "blas.hpp"
#include "tables.hpp"

#include <numeric>
#include <random>

namespace bench {

namespace {

constexpr Index width = 4096;

/// All of 0 ... count - 1 in random order.
std::vector<std::int32_t> permutation(Session& s, Index count) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937_64 random(s.options.seed);
  std::shuffle(ids.begin(), ids.end(), random);
  return ids;
}

/// So many adapters of `bytes` each that they are four times the cache; a multiple of 256.
Index adapters_for(Session& s, Index bytes) {
  const int count = s.rotation(bytes, 1 << 20);
  return (Index{count} + 255) / 256 * 256;
}

int calls_for(Index adapters, Index rows) {
  return static_cast<int>(std::min<Index>(adapters / rows, 512));
}

/// The batch: x is read, z overwritten by ETHER, y added to by LoRA.
template <class T>
struct Batch {
  Index most_rows;
  DeviceArray<T> x, z, y;

  Batch(Session& s, Index rows)
      : most_rows(rows),
        x(random_array<T>(s, rows * width, 51)),
        z(rows * width),
        y(rows * width) {}
};

/// One-sided adapters with one block, as they lie in a bank: slot behind slot.
template <class T>
class Bank {
 public:
  Bank(Session& s, Index terms)
      : terms_(terms),
        slots_(adapters_for(s, terms * width * 4)),
        host_ids_(permutation(s, slots_)),
        ids_(upload(s, host_ids_)),
        unit_(random_array<float>(s, slots_ * terms * width, 52,
                                  1 / std::sqrt((1.0 / 3 + 0.25) * double(width)))),
        coefficient_(upload(s, coefficients())),
        shapes_(upload(s, std::vector<ether::SlotShape<float>>(std::size_t(slots_), shape()))) {}

  /// z = x H_id for each row; with `distinct` false H of slot 0 for all.
  Contestant contestant(Session& s, const std::string& name, const Batch<T>& batch, Index rows,
                        bool distinct) const {
    Contestant c;
    c.name = name;
    c.rotation = distinct ? calls_for(slots_, rows) : 1;
    c.outputs = {batch.z.output()};
    c.enqueue = [this, &s, &batch, rows, distinct, calls = c.rotation](int call) {
      const MatrixView<const T> x(batch.x.data(), rows, width);
      const MatrixView<T> z(batch.z.data(), rows, width);
      if (distinct) {
        const ether::RowReflections<float> h{{unit_.data(), slots_ * terms_, width},
                                             shapes_.data(),
                                             ids_.data() + call % calls * rows,
                                             terms_,
                                             /*bad_id=*/nullptr};
        return ether::detail::cuda::reflect_each<T, T, float>(s.ctx.launch(), h, x, z, {}, false);
      }
      ether::Reflection<float> h = ether::identity<float>(width);
      h.unit = {unit_.data(), terms_, width};
      h.coefficient = {coefficient_.data(), terms_, 1};
      ether::detail::cuda::reflect_rows<T, T>(s.ctx.launch(), h, x, z, {}, {});
    };
    c.check = [this, &s, &batch, name, rows, distinct, last = c.rotation - 1] {
      std::vector<double> expected;
      for (Index row = 0; row < rows; ++row) {
        const Index slot = distinct ? host_ids_[static_cast<std::size_t>(last * rows + row)] : 0;
        const auto x = download(s, static_cast<const T*>(batch.x.data()) + row * width, width);
        std::vector<double> z = x;
        for (Index k = 0; k < terms_; ++k) {
          const auto unit = download(
              s, static_cast<const float*>(unit_.data()) + (slot * terms_ + k) * width, width);
          const double factor = (terms_ == 1 ? -2.0
                                 : k == 0    ? -1.0
                                             : 1.0) *
                                std::inner_product(x.begin(), x.end(), unit.begin(), 0.0);
          for (std::size_t i = 0; i < z.size(); ++i) z[i] += factor * unit[i];
        }
        expected.insert(expected.end(), z.begin(), z.end());
      }
      check_close(name, download(s, static_cast<const T*>(batch.z.data()), rows * width), expected,
                  tolerance<T>(width));
    };
    return c;
  }
  double bytes_of_row() const {
    return static_cast<double>(terms_ * width) * 4 + 2 * width * sizeof(T);
  }

 private:
  ether::SlotShape<float> shape() const {
    if (terms_ == 1) return {1, width, {-2.0f}};
    return {2, width, {-1.0f, 1.0f}};
  }
  std::vector<float> coefficients() const {
    const auto all = shape().coefficient;
    return {all, all + terms_};
  }
  Index terms_, slots_;
  std::vector<std::int32_t> host_ids_;
  DeviceArray<std::int32_t> ids_;
  DeviceArray<float> unit_, coefficient_;
  DeviceArray<ether::SlotShape<float>> shapes_;
};

/// y += B_id (A_id x) for each row, A (rank, width), B (width, rank).
template <class T>
class Lora {
 public:
  Lora(Session& s, const Blas& blas, const Batch<T>& batch, Index rank)
      : blas_(blas),
        batch_(batch),
        rank_(rank),
        count_(adapters_for(s, 2 * width * rank * static_cast<Index>(sizeof(T)))),
        ids_(permutation(s, count_)),
        a_(random_array<T>(s, count_ * rank * width, 53, 1.0 / 64, 0)),
        b_(random_array<T>(s, count_ * rank * width, 54, 0.01, 0)),
        h_(batch.most_rows * rank),
        a_of_(pointers<const T>(s, a_.data(), rank * width)),
        b_of_(pointers<const T>(s, b_.data(), rank * width)),
        x_of_(rows_of<const T>(s, batch.x.data(), width)),
        h_in_(rows_of<const T>(s, h_.data(), rank)),
        h_out_(rows_of<T>(s, h_.data(), rank)),
        y_of_(rows_of<T>(s, batch.y.data(), width)) {}

  Contestant contestant(Session& s, Index rows) const {
    Contestant c;
    c.name = "LoRA, r = " + std::to_string(rank_);
    c.rotation = calls_for(count_, rows);
    c.enqueue = [this, rows, calls = c.rotation](int call) {
      const Index at = call % calls * rows;
      blas_.vectors<T>(rank_, width, a_of_.data() + at, x_of_.data(), 0, h_out_.data(), rows);
      blas_.vectors<T>(width, rank_, b_of_.data() + at, h_in_.data(), 1, y_of_.data(), rows);
    };
    c.check = [this, &s, rows, c] {  // y is added to: from zero, once
      ether::detail::cuda::check(cudaMemsetAsync(batch_.y.data(), 0, batch_.y.bytes(), s.stream()),
                                 "cudaMemsetAsync");
      c.enqueue(0);
      std::vector<double> expected;
      for (Index row : sampled(rows)) {
        const Index offset = ids_[static_cast<std::size_t>(row)] * rank_ * width;
        const auto x = download(s, static_cast<const T*>(batch_.x.data()) + row * width, width);
        const auto a = download(s, static_cast<const T*>(a_.data()) + offset, rank_ * width);
        const auto b = download(s, static_cast<const T*>(b_.data()) + offset, rank_ * width);
        std::vector<double> h;
        for (Index k = 0; k < rank_; ++k)
          h.push_back(std::inner_product(x.begin(), x.end(), a.begin() + k * width, 0.0));
        for (Index o = 0; o < width; ++o)
          expected.push_back(std::inner_product(h.begin(), h.end(), b.begin() + o * rank_, 0.0));
      }
      check_close(c.name,
                  download_rows(s, static_cast<const T*>(batch_.y.data()), width, sampled(rows)),
                  expected, tolerance<T>(width));
    };
    return c;
  }
  double bytes_of_row() const {
    return static_cast<double>(2 * rank_ * width + 3 * width) * sizeof(T);
  }

 private:
  /// Where the adapters lie, in the order of ids_.
  template <class P>
  DeviceArray<P*> pointers(Session& s, P* first, Index step) const {
    std::vector<P*> all;
    for (std::int32_t id : ids_) all.push_back(first + id * step);
    return upload(s, all);
  }
  template <class P>
  DeviceArray<P*> rows_of(Session& s, P* first, Index step) const {
    std::vector<P*> all;
    for (Index row = 0; row < batch_.most_rows; ++row) all.push_back(first + row * step);
    return upload(s, all);
  }

  const Blas& blas_;
  const Batch<T>& batch_;
  Index rank_, count_;
  std::vector<std::int32_t> ids_;
  DeviceArray<T> a_, b_, h_;
  DeviceArray<const T*> a_of_, b_of_, x_of_, h_in_;
  DeviceArray<T*> h_out_, y_of_;
};

}  // namespace

template <class T>
void adapters_table(Session& s) {
  Table table{
      "adapters",
      "a different adapter for every row, width 4096",
      "ETHER: one launch of the row kernel with ids, one side, n = 1. LoRA: A x and B (A x) "
      "as two batched matrix-vector products of cuBLAS (cublasGemmBatchedEx), a stand-in "
      "for the BGMV kernels of serving engines, which may be faster. Adapters are drawn "
      "from four times the cache, for at most 512 calls.",
      {"rows", "what"},
      "time / ETHER",
      false};
  const auto all = s.tokens({1, 4, 16, 64, 256}, {1, 64});
  const Blas blas(s);
  const Batch<T> batch(s, 256);
  const Bank<T> ether(s, 1), ether_plus(s, 2);
  const Lora<T> r8(s, blas, batch, 8), r16(s, blas, batch, 16), r64(s, blas, batch, 64);
  for (Index rows : all) {
    const std::vector<Contestant> contestants = {
        ether.contestant(s, "ETHER", batch, rows, true),
        ether.contestant(s, "ETHER, one for all rows", batch, rows, false),
        ether_plus.contestant(s, "ETHER+", batch, rows, true),
        r8.contestant(s, rows),
        r16.contestant(s, rows),
        r64.contestant(s, rows)};
    const double bytes[] = {ether.bytes_of_row(),      0,
                            ether_plus.bytes_of_row(), r8.bytes_of_row(),
                            r16.bytes_of_row(),        r64.bytes_of_row()};
    const auto times = s.timer.compare(contestants);
    for (std::size_t i = 0; i < times.size(); ++i)
      table.rows.push_back({{std::to_string(rows), contestants[i].name},
                            times[i],
                            bytes[i] * static_cast<double>(rows),
                            0,
                            ratio(times[i], times[0]),
                            {}});
  }
  s.report.add(table);
}

}  // namespace bench

ETHER_BENCH_TABLE(adapters_table)
