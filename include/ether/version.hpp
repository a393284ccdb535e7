#pragma once

/// Version of the library, and the namespaces that carry it. They are inline: users write `ether::` and
/// never their names.
///
/// Inline functions and templates, compiled in several files of a program, have one symbol, and the linker
/// keeps one of their codes. It must not keep AVX-512 for the file that was compiled for SSE2, or an older
/// version's for a plugin. So ETHER_BEGIN_NAMESPACE opens a namespace named after the version and all
/// that code depends on: instruction set, -ffast-math, OpenMP, exceptions. Types that cross from a file to
/// another (MatrixView, Adapter, the errors), and what is compiled once, in a library, are in that of
/// ETHER_BEGIN_INTERFACE, named after the version alone; their functions are ETHER_INLINE, without a
/// symbol.

/// CMake reads these three lines.
#define ETHER_VERSION_MAJOR 0
#define ETHER_VERSION_MINOR 1
#define ETHER_VERSION_PATCH 0

// Each is empty or a part of the name.
#if defined(__AVX512F__)
#define ETHER_ISA_VECTORS _avx512f
#elif defined(__AVX2__)
#define ETHER_ISA_VECTORS _avx2
#elif defined(__AVX__)
#define ETHER_ISA_VECTORS _avx
#elif defined(__SSE4_2__)
#define ETHER_ISA_VECTORS _sse4_2
#elif defined(__SSE4_1__)
#define ETHER_ISA_VECTORS _sse4_1
#elif defined(__SSSE3__)
#define ETHER_ISA_VECTORS _ssse3
#elif defined(__SSE3__)
#define ETHER_ISA_VECTORS _sse3
#elif defined(__SSE2__)
#define ETHER_ISA_VECTORS _sse2
#elif defined(__ARM_FEATURE_SVE)
#define ETHER_ISA_VECTORS _sve
#elif defined(__ARM_NEON)
#define ETHER_ISA_VECTORS _neon
#else
#define ETHER_ISA_VECTORS _scalar
#endif
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define ETHER_ISA_FMA _fma
#else
#define ETHER_ISA_FMA
#endif
#if defined(__F16C__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define ETHER_ISA_F16 _f16
#else
#define ETHER_ISA_F16
#endif
#if defined(__BMI2__)
#define ETHER_ISA_BITS _bmi2
#elif defined(__BMI__) || defined(__POPCNT__) || defined(__LZCNT__)
#define ETHER_ISA_BITS _bmi
#else
#define ETHER_ISA_BITS
#endif
// AVX-512 comes in parts; processors have them in this order, nearly.
#if defined(__AVX512FP16__)
#define ETHER_ISA_AVX512 _fp16
#elif defined(__AVX512BF16__)
#define ETHER_ISA_AVX512 _bf16
#elif defined(__AVX512VBMI2__)
#define ETHER_ISA_AVX512 _vbmi2
#elif defined(__AVX512VNNI__)
#define ETHER_ISA_AVX512 _vnni
#elif defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define ETHER_ISA_AVX512 _bwdqvl
#else
#define ETHER_ISA_AVX512
#endif
#if defined(__FAST_MATH__)
#define ETHER_MATH _fast
#else
#define ETHER_MATH
#endif
#if defined(_OPENMP)
#define ETHER_THREADS _omp
#else
#define ETHER_THREADS
#endif
#if defined(__cpp_exceptions)
#define ETHER_ERRORS
#else
#define ETHER_ERRORS _noexcept
#endif

#define ETHER_PASTE(a, b, c, d, e, f, g, h, i) ETHER_PASTE_EXPANDED(a, b, c, d, e, f, g, h, i)
#define ETHER_PASTE_EXPANDED(a, b, c, d, e, f, g, h, i) a##b##c##d##e##f##g##h##i
#define ETHER_PASTE_VERSION(major, minor, patch) ETHER_PASTE_VERSION_EXPANDED(major, minor, patch)
#define ETHER_PASTE_VERSION_EXPANDED(major, minor, patch) v##major##_##minor##_##patch

/// v0_1_0
#define ETHER_INTERFACE_NAME \
  ETHER_PASTE_VERSION(ETHER_VERSION_MAJOR, ETHER_VERSION_MINOR, ETHER_VERSION_PATCH)
/// v0_1_0_avx2_fma_f16_bmi2_omp
#define ETHER_NAMESPACE_NAME                                                         \
  ETHER_PASTE(ETHER_INTERFACE_NAME, ETHER_ISA_VECTORS, ETHER_ISA_FMA, ETHER_ISA_F16, \
              ETHER_ISA_BITS, ETHER_ISA_AVX512, ETHER_MATH, ETHER_THREADS, ETHER_ERRORS)

// Quiet in hosts that ask for -Wsign-conversion: sizes are signed here, as Eigen's are, and std's are not.
// clang-format off
#define ETHER_BEGIN(name)                                 \
  _Pragma("GCC diagnostic push")                          \
  _Pragma("GCC diagnostic ignored \"-Wsign-conversion\"") \
  namespace ether {                                       \
  inline namespace name {
#define ETHER_END \
  }               \
  }               \
  _Pragma("GCC diagnostic pop")
// clang-format on

#define ETHER_BEGIN_NAMESPACE ETHER_BEGIN(ETHER_NAMESPACE_NAME)
#define ETHER_END_NAMESPACE ETHER_END
#define ETHER_BEGIN_INTERFACE ETHER_BEGIN(ETHER_INTERFACE_NAME)
#define ETHER_END_INTERFACE ETHER_END

#define ETHER_INLINE __attribute__((always_inline)) inline
/// What a function calls is inlined into it.
#define ETHER_FLATTEN __attribute__((flatten))
/// Seen by users of a shared library that hides its symbols otherwise.
#define ETHER_EXPORT __attribute__((visibility("default")))
