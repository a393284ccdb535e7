#pragma once

/// OneDnnBackend: the CPU with oneDNN's products, which use AMX and AVX-512's bfloat16 instructions
/// where the processor has them. The row operation, the merge and the gradients are EigenBackend's.
///
/// Needs oneDNN 2.6 or 3.x built for OpenMP; link ether::onednn. Wherever oneDNN has no fast product of
/// T (float before AVX-512, bfloat16 without its instructions), and for the few tokens for which it
/// is slower, the product is EigenBackend's. A user's process needs no permission for AMX: oneDNN asks
/// the kernel, and does without where that says no.

#include <ether/backends/eigen.hpp>
#include <ether/backends/onednn/packed_matrix.hpp>
#include <ether/weight.hpp>

#include <Eigen/Core>

ETHER_BEGIN_NAMESPACE

/// T: float or Eigen::bfloat16, the type of weight, bias, x and y. In bfloat16, z = x H_in is rounded
/// to bfloat16 before the product, for any number of tokens; s = z W^T stays in float until y is
/// rounded, once. Numbers below 2^-126 count as 0 in oneDNN's bfloat16 products.
///
/// After the first call of a shape a call makes no oneDNN object and allocates nothing here; oneDNN
/// itself allocates some hundred bytes a call.
template <class T>
struct OneDnnBackend {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, Eigen::bfloat16>,
                "ether: OneDnnBackend is for float and Eigen::bfloat16");
  using Host = EigenBackend<T>;

  using Scalar = T;
  using Parameter = float;
  using Intermediate = float;
  using Context = OneDnnContext;
  using Frame = typename Context::Frame;
  using H = Reflection<float>;
  template <class U>
  using Buffer = typename Host::template Buffer<U>;
  using FusedWith = OneDnnBackend;
  static constexpr const char* name = std::is_same_v<T, float> ? "onednn_float" : "onednn_bfloat16";
  static constexpr bool host_memory = true;

  /// Whether oneDNN has a fast product of T on this processor; else all products are EigenBackend's.
  static bool is_accelerated() { return detail::onednn::supports<T>(); }

  template <class U>
  static void copy_in(Context& ctx, MatrixView<const U> host, MatrixView<U> device) {
    Host::copy_in(ctx, host, device);
  }
  template <class U>
  static void copy_out(Context& ctx, MatrixView<const U> device, MatrixView<U> host) {
    Host::copy_out(ctx, device, host);
  }
  static void synchronize(Context&) {}

  static void gemm(Context& ctx, MatrixView<const float> a, MatrixView<const T> b, bool transpose_b,
                   MatrixView<float> c, bool accumulate) {
    Frame frame(ctx);
    const MatrixView<const T> z = operand(ctx, frame, a);
    if (!own_product(a.rows, transpose_b))
      return detail::onednn::matmul<T, float>(ctx, z, b, transpose_b, nullptr, c, accumulate);
    if constexpr (!std::is_same_v<T, float>) {  // rounded as for oneDNN's product
      const auto wide = frame.template matrix<float>(z.rows, z.cols);
      reflect(ctx, identity<float>(z.cols), z, wide, MatrixView<const float>{});
      a = wide;
    }
    Host::gemm(ctx, a, b, transpose_b, c, accumulate);
  }

  template <class AnyH, class A, class B, class C>
  static void reflect(Context& ctx, const AnyH& h, MatrixView<const A> in, MatrixView<B> out,
                      MatrixView<const C> add) {
    Host::reflect(ctx, h, in, out, add);
  }
  template <class A, class B>
  static void transform(Context& ctx, const H& h_in, const H& h_out, MatrixView<const A> in,
                        MatrixView<B> out) {
    Host::transform(ctx, h_in, h_out, in, out);
  }
  template <class AnyH, class A, class B, class C>
  static void reflect_grad(Context& ctx, const AnyH& h, MatrixView<const A> t,
                           MatrixView<const B> r, MatrixView<C> out, MatrixView<float> grads) {
    Host::reflect_grad(ctx, h, t, r, out, grads);
  }

  template <class U>
  static void multiply_reflected(Context& ctx, const H& h_in, MatrixView<const T> x,
                                 MatrixView<const T> w, const H& h_out, MatrixView<const T> bias,
                                 MatrixView<U> y) {
    Frame frame(ctx);
    if (!own_product(x.rows, true))
      detail::onednn::multiply_reflected(
          ctx, h_in, x, h_out, bias, y, [&](MatrixView<const T> z, const T* b, auto s) {
            detail::onednn::matmul<T, std::remove_pointer_t<decltype(s.data)>>(ctx, z, w, true, b,
                                                                               s, false);
          });
    else if constexpr (std::is_same_v<T, float>)
      Host::multiply_reflected(ctx, h_in, x, w, h_out, bias, y);
    else
      Host::multiply_reflected(ctx, identity<float>(x.cols),
                               detail::onednn::reflected(ctx, frame, h_in, x), w, h_out, bias, y);
  }

  /// a as oneDNN multiplies it: itself, or rounded to T in workspace.
  static MatrixView<const T> operand(Context& ctx, Frame& frame, MatrixView<const float> a) {
    if constexpr (std::is_same_v<T, float>) {
      return a;
    } else {
      const auto to = frame.template matrix<T>(a.rows, a.cols);
      reflect(ctx, identity<float>(a.cols), a, to, MatrixView<const T>{});
      return to;
    }
  }

 private:
  /// Whether EigenBackend's product takes these tokens: where oneDNN has no fast one, and for few. oneDNN
  /// reads W as it lies slowly: bfloat16, W 4096 x 4096 on Zen 5, ours is faster up to 4 tokens
  /// forward and up to 16 backward, where W's rows are as far apart as pages.
  static bool own_product(Index tokens, bool transpose_b) {
    return tokens <= (transpose_b ? 4 : 16) || !is_accelerated();
  }
};

