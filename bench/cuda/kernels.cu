#include "kernels.hpp"

#include <ether/backends/cuda/error.hpp>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace bench {
namespace {

constexpr int threads = 256, warp = 32;

void check_launch(const char* what) { ether::detail::cuda::check(cudaGetLastError(), what); }

unsigned blocks_for(std::ptrdiff_t count, std::ptrdiff_t in_block) {
  return static_cast<unsigned>((count + in_block - 1) / in_block);
}

__global__ void empty_kernel() {}

constexpr int copy_each = 4;  // vectors of a thread, all requested before the first is stored

__global__ void __launch_bounds__(threads)
    copy_kernel_of(const int4* from, int4* to, std::int64_t vectors) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads * copy_each + threadIdx.x;
  int4 value[copy_each];
#pragma unroll
  for (int v = 0; v < copy_each; ++v)
    if (first + v * threads < vectors) value[v] = from[first + v * threads];
#pragma unroll
  for (int v = 0; v < copy_each; ++v)
    if (first + v * threads < vectors) to[first + v * threads] = value[v];
}

template <class T>
__global__ void fill_kernel(T* to, std::int64_t count, std::uint64_t seed, float scale,
                            float offset) {
  const std::int64_t step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < count; i += step) {
    std::uint64_t z = (seed << 40) + static_cast<std::uint64_t>(i);  // splitmix64
    z = (z + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const float uniform = static_cast<float>(z >> 40) * 0x1p-23f - 1.0f;
    to[i] = static_cast<T>(scale * (uniform + offset));
  }
}

template <class T>
struct alignas(16) Pack {
  static constexpr int size = 16 / static_cast<int>(sizeof(T));
  T element[size];
};

/// A thread holds `held` packs of its row in registers.
template <class T, int held>
__global__ void __launch_bounds__(threads)
    rms_norm_kernel(const T* x, const T* gamma, float epsilon, T* y, int packs) {
  constexpr int size = Pack<T>::size;
  const std::int64_t row = std::int64_t{blockIdx.x} * packs;
  const auto* const from = reinterpret_cast<const Pack<T>*>(x) + row;
  const auto* const scale = reinterpret_cast<const Pack<T>*>(gamma);
  auto* const to = reinterpret_cast<Pack<T>*>(y) + row;
  Pack<T> value[held];
  float sum = 0;
#pragma unroll
  for (int v = 0; v < held; ++v)
    if (const int i = static_cast<int>(threadIdx.x) + v * threads; i < packs) value[v] = from[i];
#pragma unroll
  for (int v = 0; v < held; ++v)
    if (static_cast<int>(threadIdx.x) + v * threads < packs)
#pragma unroll
      for (int e = 0; e < size; ++e) {
        const float f = static_cast<float>(value[v].element[e]);
        sum += f * f;
      }
  for (int mask = warp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  __shared__ float of_warp[threads / warp];
  if (threadIdx.x % warp == 0) of_warp[threadIdx.x / warp] = sum;
  __syncthreads();
  float squares = 0;
#pragma unroll
  for (int w = 0; w < threads / warp; ++w) squares += of_warp[w];
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(packs * size) + epsilon);
#pragma unroll
  for (int v = 0; v < held; ++v)
    if (const int i = static_cast<int>(threadIdx.x) + v * threads; i < packs) {
      const Pack<T> g = scale[i];
#pragma unroll
      for (int e = 0; e < size; ++e)
        value[v].element[e] = static_cast<T>(static_cast<float>(value[v].element[e]) * inverse *
                                             static_cast<float>(g.element[e]));
      to[i] = value[v];
    }
}

