/// The launch of a kernel: CUDA's limits, and the runs in several orders with their comparison.
#pragma once

#include "cuda/emulator/block.hpp"

#include <ether/backends/cuda/launch.hpp>

#include <cstddef>
#include <tuple>

namespace test::emulator {

/// Throws EmulatorError; device memory then holds anything, but the emulator can be used on.
void run(const Kernel& kernel, const ether::detail::cuda::Launch& where, dim3 grid, int threads,
         std::size_t dynamic_shared_bytes);

template <auto kernel>
const char* signature() {
  return __PRETTY_FUNCTION__;
}

template <auto kernel, class Parameters>
void call(const void* arguments) {
  std::apply(kernel, *static_cast<const Parameters*>(arguments));
}

/// The parameter types of a kernel.
template <class Function>
struct ParametersOf;
template <class... Parameters>
struct ParametersOf<void (*)(Parameters...)> {
  using type = std::tuple<Parameters...>;
};

template <auto kernel, class... Arguments>
void launch(const ether::detail::cuda::Launch& where, dim3 grid, int threads,
            std::size_t dynamic_shared_bytes, const Arguments&... arguments) {
  using Parameters = typename ParametersOf<decltype(kernel)>::type;
  static_assert(sizeof...(Arguments) == std::tuple_size_v<Parameters>,
                "launch: not as many arguments as the kernel has parameters");
  const Parameters converted(arguments...);
  run({signature<kernel>(), call<kernel, Parameters>, &converted}, where, grid, threads,
      dynamic_shared_bytes);
}

}  // namespace test::emulator
