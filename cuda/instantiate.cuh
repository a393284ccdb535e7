#pragma once

/// All launchers for one scalar type. A source file of ether::cuda is this header and one line.

#include <ether/backends/cuda/kernels.cuh>

// clang-format off
#define ETHER_INSTANTIATE_ROWS(A, B)                                                            \
  template void ether::cuda_kernels::reflect_rows<A, B>(                                        \
      const Launch&, const Reflection<Wide<B>>&, MatrixView<const A>, MatrixView<B>,            \
      MatrixView<const B>, const ColumnShare<Wide<B>>&);

#define ETHER_INSTANTIATE_EACH(T, U)                                                            \
  template void ether::cuda_kernels::reflect_each<T, T, U>(                                     \
      const Launch&, const RowReflections<Wide<T>, U>&, MatrixView<const T>, MatrixView<T>,     \
      MatrixView<const T>, bool);

#define ETHER_INSTANTIATE_COLUMN_SUMS(T)                                                        \
  template void ether::cuda_kernels::column_sums<T>(                                            \
      const Launch&, const Reflection<Wide<T>>&, MatrixView<const T>, Index, MatrixView<Wide<T>>);

/// For each type that is its own Wide.
#define ETHER_INSTANTIATE_WIDE(W)                                                               \
  template void ether::cuda_kernels::sum_partials<W>(                                           \
      const Launch&, MatrixView<const W>, Index, Index, MatrixView<W>);                         \
  template void ether::cuda_kernels::project_grad<W>(                                           \
      const Launch&, const Reflection<W>&, MatrixView<const W>, MatrixView<W>);

#define ETHER_INSTANTIATE(T)                                                                    \
  ETHER_INSTANTIATE_ROWS(T, T)                                                                  \
  ETHER_INSTANTIATE_COLUMN_SUMS(T)                                                              \
  ETHER_INSTANTIATE_EACH(T, ether::cuda_kernels::Wide<T>)                                       \
  template void ether::cuda_kernels::reflect_grad_each<T>(                                      \
      const Launch&, const RowReflections<Wide<T>>&, MatrixView<const T>, MatrixView<const T>,  \
      MatrixView<Wide<T>>, MatrixView<Wide<T>>);                                                \
  template bool ether::cuda_kernels::reflect_columns<T>(                                        \
      const Launch&, const Reflection<Wide<T>>&, MatrixView<const T>, MatrixView<T>);           \
  template void ether::cuda_kernels::reflect_grad<T>(                                           \
      const Launch&, const Reflection<Wide<T>>&, MatrixView<const T>, MatrixView<const T>,      \
      MatrixView<T>, Index, MatrixView<Wide<T>>);                                               \
  template bool ether::cuda_kernels::reflect_gemv<T>(                                           \
      const Launch&, const Reflection<Wide<T>>&, MatrixView<const T>, MatrixView<const T>,      \
      const T*, MatrixView<T>);                                                                 \
  template bool ether::cuda_kernels::rms_norm_reflect<T>(                                       \
      const Launch&, const Reflection<Wide<T>>&, MatrixView<const T>, const T*, Wide<T>,        \
      MatrixView<T>);
// clang-format on