/// A warp for each element of s.
template <class T>
__global__ void slow_product_kernel(const double* z, const T* w, double* s, std::int64_t out,
                                    std::int64_t in) {
  const std::int64_t o = std::int64_t{blockIdx.x} * (threads / warp) + threadIdx.x / warp;
  if (o >= out) return;
  const std::int64_t row = blockIdx.y;
  double sum = 0;
  for (std::int64_t i = threadIdx.x % warp; i < in; i += warp)
    sum += z[row * in + i] * static_cast<double>(static_cast<float>(w[o * in + i]));
  for (int mask = warp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  if (threadIdx.x % warp == 0) s[row * out + o] = sum;
}

/// A thread for each element of z.
template <class T>
__global__ void slow_product_transposed_kernel(const double* s, const T* w, double* z,
                                               std::int64_t out, std::int64_t in) {
  const std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x, row = blockIdx.y;
  if (i >= in) return;
  double sum = 0;
#pragma unroll 8
  for (std::int64_t o = 0; o < out; ++o)
    sum += s[row * out + o] * static_cast<double>(static_cast<float>(w[o * in + i]));
  z[row * in + i] = sum;
}

}  // namespace

void launch_empty(cudaStream_t stream) {
  empty_kernel<<<1, warp, 0, stream>>>();
  check_launch("empty_kernel");
}

void copy_kernel(const void* from, void* to, std::size_t bytes, cudaStream_t stream) {
  const auto vectors = static_cast<std::int64_t>(bytes / sizeof(int4));
  if (vectors == 0) return;
  copy_kernel_of<<<blocks_for(vectors, threads * copy_each), threads, 0, stream>>>(
      static_cast<const int4*>(from), static_cast<int4*>(to), vectors);
  check_launch("copy_kernel");
}

template <class T>
void fill(T* to, std::ptrdiff_t count, std::uint64_t seed, double scale, double offset,
          cudaStream_t stream) {
  if (count == 0) return;
  const unsigned blocks = std::min(blocks_for(count, threads), 65535u);
  fill_kernel<<<blocks, threads, 0, stream>>>(to, count, seed, static_cast<float>(scale),
                                              static_cast<float>(offset));
  check_launch("fill_kernel");
}

template <class T>
bool rms_norm(const T* x, const T* gamma, double epsilon, T* y, std::ptrdiff_t rows,
              std::ptrdiff_t cols, cudaStream_t stream) {
  const std::ptrdiff_t packs = cols / Pack<T>::size;
  if (rows == 0 || cols % Pack<T>::size != 0 || packs > threads * 4) return false;
  const auto run = [&](auto kernel) {
    kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(
        x, gamma, static_cast<float>(epsilon), y, static_cast<int>(packs));
    check_launch("rms_norm_kernel");
    return true;
  };
  return packs <= threads * 2 ? run(rms_norm_kernel<T, 2>) : run(rms_norm_kernel<T, 4>);
}

template <class T>
void slow_product(const double* z, const T* w, double* s, std::ptrdiff_t rows, std::ptrdiff_t out,
                  std::ptrdiff_t in, cudaStream_t stream) {
  const dim3 grid(blocks_for(out, threads / warp), static_cast<unsigned>(rows));
  slow_product_kernel<<<grid, threads, 0, stream>>>(z, w, s, out, in);
  check_launch("slow_product_kernel");
}

template <class T>
void slow_product_transposed(const double* s, const T* w, double* z, std::ptrdiff_t rows,
                             std::ptrdiff_t out, std::ptrdiff_t in, cudaStream_t stream) {
  const dim3 grid(blocks_for(in, threads), static_cast<unsigned>(rows));
  slow_product_transposed_kernel<<<grid, threads, 0, stream>>>(s, w, z, out, in);
  check_launch("slow_product_transposed_kernel");
}

// clang-format off
#define ETHER_BENCH_KERNELS(T)                                                                    \
  template void fill<T>(T*, std::ptrdiff_t, std::uint64_t, double, double, cudaStream_t);         \
  template bool rms_norm<T>(const T*, const T*, double, T*, std::ptrdiff_t, std::ptrdiff_t,       \
                            cudaStream_t);                                                        \
  template void slow_product<T>(const double*, const T*, double*, std::ptrdiff_t, std::ptrdiff_t, \
                                std::ptrdiff_t, cudaStream_t);                                    \
  template void slow_product_transposed<T>(const double*, const T*, double*, std::ptrdiff_t,      \
                                           std::ptrdiff_t, std::ptrdiff_t, cudaStream_t);
// clang-format on
ETHER_BENCH_KERNELS(float)
ETHER_BENCH_KERNELS(__half)
ETHER_BENCH_KERNELS(__nv_bfloat16)

}  // namespace bench
