// What symbols.py must notice: a function that both files compile, each for its own instruction set, and
// that is in no namespace of a version.

#include <vector>

namespace ether {

template <class T>
__attribute__((noinline)) T planted_sum(const std::vector<T>& values) {
  T sum = 0;
  for (const T value : values) sum += value;
  return sum;
}

}  // namespace ether

double ETHER_ENGINE(const std::vector<double>& values) { return ether::planted_sum(values); }
