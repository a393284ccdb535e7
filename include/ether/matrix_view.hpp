#pragma once

/// MatrixView: a row-major matrix that somebody else owns.

#include <ether/error.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

ETHER_BEGIN_INTERFACE

using Index = std::ptrdiff_t;

namespace traits {

/// Eigen's matrices, maps and blocks; by member names, so that this header needs no Eigen.
template <class Matrix, class = void>
struct is_matrix : std::false_type {};

template <class Matrix>
struct is_matrix<Matrix, std::void_t<decltype(std::declval<Matrix&>().data()),
                                     decltype(std::declval<Matrix&>().outerStride())>>
    : std::true_type {};

/// Those whose rows a MatrixView<T> can show: row-major, elements adjacent, not const unless T is.
template <class Matrix, class T>
constexpr bool is_viewable() {
  if constexpr (is_matrix<Matrix>::value) {
    using Plain = std::decay_t<Matrix>;
    using Element = std::remove_pointer_t<decltype(std::declval<Matrix&>().data())>;
    return Plain::IsRowMajor && Plain::InnerStrideAtCompileTime == 1 &&
           std::is_convertible_v<Element(*)[], T(*)[]>;
  } else {
    return false;
  }
}

/// Whether all are integers for sizes.
template <class... T>
inline constexpr bool are_sizes = (... && (std::is_integral_v<T> && !std::is_same_v<T, bool>));

}  // namespace traits
ETHER_END_INTERFACE

ETHER_BEGIN_NAMESPACE
namespace detail {

/// Any integer as an Index. Throws shape_error for one that an Index cannot hold.
template <class Integer>
constexpr Index to_index(Integer value) {
  const auto index = static_cast<Index>(value);
  bool same = static_cast<Integer>(index) == value;
  if constexpr (std::is_unsigned_v<Integer>) same = same && index >= 0;
  if (!same)
    fail<shape_error>("a size of ", value, " is beyond ", (std::numeric_limits<Index>::max)(),
                      ", the largest Index; a negative number in an unsigned type looks like this");
  return index;
}

}  // namespace detail
ETHER_END_NAMESPACE

ETHER_BEGIN_INTERFACE

/// A view of rows x cols elements; element (r, c) is data[r * stride + c], stride >= cols.
/// Copies are cheap and refer to the same memory, which may be a device's.
template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;

  constexpr MatrixView() = default;
  ETHER_INLINE constexpr MatrixView(T* data_, Index rows_, Index cols_)
      : MatrixView(data_, rows_, cols_, cols_) {}
  ETHER_INLINE constexpr MatrixView(T* data_, Index rows_, Index cols_, Index stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  /// The same for sizes of any integer type, std::vector's size() for one. Throws shape_error for a
  /// size that an Index cannot hold.
  template <class Rows, class Cols, std::enable_if_t<traits::are_sizes<Rows, Cols>, int> = 0>
  ETHER_INLINE constexpr MatrixView(T* data_, Rows rows_, Cols cols_)
      : MatrixView(data_, detail::to_index(rows_), detail::to_index(cols_)) {}
  template <class Rows, class Cols, class Stride,
            std::enable_if_t<traits::are_sizes<Rows, Cols, Stride>, int> = 0>
  ETHER_INLINE constexpr MatrixView(T* data_, Rows rows_, Cols cols_, Stride stride_)
      : MatrixView(data_, detail::to_index(rows_), detail::to_index(cols_),
                   detail::to_index(stride_)) {}

  /// MatrixView<T> converts to MatrixView<const T>.
  template <class U, std::enable_if_t<std::is_same_v<const U, T>, int> = 0>
  ETHER_INLINE constexpr MatrixView(const MatrixView<U>& other)
      : MatrixView(other.data, other.rows, other.cols, other.stride) {}

  /// Row-major Eigen matrices, maps and blocks convert.
  template <class Matrix, std::enable_if_t<traits::is_viewable<Matrix, T>(), int> = 0>
  ETHER_INLINE MatrixView(Matrix&& matrix)
      : MatrixView(matrix.data(), matrix.rows(), matrix.cols(), matrix.outerStride()) {}

  template <class Matrix,
            std::enable_if_t<traits::is_matrix<Matrix>::value && !traits::is_viewable<Matrix, T>(),
                             int> = 0>
  MatrixView(Matrix&&) = delete;  // ether: needs a row-major matrix of T, not const unless T is

  ETHER_INLINE constexpr bool empty() const { return rows == 0 || cols == 0; }
  ETHER_INLINE constexpr T* row(Index r) const { return data + r * stride; }
  ETHER_INLINE constexpr T& operator()(Index r, Index c) const { return data[r * stride + c]; }

  /// The rows_ x cols_ part whose first element is (r, c).
  ETHER_INLINE constexpr MatrixView block(Index r, Index c, Index rows_, Index cols_) const {
    return {data + r * stride + c, rows_, cols_, stride};
  }
  ETHER_INLINE constexpr MatrixView middle_rows(Index first, Index count) const {
    return block(first, 0, count, cols);
  }
};

