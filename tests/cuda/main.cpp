/// Runs the tests where there is a CUDA device; elsewhere says so and exits with 77, which ctest
/// shows as skipped.
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  bool lists = false;
  for (int i = 1; i < argc; ++i) lists |= std::strncmp(argv[i], "--list", 6) == 0;
  int devices = 0;
  if (!lists && (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)) {
    std::puts("skipped: no CUDA device");
    return 77;
  }
  return Catch::Session().run(argc, argv);
}
