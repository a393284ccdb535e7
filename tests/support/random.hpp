#pragma once

/// Random inputs from a printed seed, on the host and in a backend's memory.

#include "compare.hpp"

#include <ether/adapter.hpp>

#include <random>

namespace test {

/// Standard normal values, as T holds them.
template <class T>
MatrixOf<T> random_matrix(Index rows, Index cols, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  MatrixOf<T> m(rows, cols);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < cols; ++c) m(r, c) = static_cast<T>(normal(generator));
  return m;
}

/// An adapter far from the identity: u and v independent, of lengths other than 1.
template <class P>
ether::Adapter<P> random_adapter(const ether::AdapterConfig& config, Index out, Index in,
                                 std::uint64_t seed) {
  ether::Adapter<P> adapter(config, out, in);
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.1, 1.5);
  for (Index i = 0; i < adapter.size(); ++i) adapter.data()[i] = static_cast<P>(normal(generator));
  return adapter;
}

/// A matrix in backend memory inside a larger one, so that its rows are `pad` elements apart and
/// what surrounds it can be seen to stay as it was.
template <class Backend, class T>
class DeviceMatrix {
 public:
  using Context = typename Backend::Context;

  DeviceMatrix(Context& ctx, Index rows, Index cols, Index pad)
      : ctx_(&ctx),
        surround_(static_cast<T>(-77)),
        buffer_(ctx, rows + 2, cols + pad),
        view_(buffer_.view().block(1, pad / 2, rows, cols)) {
    fill(surround_);
  }
  DeviceMatrix(Context& ctx, const MatrixOf<T>& values, Index pad)
      : DeviceMatrix(ctx, values.rows(), values.cols(), pad) {
    Backend::copy_in(ctx, ether::MatrixView<const T>(values), view_);
  }

  ether::MatrixView<T> view() const { return view_; }
  ether::MatrixView<const T> const_view() const { return view_; }

  MatrixOf<T> host() const { return copy(view_); }
  Matrix values() const { return to_double(host()); }

  void fill(T value) {
    const auto all = buffer_.view();
    MatrixOf<T> host(all.rows, all.cols);
    host.setConstant(value);
    Backend::copy_in(*ctx_, ether::MatrixView<const T>(host), all);
    Backend::synchronize(*ctx_);
  }

  /// True where everything around the matrix still is what it was made with.
  bool surround_untouched() const {
    const auto all = buffer_.view();
    const MatrixOf<T> host = copy(all);
    const Index top = 1, left = (view_.data - all.data) - all.stride;
    for (Index r = 0; r < all.rows; ++r)
      for (Index c = 0; c < all.cols; ++c) {
        const bool inside = r >= top && r < top + view_.rows && c >= left && c < left + view_.cols;
        if (!inside && !(host(r, c) == surround_)) return false;
      }
    return true;
  }

 private:
  MatrixOf<T> copy(ether::MatrixView<const T> from) const {
    MatrixOf<T> host(from.rows, from.cols);
    Backend::copy_out(*ctx_, from, ether::MatrixView<T>(host));
    Backend::synchronize(*ctx_);
    return host;
  }

  Context* ctx_;
  T surround_;
  typename Backend::template Buffer<T> buffer_;
  ether::MatrixView<T> view_;
};

}  // namespace test
