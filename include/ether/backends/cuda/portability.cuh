#pragma once

/// The one kernel header that knows which compiler reads it: nvcc, or, in the tests, an ordinary C++
/// compiler with an emulator (ETHER_CUDA_EMULATOR names its header, which defines the same names).
///
/// Kernels keep to these names and to threadIdx, blockIdx, blockDim and gridDim:
///
///   ETHER_DEVICE, ETHER_HOST_DEVICE    before a device function, before one for both
///   ETHER_UNROLL, ETHER_UNROLL_BY(n)   before a loop
///   ETHER_SHARED(T, name, count)       an array in shared memory
///   ETHER_DYNAMIC_SHARED(T, name)      the launch's dynamic shared memory, from its first byte
///   barrier()                          of all threads of a block; no thread may have returned
///   shuffle_xor(value, mask, width)    the value of lane ^ mask, in groups of `width` lanes; all
///                                      32 lanes of the warp take part
///   wait_for_previous_kernel()         before reading what it wrote, and before any write
///   let_next_kernel_start()            where what is left to do is little
///   check_aligned<bytes>(pointer)      nothing in nvcc's hands: the hardware checks
///   stream_load(pointer)               16 bytes of global memory that are read once
///   store_16(pointer, bytes)           16 bytes to global memory in one instruction
///   prefetch(pointer)                  asks for a line of global memory in the second-level cache
///   launch<kernel>(where, grid, threads, dynamic_shared_bytes, arguments...)
///                                      the only way a kernel is started; throws cuda_error

#include <ether/backends/cuda/launch.hpp>

#if defined(__CUDACC__)

#include <ether/backends/cuda/error.hpp>

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

#define ETHER_DEVICE __device__ __forceinline__
#define ETHER_HOST_DEVICE __host__ __device__ __forceinline__
#define ETHER_PRAGMA(text) _Pragma(#text)
#define ETHER_UNROLL ETHER_PRAGMA(unroll)
#define ETHER_UNROLL_BY(count) ETHER_PRAGMA(unroll count)
#define ETHER_SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define ETHER_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char ether_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(ether_dynamic_shared)

ETHER_BEGIN_INTERFACE
namespace cuda_kernels {

struct alignas(16) Bytes16 {
  std::uint32_t word[4];
};

ETHER_DEVICE void barrier() { __syncthreads(); }

template <class T>
ETHER_DEVICE T shuffle_xor(T value, int mask, int width) {
  return __shfl_xor_sync(0xffffffffu, value, mask, width);
}

ETHER_DEVICE void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
ETHER_DEVICE void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <std::size_t bytes>
ETHER_DEVICE void check_aligned(const void*) {}

ETHER_DEVICE Bytes16 stream_load(const void* pointer) {
  Bytes16 b;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(b.word[0]), "=r"(b.word[1]), "=r"(b.word[2]), "=r"(b.word[3])
               : "l"(pointer));
  return b;
}

/// The compiler would take a plain store of packed 16-bit elements apart.
ETHER_DEVICE void store_16(void* pointer, const Bytes16& b) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(pointer), "r"(b.word[0]), "r"(b.word[1]), "r"(b.word[2]), "r"(b.word[3])
               : "memory");
}

ETHER_DEVICE void prefetch(const void* pointer) {
  asm volatile("prefetch.global.L2 [%0];" : : "l"(pointer));
}

/// Lets a kernel have all the shared memory of a block; once for each device.
template <auto kernel>
void allow_shared_memory(const Launch& where) {
  static std::atomic<std::uint64_t> allowed{0};
  const std::uint64_t bit = where.device < 64 ? std::uint64_t{1} << where.device : 0;
  if ((allowed.load(std::memory_order_relaxed) & bit) != 0) return;
  cudaFuncAttributes is;
  detail::cuda::check(cudaFuncGetAttributes(&is, kernel), "cudaFuncGetAttributes");
  detail::cuda::check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(where.shared_bytes - is.sharedSizeBytes)),
      "cudaFuncSetAttribute");
  allowed.fetch_or(bit, std::memory_order_relaxed);
}

template <auto kernel, class... Arguments>
void launch(const Launch& where, dim3 grid, int threads, std::size_t dynamic_shared_bytes,
            const Arguments&... arguments) {
  if (dynamic_shared_bytes > shared_bytes_unasked) allow_shared_memory<kernel>(where);
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = dynamic_shared_bytes;
  config.stream = where.stream;
  config.attrs = &attribute;
  config.numAttrs = where.dependent ? 1 : 0;
  detail::cuda::check(cudaLaunchKernelEx(&config, kernel, arguments...), "cudaLaunchKernelEx");
}

}  // namespace cuda_kernels
ETHER_END_INTERFACE

#elif defined(ETHER_CUDA_EMULATOR)
#include ETHER_CUDA_EMULATOR
#else
#error \
    "ether: CUDA kernels need nvcc; with another compiler include <ether/backends/cuda.hpp> and link ether::cuda"
#endif
