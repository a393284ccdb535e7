#pragma once

/// EigenBackend: the CPU, with Eigen's kernels and OpenMP's threads.
///
/// Works without OpenMP, on one thread. Results are the same for any number of threads: work is cut
/// into tiles by its shape alone.

#include <ether/backend.hpp>
#include <ether/backends/eigen/context.hpp>
#include <ether/backends/eigen/gemm.hpp>
#include <ether/backends/eigen/gemm_project.hpp>
#include <ether/backends/eigen/merge.hpp>
#include <ether/backends/eigen/reflect.hpp>
#include <ether/backends/eigen/reflect_gemm.hpp>
#include <ether/backends/eigen/reflect_grad.hpp>

namespace ether {

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

  template <class B>
  static void gemm(Context& ctx, MatrixView<const Intermediate> a, MatrixView<const B> b,
                   bool transpose_b, MatrixView<Intermediate> c, bool accumulate) {
    detail::gemm(ctx, a, b, transpose_b, c, accumulate);
  }

  template <class B>
  static void gemm_project(Context& ctx, MatrixView<const Intermediate> a, MatrixView<const B> w,
                           MatrixView<Intermediate> c, const Reflection<Parameter>& h,
                           MatrixView<const Parameter> q, MatrixView<Parameter> p,
                           MatrixView<Parameter> sums) {
    h.terms() == 1 ? detail::gemm_project<1>(ctx, a, w, c, h, q, p, sums)
                   : detail::gemm_project<2>(ctx, a, w, c, h, q, p, sums);
  }

  template <class B>
  static void reflect_gemm(Context& ctx, const Reflection<Parameter>& h_in,
                           MatrixView<const Scalar> x, MatrixView<const Scalar> w,
                           const Reflection<Parameter>& h_out, MatrixView<const Scalar> bias,
                           MatrixView<B> y) {
    detail::reflect_gemm(ctx, h_in, x, w, h_out, bias, y);
  }

  template <class A, class B, class C>
  static void reflect(Context& ctx, const Reflection<Parameter>& h, MatrixView<const A> in,
                      MatrixView<B> out, MatrixView<const C> add) {
    detail::reflect_rows(ctx, h, in, out, add);
  }

  template <class A, class B>
  static void reflect_columns(Context& ctx, const Reflection<Parameter>& h, MatrixView<const A> in,
                              MatrixView<B> out) {
    reflect_both(ctx, identity<Parameter>(in.cols), h, in, out);
  }

  template <class A, class B>
  static void reflect_both(Context& ctx, const Reflection<Parameter>& h_in,
                           const Reflection<Parameter>& h_out, MatrixView<const A> in,
                           MatrixView<B> out) {
    if (h_out.terms() == 0)
      detail::reflect_rows(ctx, h_in, in, out, MatrixView<const A>{});
    else
      detail::reflect_both(ctx, h_in, h_out, in, out);
  }

  template <class A, class B>
  static void reflect_grad(Context& ctx, const Reflection<Parameter>& h, MatrixView<const A> t,
                           MatrixView<const B> r, MatrixView<Parameter> grads) {
    h.terms() == 1 ? detail::reflect_grad<1>(ctx, h, t, r, grads)
                   : detail::reflect_grad<2>(ctx, h, t, r, grads);
  }

  static void project_grad(Context& ctx, const Reflection<Parameter>& h,
                           MatrixView<const Parameter> sums, MatrixView<Parameter> grads) {
    detail::project_grad(ctx, h, sums, grads);
  }
};

}  // namespace ether
