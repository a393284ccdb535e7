#pragma once

/// The kernels as their callers see them. Declared here for any compiler; defined in the .cuh files
/// beside this one, and compiled for float, __half, __nv_bfloat16 and double in ether::cuda.
///
/// All are enqueued on where.stream, read and write device memory, check nothing but what kernels
/// need to choose a path, and throw cuda_error where a launch fails. Where not said otherwise a
/// Reflection has 1 or 2 terms and a matrix at least one element. Arrays are as long as
/// MatrixViews say; T is a Scalar, W = Wide<T> what it is computed with.

#include <ether/backends/cuda/launch.hpp>
#include <ether/row_reflections.hpp>

#include <cstdint>

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

/// What the output side adds to a row o of a weight in the second pass over it, block b = o / height:
///     sum_k coefficient(k, b) unit(k, o) sums_b(k, :)         sums (blocks * terms, cols)
template <class W>
struct ColumnShare {
  int terms = 0;
  Index height = 1;
  MatrixView<const W> unit;         ///< (terms, rows)
  MatrixView<const W> coefficient;  ///< (terms, blocks)
  MatrixView<const W> sums;         ///< block by block
};

/// out (rows, width) = in H + add + share. add: 0 rows for nothing, stride 0 for a bias. In place
/// allowed; add may be out where in is not.
template <class A, class B>
void reflect_rows(const Launch& where, const Reflection<Wide<B>>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const B> add, const ColumnShare<Wide<B>>& share);

/// out (rows, width) = in H + add, each row with its own H. `biased`: in has the addend already,
/// out = (in - add) H + add, so that a row without adapter stays as it is. In place allowed. U: Wide<B>, or a
/// 16-bit B.
template <class A, class B, class U>
void reflect_each(const Launch& where, const RowReflections<Wide<B>, U>& h, MatrixView<const A> in,
                  MatrixView<B> out, MatrixView<const B> add, bool biased);

/// grads (slots * terms, width) += the gradients of vectors of length 1, see backend.hpp.
/// sums (rows * terms, width): workspace.
template <class T>
void reflect_grad_each(const Launch& where, const RowReflections<Wide<T>>& h, MatrixView<const T> t,
                       MatrixView<const T> r, MatrixView<Wide<T>> sums, MatrixView<Wide<T>> grads);

/// out (width, cols) = H in, in one pass; in place allowed. False, and nothing done, where the
/// blocks are too tall for registers or addresses too odd.
template <class T>
bool reflect_columns(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> in,
                     MatrixView<T> out);

/// Column sums of the blocks of h, cut into chunks of `height` rows that no block shares:
/// partial ((blocks * chunks of a block) * terms, cols) = ŵ_k^T in.
template <class T>
void column_sums(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> in,
                 Index height, MatrixView<Wide<T>> partial);

/// sums (rows, cols) = for every row, the sum of `count` rows of partial that lie `rows_apart` rows
/// from one to the next; row r begins at row r / inner * count * inner + r % inner, where
/// inner = rows_apart.
template <class W>
void sum_partials(const Launch& where, MatrixView<const W> partial, Index count, Index inner,
                  MatrixView<W> sums);

/// Gradients of h and, where `out` is not empty, out (rows, width) = r H, in one reading of t and r.
/// Rows are cut into chunks of `height`:
/// partial (chunks * terms, width) = sum_rows (ŵ_k.t) r + (ŵ_k.r) t.   `out` may be r.
template <class T>
void reflect_grad(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> t,
                  MatrixView<const T> r, MatrixView<T> out, Index height,
                  MatrixView<Wide<T>> partial);

/// grads (terms, width) += (g_k - (ŵ_k.g_k) ŵ_k) / |w_k| per block, with g_k = c_k sums_k.
template <class W>
void project_grad(const Launch& where, const Reflection<W>& h, MatrixView<const W> sums,
                  MatrixView<W> grads);

/// y (tokens, out) = (x H) w^T + bias, in one pass over w (out, in). False, and nothing done, for
/// more than 8 tokens, or where sizes or addresses do not suit it.
template <class T>
bool reflect_gemv(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> x,
                  MatrixView<const T> w, const T* bias, MatrixView<T> y);

/// z (rows, width) = (gamma * x / sqrt(mean(x^2) + epsilon)) H, per row; h.step = 0; z may be x. False, and
/// nothing done, for blocks so small that their sums do not fit in shared memory.
template <class T>
bool rms_norm_reflect(const Launch& where, const Reflection<Wide<T>>& h, MatrixView<const T> x,
                      const T* gamma, Wide<T> epsilon, MatrixView<T> z);

}  // namespace cuda_kernels
ETHER_END_INTERFACE
