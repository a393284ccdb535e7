// The CUDA backend measured beside what it wraps; see README.md beside this file.

#include "options.hpp"
#include "tables.hpp"

#include <cctype>
#include <cstdio>
#include <ctime>

namespace bench {

namespace {

using ether::detail::cuda::check;

constexpr int no_device = 77;  // as ctest's SKIP_RETURN_CODE

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

std::string date(const char* format) {
  const std::time_t now = std::time(nullptr);
  char text[64];
  std::strftime(text, sizeof text, format, std::gmtime(&now));
  return text;
}

/// 13000 as 13.0
std::string cuda_version(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string device_name(int device) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return properties.name;
}

void describe(Report& report, const Options& options) {
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const auto of_device = [&](cudaDeviceAttr which) { return attribute(which, options.device); };
  const auto mebibytes = [](std::size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  report.fact("device", device_name(options.device) + ", compute capability " +
                            std::to_string(of_device(cudaDevAttrComputeCapabilityMajor)) + "." +
                            std::to_string(of_device(cudaDevAttrComputeCapabilityMinor)) + ", " +
                            std::to_string(of_device(cudaDevAttrMultiProcessorCount)) +
                            " multiprocessors");
  report.fact("memory", mebibytes(total) + ", " + mebibytes(free) + " free; second-level cache " +
                            mebibytes(std::size_t(of_device(cudaDevAttrL2CacheSize))));
  report.fact("highest clocks",
              std::to_string(of_device(cudaDevAttrClockRate) / 1000) + " MHz multiprocessors, " +
                  std::to_string(of_device(cudaDevAttrMemoryClockRate) / 1000) + " MHz memory");
  report.fact("versions", "driver for CUDA " + cuda_version(driver) + ", runtime " +
                              cuda_version(runtime) + ", cuBLAS " +
                              std::to_string(cublasLtGetVersion()));
  report.fact("date", date("%Y-%m-%d %H:%M UTC"));
  report.fact("type", options.type);
  report.fact("seed", std::to_string(options.seed));
  report.fact("samples", std::to_string(options.samples()) + ", each a graph of about " +
                             fixed(options.sample_seconds() * 1e3, 1) +
                             " ms, contestants in random turns; medians with p10 and p90");
}

template <class T>
void all_tables(Session& s) {
  const auto make = [&s](const char* name, void (*table)(Session&)) {
    if (!s.options.wants(name)) return;
    const std::time_t start = std::time(nullptr);
    table(s);
    std::fprintf(stderr, "%s: %.0f s\n", name, std::difftime(std::time(nullptr), start));
  };
  floors_table(s);
  make("errors", errors_table<T>);
  make("product", product_table<T>);
  make("forward", forward_tables<T>);
  make("baselines", baselines_table<T>);
  make("transform", transform_table<T>);
  make("norm", norm_table<T>);
  make("merge", merge_table<T>);
  make("backward", backward_table<T>);
  make("adapters", adapters_table<T>);
  make("layer", layer_table<T>);
}

void run(const Options& options, Report& report) {
  describe(report, options);
  cudaStream_t created = nullptr;
  check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  struct Destroy {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  const std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy> stream(created);
  CudaContext ctx(stream.get());
  Timer timer(stream.get(), options);
  Session s{options, ctx, timer, report, attribute(cudaDevAttrL2CacheSize, options.device)};
  if (options.type == "float") return all_tables<float>(s);
  if (options.type == "half") return all_tables<__half>(s);
  all_tables<__nv_bfloat16>(s);
}

/// <device>-<type>-<date>, of letters and digits that any file system takes.
std::string file_name(const Options& options) {
  std::string name = device_name(options.device);
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
  return name + "-" + options.type + "-" + date("%Y-%m-%d-%H%M");
}

int run_program(int argc, char** argv) {
  Options options;
  try {
    options = parse_options(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ether_cuda_bench: %s\n", error.what());
    return 2;
  }
  if (options.help) {
    std::fputs(usage().c_str(), stdout);
    return 0;
  }
  int devices = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&devices);
      status != cudaSuccess || devices <= options.device) {
    std::fprintf(stderr, "ether_cuda_bench: no CUDA device %d: %s\n", options.device,
                 status != cudaSuccess ? cudaGetErrorString(status)
                                       : (std::to_string(devices) + " found").c_str());
    return no_device;
  }
  Report report;
  int status = 0;
  try {
    check(cudaSetDevice(options.device), "cudaSetDevice");
    run(options, report);
  } catch (const std::exception& error) {
    report.abort(error.what());
    std::fprintf(stderr, "ether_cuda_bench: %s\n", error.what());
    status = 1;
  }
  try {
    if (!options.out.empty()) report.write(options.out, file_name(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ether_cuda_bench: %s\n", error.what());
    status = 1;
  }
  return status;
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) { return bench::run_program(argc, argv); }
