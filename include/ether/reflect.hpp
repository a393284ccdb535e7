#pragma once

/// The row operation alone, for engines that keep their own matrix product:
/// y = ((x H_in) W^T) H_out + b is reflect_input, their product, reflect_output with their bias.
///
/// x is often shared (by q, k and v; by gate and up), and each of them has an H_in of its own: give z memory
/// of its own there. Where the engine's W has its rows in another order than the checkpoint (llama.cpp's q
/// and k), or holds several of its weights, PreparedAdapter must know: see adapted_rows.hpp.
///
/// Each has a form without a Context, for host memory: it runs on the calling thread.

#include <ether/prepared_adapter.hpp>

ETHER_BEGIN_NAMESPACE

/// What reflect_output adds to s H_out; nothing where empty.
template <class Backend>
struct Addends {
  using Scalar = typename Backend::Scalar;
  const Scalar* bias = nullptr;            ///< (out), for every row
  MatrixView<const Scalar> residual = {};  ///< (tokens, out); may be y itself: y += s H_out + bias
};

namespace detail {

template <class Backend>
Status check_input(const PreparedAdapter<Backend>& prepared,
                   MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  ETHER_RETURN_IF_ERROR(
      check_shape("x", x, x.rows, prepared.in_features(), "(tokens, in_features)"));
  ETHER_RETURN_IF_ERROR(
      check_shape("z", z, x.rows, prepared.in_features(), "(tokens of x, in_features)"));
  return check_in_place_or_disjoint("x", x, "z", z);
}

/// y = s H_out + bias + residual, rounded once. S: Scalar or Intermediate.
template <class Backend, class S>
void apply_output(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                  MatrixView<const S> s, MatrixView<typename Backend::Scalar> y,
                  const Addends<Backend>& add) {
  using Scalar = typename Backend::Scalar;
  using Intermediate = typename Backend::Intermediate;
  for (const auto& span : prepared.spans()) {
    const auto columns = [&](const auto& m) { return m.block(0, span.first, m.rows, span.count); };
    MatrixView<const Scalar> bias, residual;
    if (add.bias != nullptr) bias = {add.bias + span.first, Index{1}, span.count, Index{0}};
    if (!add.residual.empty()) residual = columns(add.residual);
    const Index last = prepared.passes(span) - 1;
    const bool two = bias.rows != 0 && residual.rows != 0;
    if (last == 0 && !two) {
      Backend::reflect(ctx, prepared.output(span, 0), columns(s), columns(y),
                       bias.rows != 0 ? bias : residual);
      continue;
    }
    typename Backend::Context::Frame frame(ctx);
    const auto t = frame.template matrix<Intermediate>(s.rows, span.count);
    const MatrixView<const Intermediate> from = t, none;
    Backend::reflect(ctx, prepared.output(span, 0), columns(s), t,
                     last == 0 ? residual : MatrixView<const Scalar>{});
    for (Index pass = 1; pass < last; ++pass)
      Backend::reflect(ctx, prepared.output(span, pass), from, t, none);
    if (last != 0 && two) Backend::reflect(ctx, prepared.output(span, last), from, t, residual);
    Backend::reflect(
        ctx, two ? identity<typename Backend::Parameter>(span.count) : prepared.output(span, last),
        from, columns(y), bias.rows != 0 ? bias : residual);
  }
}

}  // namespace detail

/// What the call below would throw. Needs no try around it.
template <class Backend>
Status check_reflect_input(const PreparedAdapter<Backend>& prepared,
                           MatrixView<const typename Backend::Scalar> x,
                           MatrixView<typename Backend::Scalar> z) {
  ETHER_RETURN_IF_ERROR(detail::check_input(prepared, x, z));
  const auto slices = static_cast<Index>(prepared.slices().size());
  if (slices != 1)
    return detail::found<parameter_error>(
        "the output rows see ", slices,
        " different H_in (layout row_chunk with several blocks, or several adapters); call "
        "reflect_input for each slice of output rows, naming its first row");
  return {};
}

