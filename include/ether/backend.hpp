#pragma once

/// The seam between the mathematics and the machine.
///
/// A backend is a struct of types and static functions: no virtual functions, no registry, no list
/// of backends anywhere. It checks no shapes (the public call has) and knows neither ETHER nor
/// ETHER+, only Reflection. Adding one is a header with such a struct, its kernels, and a test
/// file that runs the conformance suite; see CONTRIBUTING.md.
///
///   Scalar         element type of weight, bias, x, y
///   Parameter      element type of u, v and their gradients: double for double, else float
///   Intermediate   element type between two operations of one call (z = x H_in, s = z W^T), and of
///                  the s that forward keeps for backward
///   name           label for tests and benchmarks
///   host_memory    true where backend memory can be read and written by ordinary code
///
///   Context        made by the user, one per calling thread; threads or stream, and workspace
///   Context::Frame   workspace for one call: matrix<T>(rows, cols), freed when the frame ends;
///                    a Context that has served a call serves its like without allocating
///   Buffer<T>      move-only owner of (rows, cols) elements; may pad rows:
///                    Buffer(Context&, rows, cols), view() const
///
/// A Reflection has 0, 1 or 2 terms; in the three operations on gradients, 1 or 2.
/// Views below are in backend memory, of any row stride. "+=" where `accumulate`, else "=".
/// T is Scalar, Intermediate or, in reflect and reflect_columns, Parameter; each view its own.
///
///   copy_in (ctx, MatrixView<const U> host, MatrixView<U> device)   both in the order of the
///   copy_out(ctx, MatrixView<const U> device, MatrixView<U> host)   Context's other work
///   synchronize(ctx)                                                waits for that work
///
///   gemm(ctx, MatrixView<const Intermediate> a, MatrixView<const T> b, bool transpose_b,
///        MatrixView<Intermediate> c, bool accumulate)
///       c (m, n) (+)= a (m, k) b^T with b (n, k), or a b with b (k, n). k = 0 gives c (+)= 0.
///
///   reflect(ctx, Reflection h, MatrixView<const T> in, MatrixView<T> out, MatrixView<const T> add)
///       out (rows, width) = in H + add; add may have 0 rows (nothing), stride 0 (a bias, the same
///       for every row), or be out itself (accumulate). In place allowed, but not with add = out.
///
///   reflect_columns(ctx, Reflection h, MatrixView<const T> in, MatrixView<T> out)
///       out (width, cols) = H in. In place allowed.
///
///   reflect_grad(ctx, Reflection h, MatrixView<const T> t, MatrixView<const T> r,
///                MatrixView<Parameter> grads)
///       grads (terms, width) += dL/dw_k where out = t H and r = dL/dout, both (rows, width):
///           g_k  = c_k sum_rows (ŵ_k.t) r + (ŵ_k.r) t             per block
///           grads += (g_k - (ŵ_k.g_k) ŵ_k) / |w_k|                through the normalisation
///
///   project_grad(ctx, Reflection h, MatrixView<const Parameter> sums, MatrixView<Parameter> grads)
///       the second line alone, with g_k = c_k sums_k, sums (terms, width)
///
/// Optional, composed from the above where absent:
///
///   reflect_both(ctx, Reflection h_in, Reflection h_out, MatrixView<const T> in,
///                MatrixView<T> out)
///       out = H_out in H_in, rounded once. In place allowed.
///
///   reflect_gemm(ctx, Reflection h_in, MatrixView<const Scalar> x, MatrixView<const Scalar> w,
///                Reflection h_out, MatrixView<const Scalar> bias, MatrixView<T> y)
///       y (m, n) = (x H_in) w^T H_out + bias with x (m, k), w (n, k); bias (1, n) or of 0 rows; T
///       is Scalar or Intermediate, rounded once. All rows see one H_in: h_in.step is 0.
///
///   reflect_with_grad(ctx, Reflection h, MatrixView<const Scalar> t,
///                     MatrixView<const Intermediate> r, MatrixView<Scalar> out,
///                     MatrixView<Parameter> grads)
///       reflect_grad, and out = r H, which may be r.
///
///   gemm_project(ctx, MatrixView<const Intermediate> a, MatrixView<const Scalar> w,
///                MatrixView<Intermediate> c, Reflection h, MatrixView<const Parameter> q,
///                MatrixView<Parameter> p, MatrixView<Parameter> sums)
///       c (m, n) = a (m, k) w with w (k, n); and per block b of h, of width k, with Û_b the terms'
///       unit vectors (terms, size) and W_b the rows of w: p_b (terms, n) = Û_b W_b and
///       sums_b (terms, size) = q_b W_b^T. p, q (blocks * terms, n) block by block, sums (terms, k).
///       All "=". Reads w once.
///
/// Results must not depend on the number of threads; sums are at least float32; 16-bit results
/// are rounded once, to nearest even.

