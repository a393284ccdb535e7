#pragma once

/// The transform of a whole weight, composed from a backend's operations.

#include <ether/backend.hpp>

namespace ether::detail {

/// Which side acts first. They commute but in layout row_chunk, where rows differ in H_in: there
/// merge is input first, and its inverse output first.
enum class First { input, output };

/// to = H_out from H_in, (out, in), one block of output rows at a time, held unrounded between the
/// two operations. `to` may be `from`.
template <class Backend>
void transform_by_blocks(typename Backend::Context& ctx,
                         const Reflection<typename Backend::Parameter>& h_in,
                         const Reflection<typename Backend::Parameter>& h_out,
                         MatrixView<const typename Backend::Scalar> from,
                         MatrixView<typename Backend::Scalar> to, First first) {
  using Wide = typename Backend::Parameter;
  typename Backend::Context::Frame frame(ctx);
  const Index height = h_out.block_size;
  const auto wide = frame.template matrix<Wide>(height, from.cols);
  for (Index b = 0; b < h_out.blocks; ++b) {
    const Index row = b * height;
    const auto source = from.middle_rows(row, height);
    const auto result = to.middle_rows(row, height);
    const auto rows = h_in.from_row(row);
    const auto columns = h_out.middle_blocks(b, 1);
    if (first == First::input) {
      Backend::reflect(ctx, rows, source, wide, MatrixView<const Wide>{});
      Backend::reflect_columns(ctx, columns, MatrixView<const Wide>(wide), result);
    } else {
      Backend::reflect_columns(ctx, columns, source, wide);
      Backend::reflect(ctx, rows, MatrixView<const Wide>(wide), result, MatrixView<const Wide>{});
    }
  }
}

/// The same, in the way that suits the backend. Rounded once.
template <class Backend>
void transform_weight(typename Backend::Context& ctx,
                      const Reflection<typename Backend::Parameter>& h_in,
                      const Reflection<typename Backend::Parameter>& h_out,
                      MatrixView<const typename Backend::Scalar> from,
                      MatrixView<typename Backend::Scalar> to, First first) {
  using Scalar = typename Backend::Scalar;
  if (h_out.terms() == 0) return Backend::reflect(ctx, h_in, from, to, MatrixView<const Scalar>{});
  if (h_in.terms() == 0) return Backend::reflect_columns(ctx, h_out, from, to);
  if constexpr (has<reflect_both_t, Backend>)
    if (first == First::input || h_in.step == 0)
      return Backend::reflect_both(ctx, h_in, h_out, from, to);
  transform_by_blocks<Backend>(ctx, h_in, h_out, from, to, first);
}

}  // namespace ether::detail
