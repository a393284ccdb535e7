# ether_dev: the library and the flags that the tests, examples and benchmarks are built with.
include(CheckCXXCompilerFlag)
find_package(Threads REQUIRED)

# clang counts sign conversions among -Wconversion, g++ does not; the looser one holds for both.
set(ether_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
add_library(ether_checked INTERFACE) # the warnings alone, for what has an instruction set of its own
target_compile_options(ether_checked INTERFACE ${ether_warnings})
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU") # false with AVX-512 intrinsics (before g++ 13) and sanitizers
  target_compile_options(ether_checked INTERFACE -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
if(ETHER_WERROR)
  target_compile_options(ether_checked INTERFACE -Werror)
endif()

add_library(ether_dev INTERFACE)
target_link_libraries(
  ether_dev INTERFACE ether::ether $<TARGET_NAME_IF_EXISTS:ether::openmp> ether_checked
                      Threads::Threads)
if(ETHER_NATIVE)
  check_cxx_compiler_flag(-march=native ETHER_HAS_MARCH_NATIVE)
  if(ETHER_HAS_MARCH_NATIVE)
    target_compile_options(ether_dev INTERFACE -march=native)
  endif()
endif()

if(ETHER_SANITIZE)
  target_compile_options(ether_dev INTERFACE -fsanitize=${ETHER_SANITIZE} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer -g1)
  target_link_options(ether_dev INTERFACE -fsanitize=${ETHER_SANITIZE})
endif()
