#pragma once

/// The seam between the mathematics and the machine.
///
/// A backend is a struct of types and static functions: no virtual functions, no registry, no list
/// of backends anywhere. It checks no shapes (the public call has) and knows neither ETHER nor
/// ETHER+, only Reflection. Adding one is a header with such a struct, its kernels, and a test
/// file that runs the conformance suite; see CONTRIBUTING.md. backend_check.hpp is this page as
/// compile-time checks.
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
///   copy_in (ctx, MatrixView<const U> host, MatrixView<U> device)   both in the order of the
///   copy_out(ctx, MatrixView<const U> device, MatrixView<U> host)   Context's other work
///   synchronize(ctx)                                                waits for that work
///
/// Four operations. A Reflection h has 0, 1 or 2 terms, in reflect_grad 1 or 2. Views are in backend
/// memory, of any row stride. The element types A, B, C, where they are several, stand behind each.
///
///   gemm(ctx, MatrixView<const Intermediate> a, MatrixView<const Scalar> b, bool transpose_b,
///        MatrixView<Intermediate> c, bool accumulate)
///       c (m, n) = a (m, k) b^T with b (n, k), or a b with b (k, n); += where `accumulate`.
///       k = 0 gives c (+)= 0.
///
///   reflect(ctx, Reflection h, MatrixView<const A> in, MatrixView<B> out, MatrixView<const C> add)
///       Rows: out (rows, width) = in H + add, each row with the H that h.block(row, chunk) names. add
///       may have 0 rows (nothing), stride 0 (a bias, the same for every row), or be out itself
///       (accumulate). In place allowed, but not with add = out.
///       A, B, C: any of Scalar and Intermediate.
///
///   transform(ctx, Reflection h_in, Reflection h_out, MatrixView<const A> in, MatrixView<B> out)
///       A weight: out (rows, cols) = H_out (in H_in), rounded once; either may be the identity. In
///       place allowed. A, B: Scalar and Scalar, Scalar and Parameter, Parameter and Scalar.
///
///   reflect_grad(ctx, Reflection h, MatrixView<const A> t, MatrixView<const B> r,
///                MatrixView<C> out, MatrixView<Parameter> grads)
///       grads (terms, width) += dL/dw_k where t H was taken and r = dL/d(t H), both (rows, width):
///           g_k  = c_k sum_rows (ŵ_k.t) r + (ŵ_k.r) t             per block
///           grads += (g_k - (ŵ_k.g_k) ŵ_k) / |w_k|                through the normalisation
///       and, unless out is empty, out (rows, width) = r H = dL/dt; out may be r.
///       A, B, C: Scalar, Intermediate, Scalar (input side); Intermediate, Scalar, Intermediate.
///
/// For AdapterBank, rows that have adapters of their own (row_reflections.hpp): reflect and reflect_grad with
/// RowReflections in place of h. A row's result depends on nothing in the other rows. grads is
/// (slots * most_terms, width), for vectors of length 1: |w_k| is 1 there. Optional:
///
///   multiply_reflected with RowReflections in place of h_in, and of h_out or not
///   reflect_behind_bias(ctx, RowReflections h, MatrixView<Scalar> y, MatrixView<const Scalar> bias)
///       y = (y - bias) H + bias, in place, for a backend whose product adds the bias: rows without
///       adapter keep their bits.
///
/// Two optional ones, which a Weight asks for (weight.hpp). A backend that has them says with
///
///   using FusedWith = <the backend>
///
/// whose gemm they agree with: one that inherits them and brings a gemm of its own has to say it
/// again, or say void to do without them.
///
///   multiply_reflected(ctx, Reflection h_in, MatrixView<const Scalar> x, MatrixView<const Scalar> w,
///                      Reflection h_out, MatrixView<const Scalar> bias, MatrixView<T> y)
///       y (m, n) = (x H_in) w^T H_out + bias with x (m, k), w (n, k); bias (1, n) or of 0 rows; T
///       is Scalar or Intermediate, rounded once. All rows see one H_in: h_in.step is 0.
///       Absent: reflect, gemm, reflect.
///
///   bool output_grad(ctx, Reflection h_in, MatrixView<const Scalar> x, MatrixView<const Scalar> w,
///                    Reflection h_out, MatrixView<const Scalar> grad_y,
///                    MatrixView<Intermediate> grad_z, MatrixView<Parameter> grads)
///       grads (terms, n) += the gradients of h_out without s = (x H_in) w^T, and, unless grad_z is
///       empty, grad_z (m, k) = (grad_y H_out) w. h_in.step is 0. False, and nothing done, where
///       computing s again costs less. Absent: s is computed again.
///
/// Results must not depend on the number of threads; sums are at least float32; 16-bit results
/// are rounded once, to nearest even.

