#pragma once

/// OFT, orthogonal finetuning, in its input-centric form (OFTv2: Qiu et al., arXiv 2506.19847): the
/// blocks act on activations, W is never transformed.
///
///     S_i = (R_i - R_i^T) / 2       H_i = (I + S_i)(I - S_i)^-1        Cayley; H_i orthogonal
///     z = x H                       H = diag(H_1, ..., H_n), blocks (size, size)
///     y = z W^T + b                 W' = W H^T

#include "cayley.hpp"
#include "frozen.hpp"

namespace bench {

/// out (rows, width) = in diag(h_1, ..., h_n), h (width, size): block after block, on copies of a few
/// rows, since rows that are a power of two apart would evict one another from the cache. Not in
/// place.
template <class P, class A, class B>
void multiply_blocks(ether::EigenContext& ctx, MatrixView<const A> in, MatrixView<const P> h,
                     MatrixView<B> out) {
  using ether::detail::convert;
  constexpr Index tile = 32, slice = 16;
  const Index size = h.cols, blocks = h.rows / size, tiles = (in.rows + tile - 1) / tile;
  ether::EigenContext::Frame frame(ctx);
  const auto scratch = frame.matrix<P>(ctx.threads() * 2 * slice, size);
  ctx.parallel_for(tiles * blocks, in.rows * h.rows * size, [&](Index task, int thread) {
    const Index column = task % blocks * size;
    const Index first = task / blocks * tile, end = std::min(in.rows, first + tile);
    for (Index row = first; row < end; row += slice) {
      const Index rows = std::min(slice, end - row);
      const auto from = scratch.middle_rows(thread * 2 * slice, rows);
      const auto to = scratch.middle_rows((thread * 2 + 1) * slice, rows);
      for (Index i = 0; i < rows; ++i) convert<P>(in.row(row + i) + column, size, from.row(i));
      small_product(Strided<P>{from.data, size, 1}, h.middle_rows(column, size), to, false);
      for (Index i = 0; i < rows; ++i) convert<P>(to.row(i), size, out.row(row + i) + column);
    }
  });
}

template <class Backend>
class Oft {
 public:
  using Scalar = typename Backend::Scalar;
  using P = typename Backend::Parameter;
  using Context = typename Backend::Context;
  using Frame = typename Context::Frame;
  using View = MatrixView<const P>;

  /// r (in, block_size): R_1 above R_2 and so on; block_size divides in.
  Oft(Context& ctx, MatrixView<const Scalar> weight, View r, const Scalar* bias = nullptr)
      : frozen_(weight, bias), h_(ctx, r.rows, r.cols), h_transposed_(ctx, r.rows, r.cols) {
    if (r.cols < 1 || weight.cols % r.cols != 0)
      ether::detail::fail<ether::parameter_error>("block size ", r.cols, " must divide the width ",
                                                  weight.cols);
    set(ctx, r);
  }

  /// H from R, as set_adapter: part of a training step, and of no step in inference.
  void set(Context& ctx, View r) {
    const auto h = h_.view(), h_transposed = h_transposed_.view();
    ether::detail::check_shape("R", r, frozen_.in_features(), h.cols, "(in, block_size)").require();
    const Index size = h.cols;
    ctx.parallel_for(h.rows / size, 2 * h.rows * size * size, [&](Index block, int) {
      const Index row = block * size;
      cayley(r.middle_rows(row, size), h.middle_rows(row, size));
      for (Index i = 0; i < size; ++i)
        for (Index k = 0; k < size; ++k) h_transposed(row + k, i) = h(row + i, k);
    });
  }

  Index in_features() const { return frozen_.in_features(); }
  Index block_size() const { return h_.view().cols; }
  /// Of a skew-symmetric block only the triangle counts.
  Index parameters() const { return frozen_.in_features() * (block_size() - 1) / 2; }
  Index bytes() const { return parameters() * static_cast<Index>(sizeof(P)); }
  double flops_per_token() const {
    return 2.0 * static_cast<double>(h_.view().rows * block_size());
  }
  double flops_per_forward() const { return 0; }
  double flops_per_set() const { return flops_per_token() * static_cast<double>(block_size()); }

  /// Overwrites y.
  void forward(Context& ctx, MatrixView<const Scalar> x, MatrixView<Scalar> y) const {
    frozen_.check_forward(x, y);
    Frame frame(ctx);
    const auto z = frame.template matrix<P>(x.rows, x.cols);
    const auto s = Frozen<Backend>::as_wide(frame, y);
    multiply_blocks(ctx, x, View(h_.view()), z);
    frozen_.multiply(ctx, z, s);
    frozen_.finish(ctx, s, y);
  }

  /// Overwrites grad_x where it is not empty; adds dL/dR to grads (in, block_size).
  void backward(Context& ctx, MatrixView<const Scalar> x, MatrixView<const Scalar> grad_y,
                MatrixView<Scalar> grad_x, MatrixView<P> grads) const {
    frozen_.check_backward(x, grad_y, grad_x);
    if (x.rows == 0) return;
    Frame frame(ctx);
    const View grad_z = frozen_.grad_z(ctx, frame, grad_y);
    const View h_transposed = h_transposed_.view();
    cayley_grad(ctx, x, grad_z, h_transposed, grads);
    if (!grad_x.empty()) multiply_blocks(ctx, grad_z, h_transposed, grad_x);
  }

  /// merged (out, in) = W H^T, rounded once.
  void merge(Context& ctx, MatrixView<Scalar> merged) const {
    frozen_.check_merge(merged);
    multiply_blocks(ctx, frozen_.weight(), View(h_transposed_.view()), merged);
  }

 private:
  Frozen<Backend> frozen_;
  typename Backend::template Buffer<P> h_, h_transposed_;  // (in, block_size): block after block
};

}  // namespace bench
