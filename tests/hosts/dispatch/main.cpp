// An engine compiled for two instruction sets, which chooses at run time.

#include <cmath>
#include <cstdio>

double run_sse2();
double run_avx512();

int main() {
  const double sse2 = run_sse2();
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const double avx512 = has_avx512 ? run_avx512() : sse2;
  std::printf("SSE2 %.9g, AVX-512 %.9g%s\n", sse2, avx512,
              has_avx512 ? "" : " (not this processor)");
  // Both are sums of absolute values, rounded to bfloat16, whose last bit the order of sums may change.
  return sse2 > 0 && std::fabs(avx512 - sse2) <= 0x1p-7 * sse2 ? 0 : 1;
}