#include <ether/transform.hpp>

#include <type_traits>
#include <utility>

namespace ether {

namespace detail {

template <class B>
struct BackendProbe {
  using S = typename B::Scalar;
  using P = typename B::Parameter;
  using I = typename B::Intermediate;
  static constexpr typename B::Context& ctx() noexcept;
  template <class T>
  static constexpr MatrixView<T> view() noexcept;
  static constexpr Reflection<P> h() noexcept;
};

// One alias per member: well-formed where the backend has it as the contract above says.
template <class B>
using scalar_t = typename B::Scalar;
template <class B>
using parameter_t = typename B::Parameter;
template <class B>
using intermediate_t = typename B::Intermediate;
template <class B>
using name_t = decltype(static_cast<const char*>(B::name));
template <class B>
using host_memory_t = std::bool_constant<B::host_memory>;
template <class B>
using context_t = typename B::Context;
template <class B>
using frame_t = decltype(std::declval<typename B::Context::Frame&>()
                             .template matrix<typename B::Intermediate>(Index{}, Index{})
                             .data);
template <class B>
using buffer_t =
    decltype(std::declval<const typename B::template Buffer<typename B::Parameter>&>().view().data);
template <class B, class Probe = BackendProbe<B>>
using copy_in_t = decltype(B::copy_in(Probe::ctx(), Probe::template view<const typename Probe::P>(),
                                      Probe::template view<typename Probe::P>()));
template <class B, class Probe = BackendProbe<B>>
using copy_out_t =
    decltype(B::copy_out(Probe::ctx(), Probe::template view<const typename Probe::P>(),
                         Probe::template view<typename Probe::P>()));
template <class B, class Probe = BackendProbe<B>>
using synchronize_t = decltype(B::synchronize(Probe::ctx()));
template <class B, class Probe = BackendProbe<B>>
using gemm_t = decltype(B::gemm(Probe::ctx(), Probe::template view<const typename Probe::I>(),
                                Probe::template view<const typename Probe::S>(), true,
                                Probe::template view<typename Probe::I>(), true));
template <class B, class Probe = BackendProbe<B>>
using reflect_t = decltype(B::reflect(
    Probe::ctx(), Probe::h(), Probe::template view<const typename Probe::S>(),
    Probe::template view<typename Probe::I>(), Probe::template view<const typename Probe::S>()));
template <class B, class Probe = BackendProbe<B>>
using reflect_columns_t = decltype(B::reflect_columns(
    Probe::ctx(), Probe::h(), Probe::template view<const typename Probe::S>(),
    Probe::template view<typename Probe::S>()));
template <class B, class Probe = BackendProbe<B>>
using reflect_grad_t = decltype(B::reflect_grad(
    Probe::ctx(), Probe::h(), Probe::template view<const typename Probe::S>(),
    Probe::template view<const typename Probe::I>(), Probe::template view<typename Probe::P>()));
template <class B, class Probe = BackendProbe<B>>
using project_grad_t = decltype(B::project_grad(Probe::ctx(), Probe::h(),
                                                Probe::template view<const typename Probe::P>(),
                                                Probe::template view<typename Probe::P>()));
template <class B, class Probe = BackendProbe<B>>
using reflect_both_t = decltype(B::reflect_both(Probe::ctx(), Probe::h(), Probe::h(),
                                                Probe::template view<const typename Probe::S>(),
                                                Probe::template view<typename Probe::S>()));

template <class B, class Probe = BackendProbe<B>>
using reflect_gemm_t = decltype(B::reflect_gemm(
    Probe::ctx(), Probe::h(), Probe::template view<const typename Probe::S>(),
    Probe::template view<const typename Probe::S>(), Probe::h(),
    Probe::template view<const typename Probe::S>(), Probe::template view<typename Probe::S>()));
template <class B, class Probe = BackendProbe<B>>
using reflect_with_grad_t = decltype(B::reflect_with_grad(
    Probe::ctx(), Probe::h(), Probe::template view<const typename Probe::S>(),
    Probe::template view<const typename Probe::I>(), Probe::template view<typename Probe::S>(),
    Probe::template view<typename Probe::P>()));
template <class B, class Probe = BackendProbe<B>>
using gemm_project_t = decltype(B::gemm_project(
    Probe::ctx(), Probe::template view<const typename Probe::I>(),
    Probe::template view<const typename Probe::S>(), Probe::template view<typename Probe::I>(),
    Probe::h(), Probe::template view<const typename Probe::P>(),
    Probe::template view<typename Probe::P>(), Probe::template view<typename Probe::P>()));

template <template <class...> class Member, class T, class = void>
struct has_member : std::false_type {};
template <template <class...> class Member, class T>
struct has_member<Member, T, std::void_t<Member<T>>> : std::true_type {};

/// Whether type T has a member in the sense of the aliases above.
template <template <class...> class Member, class T>
inline constexpr bool has = has_member<Member, T>::value;

}  // namespace detail

/// Compiles only for a complete backend; each missing member is one sentence.
template <class Backend>
constexpr bool check_backend() {
#define ETHER_BACKEND_MEMBER(member, hint) \
  static_assert(detail::has<detail::member##_t, Backend>, "ether: the backend lacks " hint)
  ETHER_BACKEND_MEMBER(scalar, "the type Scalar, the element type of weight, x and y");
  ETHER_BACKEND_MEMBER(parameter, "the type Parameter, the element type of u and v");
  ETHER_BACKEND_MEMBER(intermediate, "the type Intermediate, the element type of z and s");
  ETHER_BACKEND_MEMBER(name, "static constexpr const char* name");
  ETHER_BACKEND_MEMBER(host_memory, "static constexpr bool host_memory");
  ETHER_BACKEND_MEMBER(context, "the type Context");
  if constexpr (detail::has<detail::scalar_t, Backend> &&
                detail::has<detail::parameter_t, Backend> &&
                detail::has<detail::intermediate_t, Backend> &&
                detail::has<detail::context_t, Backend>) {
    ETHER_BACKEND_MEMBER(frame, "Context::Frame with matrix<T>(rows, cols)");
    ETHER_BACKEND_MEMBER(buffer, "the template Buffer<T> with view() const");
    ETHER_BACKEND_MEMBER(copy_in, "copy_in(ctx, host, device)");
    ETHER_BACKEND_MEMBER(copy_out, "copy_out(ctx, device, host)");
    ETHER_BACKEND_MEMBER(synchronize, "synchronize(ctx)");
    ETHER_BACKEND_MEMBER(gemm, "gemm(ctx, a, b, transpose_b, c, accumulate)");
    ETHER_BACKEND_MEMBER(reflect, "reflect(ctx, reflection, in, out, add)");
    ETHER_BACKEND_MEMBER(reflect_columns, "reflect_columns(ctx, reflection, in, out)");
    ETHER_BACKEND_MEMBER(reflect_grad, "reflect_grad(ctx, reflection, t, r, grads)");
    ETHER_BACKEND_MEMBER(project_grad, "project_grad(ctx, reflection, sums, grads)");
  }
#undef ETHER_BACKEND_MEMBER
  return true;
}

}  // namespace ether