ETHER_END_INTERFACE

ETHER_BEGIN_NAMESPACE
namespace detail {

/// Whether `view` is a usable (rows, cols) matrix; else a shape_error. `meaning` says in the sentence
/// what the expected numbers are.
template <class T>
Status check_shape(const char* name, const MatrixView<T>& view, Index rows, Index cols,
                   const char* meaning) {
  if (view.rows < 0)
    return found<shape_error>(name, " has ", view.rows, " rows; a matrix has 0 or more");
  if (view.rows != rows || view.cols != cols)
    return found<shape_error>(name, " is (", view.rows, ", ", view.cols, ") but must be ", meaning,
                              " = (", rows, ", ", cols, ")");
  if (view.stride < view.cols && view.rows > 1)
    return found<shape_error>(name, " has stride ", view.stride, ", less than its ", view.cols,
                              " columns; the stride counts elements from one row to the next");
  if (view.data == nullptr && !view.empty())
    return found<shape_error>(name, " is (", rows, ", ", cols,
                              ") but its data pointer is null; give it memory");
  return {};
}

/// True where two views have memory in common. Column blocks side by side in one matrix have not.
template <class T, class U>
bool overlap(const MatrixView<T>& a, const MatrixView<U>& b) {
  if (a.empty() || b.empty()) return false;
  const auto begin = [](const auto& m) { return reinterpret_cast<std::intptr_t>(m.data); };
  const auto end = [](const auto& m) {
    return reinterpret_cast<std::intptr_t>(m.data + (m.rows - 1) * m.stride + m.cols);
  };
  if (begin(a) >= end(b) || begin(b) >= end(a)) return false;
  if (sizeof(T) != sizeof(U) || a.stride != b.stride || a.stride < 1) return true;
  // The same stride: b begins `column` bytes behind the start of some row of a.
  const Index row_bytes = a.stride * static_cast<Index>(sizeof(T));
  const Index column = ((begin(b) - begin(a)) % row_bytes + row_bytes) % row_bytes;
  return column < a.cols * static_cast<Index>(sizeof(T)) ||
         column + b.cols * static_cast<Index>(sizeof(U)) > row_bytes;
}

/// True where two views of the same shape are one and the same matrix.
template <class T, class U>
bool same_matrix(const MatrixView<T>& a, const MatrixView<U>& b) {
  return static_cast<const void*>(a.data) == static_cast<const void*>(b.data) &&
         (a.stride == b.stride || a.rows <= 1) && sizeof(T) == sizeof(U);
}

/// A shape_error where an output would overwrite an input that is still needed.
template <class T, class U>
Status check_disjoint(const char* input_name, const MatrixView<T>& input, const char* output_name,
                      const MatrixView<U>& output) {
  if (overlap(input, output))
    return found<shape_error>(output_name, " (", output.rows, ", ", output.cols, ") overlaps ",
                              input_name, " (", input.rows, ", ", input.cols,
                              ") in memory; give it memory of its own");
  return {};
}

/// In place is allowed, a shifted or restrided overlap is not.
template <class T, class U>
Status check_in_place_or_disjoint(const char* input_name, const MatrixView<T>& input,
                                  const char* output_name, const MatrixView<U>& output) {
  if (same_matrix(input, output)) return {};
  return check_disjoint(input_name, input, output_name, output);
}

}  // namespace detail
ETHER_END_NAMESPACE
