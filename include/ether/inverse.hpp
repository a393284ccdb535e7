#pragma once

/// The inverse of one side's H, for undoing a merge.
///
/// H(s) is the identity but on the plane of û and v̂, where it has eigenvectors e and eigenvalues
/// lambda; so H^-1 = I + sum_e (1 / lambda_e - 1) e e^T, again a Reflection:
///     ETHER    e = û,                              lambda = 1 - 2s
///     ETHER+   e = (v̂+û)/|v̂+û| -+ (v̂-û)/|v̂-û|,     lambda = 1 -+ s sine    (e then normalised)

#include <ether/analysis.hpp>
#include <ether/prepared_adapter.hpp>

#include <cmath>
#include <utility>
#include <vector>

ETHER_BEGIN_NAMESPACE

/// unmerge refuses a block whose condition number is above this.
inline constexpr double max_condition = 1000;

/// H^-1 of one side of a prepared adapter, in backend memory.
template <class Backend>
class InverseReflection {
 public:
  using Parameter = typename Backend::Parameter;
  using Context = typename Backend::Context;

  /// Throws ill_conditioned, naming the block, where its condition number exceeds `limit`.
  InverseReflection(Context& ctx, const PreparedAdapter<Backend>& prepared, Side side,
                    double limit = max_condition)
      : reflection_(prepared.reflection(side)),
        unit_(ctx, reflection_.unit.rows, reflection_.unit.cols),
        coefficient_(ctx, reflection_.coefficient.rows, reflection_.coefficient.cols) {
    const Index terms = reflection_.terms(), size = reflection_.block_size;
    if (terms == 0) return;
    std::vector<Parameter> host(static_cast<std::size_t>(terms * reflection_.width()));
    std::vector<Parameter> factor(static_cast<std::size_t>(terms * reflection_.blocks));
    const MatrixView<Parameter> unit{host.data(), terms, reflection_.width()};
    const MatrixView<Parameter> coefficient{factor.data(), terms, reflection_.blocks};
    Backend::copy_out(ctx, reflection_.unit, unit);
    Backend::synchronize(ctx);

    const AdapterConfig& config = prepared.config();
    for (Index b = 0; b < reflection_.blocks; ++b) {
      const MatrixView<Parameter> block = unit.block(0, b * size, terms, size);
      const double sine =
          terms == 2 ? block_angle<Parameter>(block.row(0), block.row(1), size).sine : 0;
      const auto values = eigenvalues(config.variant, config.strength, sine);
      const double condition = condition_number(values, size);
      if (!(condition <= limit))
        detail::fail<ill_conditioned>(
            to_string(side), " block ", b, " of ", reflection_.blocks, " has condition number ",
            condition, ", above ", limit,
            "; its merge cannot be undone, take the weight from the base checkpoint instead");
      if (terms == 2) to_eigenvectors(block);
      for (Index k = 0; k < terms; ++k)
        coefficient(k, b) = static_cast<Parameter>(1 / values[static_cast<std::size_t>(k)] - 1);
    }
    Backend::copy_in(ctx, MatrixView<const Parameter>(unit), unit_.view());
    Backend::copy_in(ctx, MatrixView<const Parameter>(coefficient), coefficient_.view());
    Backend::synchronize(ctx);
    reflection_.unit = unit_.view();
    reflection_.coefficient = coefficient_.view();
  }

  const Reflection<Parameter>& reflection() const { return reflection_; }

 private:
  /// (û, v̂) -> (e_minus, e_plus), orthonormal; zero where û = +-v̂ and H is the identity.
  static void to_eigenvectors(MatrixView<Parameter> block) {
    double sum = 0, difference = 0;
    const auto parts = [&](Index i) {
      const double u = static_cast<double>(block(0, i)), v = static_cast<double>(block(1, i));
      return std::pair(v + u, v - u);
    };
    for (Index i = 0; i < block.cols; ++i) {
      const auto [p, m] = parts(i);
      sum += p * p, difference += m * m;
    }
    const bool plane = sum > 0 && difference > 0;
    const double p_scale = plane ? 1 / std::sqrt(2 * sum) : 0;
    const double m_scale = plane ? 1 / std::sqrt(2 * difference) : 0;
    for (Index i = 0; i < block.cols; ++i) {
      const auto [p, m] = parts(i);
      block(0, i) = static_cast<Parameter>(p * p_scale - m * m_scale);
      block(1, i) = static_cast<Parameter>(p * p_scale + m * m_scale);
    }
  }

  Reflection<Parameter> reflection_;
  typename Backend::template Buffer<Parameter> unit_;
  typename Backend::template Buffer<Parameter> coefficient_;
};

namespace detail {

/// w = (H_out w) H_in, in place. transform does H_in first; the two commute except in layout
/// row_chunk, where rows differ in H_in: there this takes one block of output rows at a time, held
/// unrounded between the two.
template <class Backend>
void transform_output_first(typename Backend::Context& ctx,
                            const Reflection<typename Backend::Parameter>& h_in,
                            const Reflection<typename Backend::Parameter>& h_out,
                            MatrixView<typename Backend::Scalar> w) {
  using Scalar = typename Backend::Scalar;
  using Wide = typename Backend::Parameter;
  if (h_in.step == 0 || h_out.terms() == 0)
    return Backend::transform(ctx, h_in, h_out, MatrixView<const Scalar>(w), w);
  typename Backend::Context::Frame frame(ctx);
  const Index height = h_out.block_size;
  const auto wide = frame.template matrix<Wide>(height, w.cols);
  for (Index b = 0; b < h_out.blocks; ++b) {
    const auto rows = w.middle_rows(b * height, height);
    Backend::transform(ctx, identity<Wide>(w.cols), h_out.middle_blocks(b, 1),
                       MatrixView<const Scalar>(rows), wide);
    Backend::transform(ctx, h_in.from_row(b * height), identity<Wide>(height),
                       MatrixView<const Wide>(wide), rows);
  }
}

}  // namespace detail

ETHER_END_NAMESPACE