#include <ether/backend_check.hpp>

ETHER_BEGIN_NAMESPACE

/// Compiles only for a complete backend; each missing or ill-fitting member is one sentence.
template <class Backend>
constexpr bool check_backend() {
  using detail::has;
#define ETHER_BACKEND_MEMBER(member, hint) \
  static_assert(has<detail::member##_t, Backend>, "ether: the backend lacks " hint)
  ETHER_BACKEND_MEMBER(scalar, "the type Scalar, the element type of weight, x and y");
  ETHER_BACKEND_MEMBER(parameter, "the type Parameter, the element type of u and v");
  ETHER_BACKEND_MEMBER(intermediate, "the type Intermediate, the element type of z and s");
  ETHER_BACKEND_MEMBER(name, "static constexpr const char* name");
  ETHER_BACKEND_MEMBER(host_memory, "static constexpr bool host_memory");
  ETHER_BACKEND_MEMBER(context, "the type Context");
  if constexpr (has<detail::scalar_t, Backend> && has<detail::parameter_t, Backend> &&
                has<detail::intermediate_t, Backend> && has<detail::context_t, Backend>) {
    ETHER_BACKEND_MEMBER(frame, "Context::Frame with matrix<T>(rows, cols)");
    ETHER_BACKEND_MEMBER(buffer, "the template Buffer<T> with view() const");
    ETHER_BACKEND_MEMBER(copy_in, "copy_in(ctx, host, device)");
    ETHER_BACKEND_MEMBER(copy_out, "copy_out(ctx, device, host)");
    ETHER_BACKEND_MEMBER(synchronize, "synchronize(ctx)");
    ETHER_BACKEND_MEMBER(gemm, "gemm(ctx, a, b, transpose_b, c, accumulate)");
    ETHER_BACKEND_MEMBER(reflect, "reflect(ctx, reflection, in, out, add)");
    ETHER_BACKEND_MEMBER(transform, "transform(ctx, h_in, h_out, in, out)");
    ETHER_BACKEND_MEMBER(reflect_grad, "reflect_grad(ctx, reflection, t, r, out, grads)");

    static_assert(!detail::NamesMultiplyReflected<Backend>::value ||
                      has<detail::multiply_reflected_t, Backend>,
                  "ether: the backend's multiply_reflected has another signature than "
                  "multiply_reflected(ctx, h_in, x, w, h_out, bias, y), y of Scalar and of "
                  "Intermediate");
    static_assert(!detail::NamesOutputGrad<Backend>::value || has<detail::output_grad_t, Backend>,
                  "ether: the backend's output_grad has another signature than bool "
                  "output_grad(ctx, h_in, x, "
                  "w, h_out, grad_y, grad_z, grads)");
    static_assert(
        !(detail::NamesMultiplyReflected<Backend>::value ||
          detail::NamesOutputGrad<Backend>::value) ||
            detail::says_fused_with<Backend>(),
        "ether: the backend has, perhaps from one that it derives from, multiply_reflected or "
        "output_grad, but its FusedWith does not name it; write `using FusedWith = <the backend>` "
        "if "
        "they agree with its gemm, or `using FusedWith = void` to do without them");
  }
#undef ETHER_BACKEND_MEMBER
  return true;
}

ETHER_END_NAMESPACE