/// z = x H_in: per row and block, z_i = x_i + s sum_k c_k (ŵ_k.x_i) ŵ_k.
/// x, z: (tokens, in); overwrites z; z may be x itself. A copy where the input side is not adapted.
/// Throws shape_error; parameter_error where output rows differ in H_in, see below.
template <class Backend>
void reflect_input(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                   MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  check_reflect_input(prepared, x, z).require();
  Backend::reflect(ctx, prepared.input(prepared.slices()[0]), x, z,
                   MatrixView<const typename Backend::Scalar>{});
}

/// How many output rows from `row` on see the same H_in: all of them, but in layout row_chunk with
/// more than one block, and in a weight with several adapters.
template <class Backend>
Index rows_alike(const PreparedAdapter<Backend>& prepared, Index row) {
  const auto& slice = prepared.slice_at(row);
  return slice.first + slice.count - row;
}

/// z = x H_in as output row `output_row` sees it, for where H_in differs between output rows:
///
///     for (Index row = 0, count; row < out; row += count) {
///       count = rows_alike(prepared, row);
///       reflect_input(ctx, prepared, row, x, z);   // then their product with rows
///     }                                            // [row, row + count) of W
///
/// x, z: (tokens, in); overwrites z; z may be x itself. Throws shape_error.
template <class Backend>
void reflect_input(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                   Index output_row, MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  detail::check_input(prepared, x, z).require();
  Backend::reflect(ctx, prepared.input(prepared.slice_at(output_row)), x, z,
                   MatrixView<const typename Backend::Scalar>{});
}

/// What the call below would throw.
template <class Backend>
Status check_reflect_output(const PreparedAdapter<Backend>& prepared,
                            MatrixView<const typename Backend::Scalar> s,
                            MatrixView<typename Backend::Scalar> y,
                            const Addends<Backend>& add = {}) {
  using detail::check_shape;
  ETHER_RETURN_IF_ERROR(
      check_shape("s", s, s.rows, prepared.out_features(), "(tokens, out_features)"));
  ETHER_RETURN_IF_ERROR(
      check_shape("y", y, s.rows, prepared.out_features(), "(tokens of s, out_features)"));
  ETHER_RETURN_IF_ERROR(detail::check_in_place_or_disjoint("s", s, "y", y));
  if (add.residual.rows == 0 && add.residual.data == nullptr) return {};
  ETHER_RETURN_IF_ERROR(check_shape("residual", add.residual, s.rows, prepared.out_features(),
                                    "(tokens of s, out_features)"));
  if (detail::same_matrix(s, y)) return detail::check_disjoint("residual", add.residual, "y", y);
  return detail::check_in_place_or_disjoint("residual", add.residual, "y", y);
}

/// y = s H_out + bias + residual. s, y: (tokens, out); overwrites y; y may be s itself, or the residual.
/// A copy where the output side is not adapted. 16-bit results are rounded once. Throws shape_error.
template <class Backend>
void reflect_output(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                    MatrixView<const typename Backend::Scalar> s,
                    MatrixView<typename Backend::Scalar> y, const Addends<Backend>& add = {}) {
  check_reflect_output(prepared, s, y, add).require();
  detail::apply_output(ctx, prepared, s, y, add);
}

/// The same by the calling thread, with no Context. Allocates nothing, except reflect_output with both a
/// bias and a residual, or in an order that takes blocks apart: give those a Context.
template <class Backend>
void reflect_input(const PreparedAdapter<Backend>& prepared,
                   MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  static_assert(Backend::host_memory, "ether: without a Context there is host memory only");
  typename Backend::Context ctx(1);
  reflect_input(ctx, prepared, x, z);
}
template <class Backend>
void reflect_input(const PreparedAdapter<Backend>& prepared, Index output_row,
                   MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  static_assert(Backend::host_memory, "ether: without a Context there is host memory only");
  typename Backend::Context ctx(1);
  reflect_input(ctx, prepared, output_row, x, z);
}
template <class Backend>
void reflect_output(const PreparedAdapter<Backend>& prepared,
                    MatrixView<const typename Backend::Scalar> s,
                    MatrixView<typename Backend::Scalar> y, const Addends<Backend>& add = {}) {
  static_assert(Backend::host_memory, "ether: without a Context there is host memory only");
  typename Backend::Context ctx(1);
  reflect_output(ctx, prepared, s, y, add);
}

ETHER_END_NAMESPACE
