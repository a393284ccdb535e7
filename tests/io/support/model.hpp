#pragma once

/// Small models and adapters on disk, their weights as matrices of double.

#include "io/support/build_safetensors.hpp"
#include "io/support/temporary_directory.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <ether/io.hpp>

#include <cmath>
#include <map>
#include <utility>

namespace test {

using ether::Dtype;

/// A matrix rounded to a dtype, as a file stores it.
struct Stored {
  Dtype dtype;
  Matrix values;  // after rounding
  std::string bytes;

  Stored(Dtype dtype_, const Matrix& exact) : dtype(dtype_), values(exact) {
    ether::detail::with_weight_type(dtype, [&](auto type) {
      using T = decltype(type);
      const MatrixOf<T> rounded = exact.cast<T>();
      values = rounded.template cast<double>();
      bytes.assign(reinterpret_cast<const char*>(rounded.data()),
                   static_cast<std::size_t>(rounded.size()) * sizeof(T));
    });
  }
};

inline Matrix read_matrix(const ether::Checkpoint::Tensor& tensor) {
  Matrix m(static_cast<Index>(tensor.info->shape[0]), static_cast<Index>(tensor.info->shape[1]));
  ether::detail::with_weight_type(tensor.info->dtype, [&](auto type) {
    MatrixOf<decltype(type)> stored(m.rows(), m.cols());
    std::memcpy(static_cast<void*>(stored.data()), tensor.data(), tensor.info->bytes());
    m = stored.template cast<double>();
  });
  return m;
}
inline Matrix read_matrix(const ether::Checkpoint& checkpoint, const std::string& name) {
  return read_matrix(*checkpoint.find(name));
}

/// A file's tensors as the builder wants them.
inline SafetensorsBuilder& add(SafetensorsBuilder& builder, const std::string& name,
                               const Stored& matrix) {
  return builder.add(name, ether::to_string(matrix.dtype),
                     {static_cast<std::uint64_t>(matrix.values.rows()),
                      static_cast<std::uint64_t>(matrix.values.cols())},
                     matrix.bytes);
}

/// How many elements of `written` are not the number of its dtype that is nearest to `exact`, where
/// `exact` is known to 1e-13 of `magnitude`; and how many are more than one unit in the last place
/// off. NaN counts as both.
struct Rounding {
  Index wrong = 0;
  Index off_by_more_than_one = 0;

  Rounding(const Matrix& written, const Matrix& exact, Dtype dtype) {
    const double slack = 1e-13 * exact.cwiseAbs().maxCoeff();
    ether::detail::with_weight_type(dtype, [&](auto type) {
      using T = decltype(type);
      for (Index i = 0; i < exact.size(); ++i) {
        const double w = written.data()[i], e = exact.data()[i];
        const double unit = unit_in_last_place<T>(e);
        if (!(std::fabs(w - e) <= unit / 2 + slack)) ++wrong;
        if (!(std::fabs(w - e) <= 1.5 * unit + slack)) ++off_by_more_than_one;
      }
    });
  }

  /// Distance between the neighbours of T around x.
  template <class T>
  static double unit_in_last_place(double x) {
    constexpr int digits = std::numeric_limits<T>::digits;
    const double least = static_cast<double>(std::numeric_limits<T>::denorm_min());
    return x == 0 ? least : std::max(least, std::ldexp(1.0, std::ilogb(x) + 1 - digits));
  }
};

/// A configuration for a file, as that of one module.
inline ether::AdapterFileConfig file_config(const AdapterConfig& c, bool fan_in_fan_out = false) {
  ether::AdapterFileConfig file;
  file.variant = c.variant, file.sides = c.sides;
  file.num_blocks = c.sides == ether::Sides::output ? c.output_blocks : c.input_blocks;
  file.num_blocks_output = c.output_blocks;
  file.block_layout = c.layout, file.strength = c.strength;
  file.fan_in_fan_out = fan_in_fan_out;
  return file;
}

inline AdapterConfig config(ether::Variant variant, ether::Sides sides, Index input_blocks,
                            Index output_blocks, BlockLayout layout = BlockLayout::diagonal,
                            double strength = 1) {
  AdapterConfig c;
  c.variant = variant, c.sides = sides;
  c.input_blocks = input_blocks, c.output_blocks = output_blocks;
  c.layout = layout, c.strength = strength;
  return c;
}

/// Every file below a directory and its bytes; links are not followed.
inline std::map<std::string, std::string> snapshot(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), directory).string()] = read_file(entry.path());
  return files;
}

}  // namespace test