/// A frozen weight in oneDNN's own layout, reordered once: the fastest for every number of tokens. The
/// original may be dropped. A handle, as every Weight: copies share the memory. backward makes and
/// keeps a second copy at its first call, whose layout suits it. Layout row_chunk with several blocks
/// needs a DenseWeight.
template <class Backend>
class PackedWeight {
 public:
  using Scalar = typename Backend::Scalar;
  using Context = typename Backend::Context;
  using H = Reflection<float>;
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  /// Copies w (out, in). Throws shape_error, and onednn_error where oneDNN has no fast product of Scalar
  /// on this processor.
  PackedWeight(Context& ctx, MatrixView<const Scalar> w) : packed_(ctx, checked(w)) {}

  Index out_features() const { return packed_.rows(); }
  Index in_features() const { return packed_.cols(); }

  void multiply(Context& ctx, MatrixView<const float> z, MatrixView<float> s) const {
    multiply(ctx, z, true, s);
  }
  void multiply_transposed(Context& ctx, MatrixView<const float> grad_s,
                           MatrixView<float> grad_z) const {
    multiply(ctx, grad_s, false, grad_z);
  }
  template <class T>
  void multiply_reflected(Context& ctx, const H& h_in, MatrixView<const Scalar> x, const H& h_out,
                          MatrixView<const Scalar> bias, MatrixView<T> y) const {
    detail::onednn::multiply_reflected(
        ctx, h_in, x, h_out, bias, y, [&](MatrixView<const Scalar> z, const Scalar* b, auto s) {
          packed_.template multiply<std::remove_pointer_t<decltype(s.data)>>(ctx, z, true, b, s,
                                                                             false);
        });
  }

  /// W itself, unpacked bit for bit into memory of its own: merge allocates it at each call.
  Matrix dense() const {
    Matrix w(out_features(), in_features());
    Context ctx(1);
    packed_.unpack(ctx, MatrixView<Scalar>(w));
    return w;
  }

 private:
  static MatrixView<const Scalar> checked(MatrixView<const Scalar> w) {
    detail::check_shape("the weight", w, w.rows, w.cols, "(out, in)").require();
    if (!Backend::is_accelerated())
      detail::fail<onednn_error>("oneDNN has no fast product of ", Backend::name,
                                 " on this processor, so that the weight (", w.rows, ", ", w.cols,
                                 ") cannot be packed for it; use a DenseWeight");
    return w;
  }

  void multiply(Context& ctx, MatrixView<const float> a, bool transpose,
                MatrixView<float> c) const {
    typename Context::Frame frame(ctx);
    packed_.template multiply<float>(ctx, Backend::operand(ctx, frame, a), transpose, nullptr, c,
                                     false);
  }

  detail::onednn::PackedMatrix<Scalar> packed_;
};

ETHER_END_NAMESPACE
