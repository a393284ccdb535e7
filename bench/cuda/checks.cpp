// The three checks of a whole layer: forward, merge, backward.

#include "reference.hpp"

namespace bench {

using ether::Side;

namespace {

/// Applies h to every row of (rows, width).
void apply_rows(const HostReflection& h, std::vector<double>& rows, Index width) {
  for (std::size_t at = 0; at < rows.size(); at += static_cast<std::size_t>(width))
    h.apply(rows.data() + at);
}

/// Rounding to T does not happen in the sums; products that cuBLAS rounds another way now than in
/// the pass that is checked would differ by it, at random, so less the more tokens there are.
template <class T>
double gradient_tolerance(Index tokens, Index width) {
  const double sums = 8 * tolerance<float>(tokens + width);
  if (std::is_same_v<T, float>) return sums;
  return sums + tolerance<T>(1) / std::sqrt(static_cast<double>(tokens));
}

}  // namespace

template <class T>
void check_rows(Session& s, const std::string& what, const T* w, Index out, Index in,
                const RowOracle& oracle, const T* x, const T* y, Index tokens) {
  const std::vector<Index> rows = sampled(tokens);
  const std::vector<double> x_rows = download_rows(s, x, in, rows);
  std::vector<double> z = x_rows;
  if (oracle.before) oracle.before(z);
  std::vector<double> expected = reference_product(s, z, w, out, in, false);
  if (oracle.behind) oracle.behind(x_rows, expected);
  check_close(what, download_rows(s, y, out, rows), expected, tolerance<T>(in));
}

template <class T>
void check_forward(Session& s, const std::string& what, const T* w, Index out, Index in,
                   const Adapter<float>* adapter, const T* x, const T* y, Index tokens) {
  RowOracle oracle;
  if (adapter != nullptr) {
    oracle.before = [&](auto& z) { apply_rows(HostReflection(*adapter, Side::input), z, in); };
    oracle.behind = [&](const auto&, auto& product) {
      apply_rows(HostReflection(*adapter, Side::output), product, out);
    };
  }
  check_rows(s, what, w, out, in, oracle, x, y, tokens);
}

template <class T>
void check_merge(Session& s, const std::string& what, const T* w, Index out, Index in,
                 const Adapter<float>& adapter, const T* merged) {
  const HostReflection h_in(adapter, Side::input), h_out(adapter, Side::output);
  const double tolerated = tolerance<T>(std::max(in, out));
  if (h_out.terms() == 0) {  // rows on their own: 64 of them over the whole height
    std::vector<Index> rows;
    for (Index i = 0; i < 64; ++i) rows.push_back(i * (out - 1) / 63);
    std::vector<double> expected = download_rows(s, w, in, rows);
    apply_rows(h_in, expected, in);
    return check_close(what, download_rows(s, merged, in, rows), expected, tolerated);
  }
  // Otherwise a block of rows, the last; 32 of its columns, over the whole width, and the last.
  const Index size = out / h_out.blocks(), first = out - size;
  std::vector<double> block = download(s, w + first * in, size * in);
  const std::vector<double> result = download(s, merged + first * in, size * in);
  if (h_in.terms() != 0) apply_rows(h_in, block, in);

  AdapterConfig alone = make_config(adapter.config().variant, Sides::output, 1);
  Adapter<float> last(alone, size, in);  // the adapter's last block
  const auto from = adapter.parameters(Side::output);
  const auto to = last.parameters(Side::output);
  for (Index k = 0; k < to.rows; ++k) std::copy(from.row(k) + first, from.row(k) + out, to.row(k));
  const HostReflection h(last, Side::output);

  std::vector<double> got, expected, column(static_cast<std::size_t>(size));
  for (Index i = 0; i < 33; ++i) {
    const Index c = i * (in - 1) / 32;
    const auto at = [&](Index r) { return static_cast<std::size_t>(r * in + c); };
    for (Index r = 0; r < size; ++r) column[static_cast<std::size_t>(r)] = block[at(r)];
    h.apply(column.data());
    expected.insert(expected.end(), column.begin(), column.end());
    for (Index r = 0; r < size; ++r) got.push_back(result[at(r)]);
  }
  check_close(what, got, expected, tolerated);
}

template <class T>
void check_backward(Session& s, const std::string& what, const T* w, Index out, Index in,
                    const Adapter<float>& adapter, const T* x, const T* grad_y, const T* grad_x,
                    const float* grads_input, const float* grads_output, Index tokens) {
  using Backend = ether::CudaBackend<T>;
  const HostReflection h_in(adapter, Side::input), h_out(adapter, Side::output);

  const std::vector<Index> rows = sampled(tokens);
  std::vector<double> grad_s = download_rows(s, grad_y, out, rows);
  apply_rows(h_out, grad_s, out);
  std::vector<double> expected = reference_product(s, grad_s, w, out, in, true);
  apply_rows(h_in, expected, in);
  check_close(what + ", grad_x", download_rows(s, grad_x, in, rows), expected, tolerance<T>(out));

  // The sums over all tokens, from the rounded z, s, grad_s and grad_z that the library has.
  const ether::PreparedAdapter<Backend> prepared(s.ctx, adapter);
  const MatrixView<const T> weight{w, out, in}, x_view{x, tokens, in}, grad{grad_y, tokens, out};
  const DeviceArray<T> narrow(tokens * in), wide(tokens * out);
  const MatrixView<T> narrow_view{narrow.data(), tokens, in}, wide_view{wide.data(), tokens, out};
  const auto gradients = [&](const char* side, const HostReflection& h, const T* before,
                             const T* behind, const float* got) {
    const Index count = tokens * h.width();
    check_close(what + ", gradients of the " + side + " side",
                download(s, got, h.terms() * h.width()),
                h.gradients(download(s, before, count), download(s, behind, count)),
                gradient_tolerance<T>(tokens, h.width()));
  };
  if (h_in.terms() != 0) {
    ether::reflect_output(s.ctx, prepared, grad, wide_view);
    Backend::gemm(s.ctx, MatrixView<const T>(wide_view), weight, false, narrow_view, false);
    gradients("input", h_in, x, narrow.data(), grads_input);
  }
  if (h_out.terms() != 0) {
    ether::reflect_input(s.ctx, prepared, x_view, narrow_view);
    Backend::gemm(s.ctx, MatrixView<const T>(narrow_view), weight, true, wide_view, false);
    gradients("output", h_out, wide.data(), grad_y, grads_output);
  }
}

// clang-format off
#define ETHER_BENCH_CHECKS(T)                                                                    \
  template void check_rows<T>(Session&, const std::string&, const T*, Index, Index,              \
                              const RowOracle&, const T*, const T*, Index);                      \
  template void check_forward<T>(Session&, const std::string&, const T*, Index, Index,           \
                                 const Adapter<float>*, const T*, const T*, Index);              \
  template void check_merge<T>(Session&, const std::string&, const T*, Index, Index,             \
                               const Adapter<float>&, const T*);                                 \
  template void check_backward<T>(Session&, const std::string&, const T*, Index, Index,          \
                                  const Adapter<float>&, const T*, const T*, const T*,           \
                                  const float*, const float*, Index);
// clang-format on
ETHER_BENCH_CHECKS(float)
ETHER_BENCH_CHECKS(__half)
ETHER_BENCH_CHECKS(__nv_bfloat16)

}  // namespace bench
