#pragma once

/// EigenBackend: the CPU, with kernels on Eigen's vector types and OpenMP's threads.
///
/// Works without OpenMP, on one thread. Results are the same for any number of threads: work is cut
/// into tiles by its shape alone.

#include <ether/backend.hpp>
#include <ether/backends/eigen/context.hpp>
#include <ether/backends/eigen/gemm.hpp>
#include <ether/backends/eigen/multiply_reflected.hpp>
#include <ether/backends/eigen/output_grad.hpp>
#include <ether/backends/eigen/reflect.hpp>
#include <ether/backends/eigen/reflect_each.hpp>
#include <ether/backends/eigen/reflect_grad.hpp>
#include <ether/backends/eigen/transform.hpp>

ETHER_BEGIN_NAMESPACE

namespace detail {

template <class T>
constexpr const char* eigen_backend_name() {
  if constexpr (std::is_same_v<T, double>) return "eigen_double";
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) return "eigen_bfloat16";
  if constexpr (std::is_same_v<T, Eigen::half>) return "eigen_half";
  return "eigen_float";
}

}  // namespace detail

/// T: float, double, Eigen::bfloat16 or Eigen::half, the type of weight, bias, x and y. 16-bit
/// types are widened as they are read and computed with in float.
template <class T>
struct EigenBackend {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> ||
                    std::is_same_v<T, Eigen::bfloat16> || std::is_same_v<T, Eigen::half>,
                "ether: EigenBackend is for float, double, Eigen::bfloat16 and Eigen::half");

  using Scalar = T;
  using Parameter = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using Intermediate = Parameter;
  using Context = EigenContext;
  static constexpr const char* name = detail::eigen_backend_name<T>();
  static constexpr bool host_memory = true;
  using FusedWith = EigenBackend;

  template <class U>
  class Buffer {
   public:
    Buffer(Context&, Index rows, Index cols)
        : bytes_(detail::aligned_bytes(static_cast<std::size_t>(rows * cols) * sizeof(U))),
          view_(reinterpret_cast<U*>(bytes_.get()), rows, cols) {}
    MatrixView<U> view() const { return view_; }

   private:
    detail::AlignedBytes bytes_;
    MatrixView<U> view_;
  };

  template <class U>
  static void copy_in(Context&, MatrixView<const U> host, MatrixView<U> device) {
    for (Index r = 0; r < host.rows; ++r) std::copy_n(host.row(r), host.cols, device.row(r));
  }
  template <class U>
  static void copy_out(Context& ctx, MatrixView<const U> device, MatrixView<U> host) {
    copy_in(ctx, device, host);
  }
  static void synchronize(Context&) {}

  /// b of Scalar, or of another of the types above.
  template <class B>
  static void gemm(Context& ctx, MatrixView<const Intermediate> a, MatrixView<const B> b,
                   bool transpose_b, MatrixView<Intermediate> c, bool accumulate) {
    detail::gemm(ctx, a, b, transpose_b, c, accumulate);
  }

  /// H: Reflection, or RowReflections of Parameter, Eigen::half or Eigen::bfloat16.
  template <class H, class A, class B, class C>
  static void reflect(Context& ctx, const H& h, MatrixView<const A> in, MatrixView<B> out,
                      MatrixView<const C> add) {
    detail::reflect_rows(ctx, h, in, out, add);
  }

  template <class A, class B>
  static void transform(Context& ctx, const Reflection<Parameter>& h_in,
                        const Reflection<Parameter>& h_out, MatrixView<const A> in,
                        MatrixView<B> out) {
    detail::transform(ctx, h_in, h_out, in, out);
  }

  /// H: Reflection or RowReflections of Parameter.
  template <class H, class A, class B, class C>
  static void reflect_grad(Context& ctx, const H& h, MatrixView<const A> t, MatrixView<const B> r,
                           MatrixView<C> out, MatrixView<Parameter> grads) {
    detail::reflect_grad(ctx, h, t, r, grads);
    if (!out.empty()) detail::reflect_rows(ctx, h, r, out, MatrixView<const C>{});
  }

  /// w of Scalar, or of another of the types above (MixedWeight). HIn, HOut: Reflection or RowReflections.
  template <class HIn, class W, class HOut, class B>
  static void multiply_reflected(Context& ctx, const HIn& h_in, MatrixView<const Scalar> x,
                                 MatrixView<const W> w, const HOut& h_out,
                                 MatrixView<const Scalar> bias, MatrixView<B> y) {
    detail::multiply_reflected(ctx, h_in, x, w, h_out, bias, y);
  }

  static bool output_grad(Context& ctx, const Reflection<Parameter>& h_in,
                          MatrixView<const Scalar> x, MatrixView<const Scalar> w,
                          const Reflection<Parameter>& h_out, MatrixView<const Scalar> grad_y,
                          MatrixView<Intermediate> grad_z, MatrixView<Parameter> grads) {
    return detail::output_grad(ctx, h_in, x, w, h_out, grad_y, grad_z, grads);
  }
};

ETHER_END_NAMESPACE
