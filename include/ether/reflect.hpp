#pragma once

/// The row operation alone, for engines that keep their own matrix product:
/// y = ((x H_in) W^T) H_out + b is reflect_input, their product and bias, reflect_output.

#include <ether/prepared_adapter.hpp>

namespace ether {

/// How many output rows from `row` on see the same H_in: all of them, but in layout row_chunk with
/// more than one block.
template <class Backend>
Index rows_alike(const PreparedAdapter<Backend>& prepared, Index row) {
  return prepared.reflection(Side::input).rows_alike(row, prepared.out_features());
}

/// z = x H_in as output row `output_row` sees it. In layout row_chunk H_in differs between slices
/// of output rows:
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
  detail::check_shape("x", x, x.rows, prepared.in_features(), "(tokens, in_features)");
  detail::check_shape("z", z, x.rows, prepared.in_features(), "(tokens of x, in_features)");
  detail::check_in_place_or_disjoint("x", x, "z", z);
  if (output_row < 0 || output_row >= prepared.out_features())
    detail::fail<shape_error>("output_row is ", output_row, " but the layer has ",
                              prepared.out_features(), " output rows, counted from 0");
  Backend::reflect(ctx, prepared.reflection(Side::input).at_row(output_row), x, z,
                   MatrixView<const typename Backend::Scalar>{});
}

/// z = x H_in: per row and block, z_i = x_i + s sum_k c_k (ŵ_k.x_i) ŵ_k.
/// x, z: (tokens, in); overwrites z; z may be x itself. A copy where the input side is not adapted.
/// Throws shape_error; parameter_error where output rows differ in H_in (row_chunk, above).
template <class Backend>
void reflect_input(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                   MatrixView<const typename Backend::Scalar> x,
                   MatrixView<typename Backend::Scalar> z) {
  const auto h = prepared.reflection(Side::input);
  if (h.step != 0)
    detail::fail<parameter_error>(
        "layout row_chunk with ", h.blocks, " input blocks has up to ", 2 * h.blocks - 1,
        " different H_in; call reflect_input for each slice of output rows, naming its first row");
  reflect_input(ctx, prepared, 0, x, z);
}

/// y = s H_out. s, y: (tokens, out); overwrites y; y may be s itself. A copy where the output side
/// is not adapted. The bias comes after it. Throws shape_error.
template <class Backend>
void reflect_output(typename Backend::Context& ctx, const PreparedAdapter<Backend>& prepared,
                    MatrixView<const typename Backend::Scalar> s,
                    MatrixView<typename Backend::Scalar> y) {
  detail::check_shape("s", s, s.rows, prepared.out_features(), "(tokens, out_features)");
  detail::check_shape("y", y, s.rows, prepared.out_features(), "(tokens of s, out_features)");
  detail::check_in_place_or_disjoint("s", s, "y", y);
  Backend::reflect(ctx, prepared.reflection(Side::output), s, y,
                   MatrixView<const typename Backend::Scalar>{});
}

}  // namespace ether
