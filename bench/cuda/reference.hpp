#pragma once

/// What results are checked against: double, from the adapter's raw values, by code of its own.
/// Checks throw Wrong, with a sentence.

#include "session.hpp"

#include <functional>
#include <stdexcept>

namespace bench {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One side's H on the host.
class HostReflection {
 public:
  HostReflection() = default;  ///< the identity
  HostReflection(const Adapter<float>& adapter, ether::Side side);

  /// row <- row H, of elements `stride` apart.
  void apply(double* row, Index stride = 1) const;
  /// The gradients of the raw vectors (terms, width), from the rows before H and the gradients
  /// behind it, both (tokens, width).
  std::vector<double> gradients(const std::vector<double>& before,
                                const std::vector<double>& behind) const;

  Index terms() const { return static_cast<Index>(coefficient_.size()); }
  Index blocks() const { return blocks_; }
  Index width() const { return width_; }

 private:
  Index width_ = 0, blocks_ = 1;
  std::vector<double> coefficient_;     // of each term
  std::vector<double> unit_;            // (terms, width)
  std::vector<double> inverse_length_;  // (terms, blocks)
};

/// How far a result may be from double's, relative to its norm: three roundings to T, none of them
/// more than the unit roundoff, and float sums of `length` terms, whose errors grow like a random
/// walk; and some room.
template <class T>
double tolerance(Index length);

/// Norm of the error within tolerance of the norm of `expected`, and no single element further off
/// than six times what that allows an element on average, or that for its own size.
void check_close(const std::string& what, const std::vector<double>& got,
                 const std::vector<double>& expected, double tolerance);

/// s = z w^T (rows, out), or z w (rows, in) where transposed; in double, on the device, with 64
/// random elements computed on the host too, which must agree.
template <class T>
std::vector<double> reference_product(Session& s, const std::vector<double>& z, const T* w,
                                      Index out, Index in, bool transposed);

/// First, last and a middle one of `tokens`.
std::vector<Index> sampled(Index tokens);

/// Rows of a device matrix, in double.
template <class T>
std::vector<double> download_rows(const Session& s, const T* from, Index cols,
                                  const std::vector<Index>& rows);

/// What a method does to the rows of a frozen product: y = behind(x, before(x) w^T), where `before`
/// changes rows of x (rows, in), `behind` rows of y (rows, out). Empty: nothing.
struct RowOracle {
  std::function<void(std::vector<double>& x)> before = {};
  std::function<void(const std::vector<double>& x, std::vector<double>& y)> behind = {};
};

/// All out elements of sampled tokens of y.
template <class T>
void check_rows(Session& s, const std::string& what, const T* w, Index out, Index in,
                const RowOracle& oracle, const T* x, const T* y, Index tokens);

/// The same for y = ((x H_in) w^T) H_out; no H where `adapter` is null.
template <class T>
void check_forward(Session& s, const std::string& what, const T* w, Index out, Index in,
                   const Adapter<float>* adapter, const T* x, const T* y, Index tokens);

/// Some rows or columns of merged = H_out w H_in.
template <class T>
void check_merge(Session& s, const std::string& what, const T* w, Index out, Index in,
                 const Adapter<float>& adapter, const T* merged);

/// Sampled rows of grad_x; all gradients, from the library's own products.
template <class T>
void check_backward(Session& s, const std::string& what, const T* w, Index out, Index in,
                    const Adapter<float>& adapter, const T* x, const T* grad_y, const T* grad_x,
                    const float* grads_input, const float* grads_output, Index tokens);

}  // namespace bench
