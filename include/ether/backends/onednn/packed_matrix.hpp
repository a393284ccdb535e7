#pragma once

/// A weight in the layout that oneDNN's products read fastest.

#include <ether/backends/onednn/matmul.hpp>

#include <memory>
#include <mutex>
#include <utility>

ETHER_BEGIN_NAMESPACE
namespace detail::onednn {

/// A frozen (n, k) matrix w, reordered once. Copies are cheap and share the memory. Several threads
/// may use it at once, each with its own Context. One made by default may only be assigned to.
template <class S>
class PackedMatrix {
 public:
  PackedMatrix() = default;

  /// Copies w; throws onednn_error where oneDNN has no product of S.
  PackedMatrix(OneDnnContext& ctx, MatrixView<const S> w) : shared_(std::make_shared<Shared>()) {
    shared_->rows = w.rows;
    shared_->cols = w.cols;
    if (w.empty()) return;
    shared_->for_transpose = make_layout(ctx, w.cols, w.rows);
    reorder(ctx, row_by_row(w), w.data, shared_->for_transpose.desc,
            shared_->for_transpose.bytes.get());
  }

  Index rows() const { return shared_->rows; }
  Index cols() const { return shared_->cols; }

  /// c (m, n) (+)= a (m, k) w^T + bias, or c (m, k) (+)= a (m, n) w + bias where not `transpose`;
  /// bias (c.cols) or null. The first product of the second kind makes a copy of w for it.
  template <class D>
  void multiply(OneDnnContext& ctx, MatrixView<const S> a, bool transpose, const S* bias,
                MatrixView<D> c, bool accumulate) const {
    if (c.empty()) return;
    if (a.cols == 0) return add_bias_alone(bias, c, accumulate);
    const Layout& w = transpose ? shared_->for_transpose : for_plain(ctx);
    onednn::multiply(ctx, a, Factor::packed, w.bytes.get(), &w.desc, bias, c, accumulate);
  }

  /// w itself, row-major, bit for bit.
  void unpack(OneDnnContext& ctx, MatrixView<S> w) const {
    if (w.empty()) return;
    reorder(ctx, shared_->for_transpose.desc, shared_->for_transpose.bytes.get(), row_by_row(w),
            w.data);
  }

 private:
  struct Layout {
    dnnl::memory::desc desc;
    AlignedBytes bytes;
  };
  struct Shared {
    Index rows = 0, cols = 0;
    Layout for_transpose, for_plain;
    std::once_flag for_plain_made;
  };

  /// w^T as oneDNN sees w.
  template <class T>
  static dnnl::memory::desc row_by_row(const MatrixView<T>& w) {
    return layout(w.cols, w.rows, 1, w.rows > 1 ? w.stride : w.cols, data_type<S>());
  }

  /// oneDNN's choice for products with a (k, n) matrix. One for each shape, whatever the Context's
  /// threads, so that a plan made for one matrix serves every other of its shape.
  static Layout make_layout(OneDnnContext& ctx, Index k, Index n) {
    // From 1 to 1,024 tokens, one thread's choice is the same. (For many threads and few tokens
    // oneDNN would cut a narrow w into blocks of 32 instead of 64 rows.)
    constexpr Index tokens = 128;
    const ThreadCount threads(1);
    const DataType type = data_type<S>();
    const Problem p{tokens, n, k, type, DataType::f32, Factor::packed, false, false};
    try {
      Layout made;
      made.desc =
          choose(ctx.engine(), p, dnnl::memory::desc({k, n}, type, dnnl::memory::format_tag::any))
              .weights_desc();
      made.bytes = aligned_bytes(made.desc.get_size());
      return made;
    } catch (const dnnl::error& e) {
      check(e.status, "making oneDNN's matmul", tokens, n, k);
      throw;
    }
  }

  dnnl::memory::desc transposed(const dnnl::memory::desc& desc) const {
    try {
      return desc.permute_axes({1, 0});
    } catch (const dnnl::error& e) {
      fail<onednn_error>("oneDNN cannot transpose the layout of a weight (", rows(), ", ", cols(),
                         "): ", dnnl_status2str(e.status));
    }
  }

  const Layout& for_plain(OneDnnContext& ctx) const {
    std::call_once(shared_->for_plain_made, [&] {
      Layout made = make_layout(ctx, rows(), cols());
      reorder(ctx, transposed(shared_->for_transpose.desc), shared_->for_transpose.bytes.get(),
              made.desc, made.bytes.get());
      shared_->for_plain = std::move(made);
    });
    return shared_->for_plain;
  }

  void reorder(OneDnnContext& ctx, const dnnl::memory::desc& from_desc, const void* from,
               const dnnl::memory::desc& to_desc, void* to) const {
    const ThreadCount threads(ctx.team());
    try {
      dnnl::memory source(from_desc, ctx.engine(), const_cast<void*>(from));
      dnnl::memory target(to_desc, ctx.engine(), to);
      dnnl::reorder(source, target).execute(ctx.stream(), source, target);
      ctx.stream().wait();
    } catch (const dnnl::error& e) {
      fail<onednn_error>("oneDNN's reorder of a weight (", rows(), ", ", cols(),
                         ") failed: ", dnnl_status2str(e.status));
    }
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace detail::onednn
ETHER_END_NAMESPACE
