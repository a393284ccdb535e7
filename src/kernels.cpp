// Which of the compiled kernels this processor runs.

#include "layer.hpp"

ETHER_BEGIN_INTERFACE
namespace compiled {

#if defined(ETHER_X86_64)

const Kernels& sse2();
const Kernels& avx2();
const Kernels& avx512();

const Kernels& kernels() {
  static const Kernels& best = []() -> const Kernels& {
    // All processors that have these have F16C too, which clang++ 14 cannot ask for.
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi2");
    const bool has_avx512 =
        has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512cd");
    if (has_avx512) return avx512();
    if (has_avx2) return avx2();
    return sse2();
  }();
  return best;
}

#else

const Kernels& native();
const Kernels& kernels() { return native(); }

#endif

}  // namespace compiled
ETHER_END_INTERFACE
