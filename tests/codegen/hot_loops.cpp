// What check.py compiles and disassembles, and nobody runs: the hot loops of one token's product, the
// row operation and the merge, for each type of weight.

#include <ether/ether.hpp>

ETHER_BEGIN_NAMESPACE
namespace detail {

template <class T>
using In = MatrixView<const T>;
using H = Reflection<float>;

// y = x W^T for one token: four rows of W at a time, and what is left.
#define ETHER_ONE_TOKEN(T)                                                                    \
  template void dot_tile<1, 4, float, T>(const float*, Index, const T*, Index, Index, float*, \
                                         Index);                                              \
  template void dot_tile<1, 1, float, T>(const float*, Index, const T*, Index, Index, float*, \
                                         Index);

// out = in H: into T; z = x H_in, in float; a merge of the input side, past the cache.
#define ETHER_ROWS(T, Terms)                                                                       \
  template void reflect_rows<Terms, Place::memory, float, T, T, T>(EigenContext&, const H&, In<T>, \
                                                                   MatrixView<T>, In<T>);          \
  template void reflect_rows<Terms, Place::memory, float, T, float, float>(                        \
      EigenContext&, const H&, In<T>, MatrixView<float>, In<float>);                               \
  template void reflect_rows<Terms, Place::streamed, float, T, T, T>(EigenContext&, const H&,      \
                                                                     In<T>, MatrixView<T>, In<T>);

// out = H_out in H_in, past the cache, for any number of terms.
#define ETHER_MERGE(T)                                                                            \
  template void transform_panels<Place::streamed, float, T, T>(EigenContext&, const H&, const H&, \
                                                               In<T>, MatrixView<T>);

#define ETHER_HOT_LOOPS(T) \
  ETHER_ONE_TOKEN(T)       \
  ETHER_ROWS(T, 1)         \
  ETHER_ROWS(T, 2)         \
  ETHER_MERGE(T)

ETHER_ONE_TOKEN(float)
ETHER_MERGE(float)
ETHER_HOT_LOOPS(Eigen::bfloat16)
ETHER_HOT_LOOPS(Eigen::half)

}  // namespace detail
ETHER_END_NAMESPACE
