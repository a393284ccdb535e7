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
  const cudaError_t status = lists ? cudaSuccess : cudaGetDeviceCount(&devices);
  if (!lists && (status != cudaSuccess || devices == 0)) {
    std::printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(status));
    return 77;
  }
  const int failures = Catch::Session().run(argc, argv);
  return lists ? failures : failures != 0;  // 77 failures are not "skipped"
}
