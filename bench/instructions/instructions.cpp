// ether_instructions: small workloads whose instructions callgrind counts; see README.md of bench.
// check.py beside this file runs it. It runs without callgrind too, and then counts nothing.

#include "workload.hpp"

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <gnu/libc-version.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace {

constexpr int skipped = 77;

const char usage[] =
    "Usage: ether_instructions --list | --run NAME | --versions\n"
    "\n"
    "  --list      a line for each workload: name, elements that it works on\n"
    "  --run NAME  run this workload, once to warm up and once for callgrind to count;\n"
    "              files are made in a directory of its own, which is removed again\n"
    "  --versions  one line: what the counts depend on, but for this library\n";

/// The compiler and all whose code is part of the count.
std::string versions() {
  std::string text;
  const auto add = [&](const char* name, std::initializer_list<int> parts) {
    text += std::string(text.empty() ? "" : ", ") + name;
    char separator = ' ';
    for (const int part : parts) text += separator + std::to_string(part), separator = '.';
  };
#if defined(__clang__)
  add("clang++", {__clang_major__, __clang_minor__, __clang_patchlevel__});
#else
  add("g++", {__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__});
#endif
#if defined(_GLIBCXX_RELEASE)
  add("libstdc++", {_GLIBCXX_RELEASE});
#endif
  text += std::string(", glibc ") + gnu_get_libc_version();
  add("Eigen", {EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION});
  add("nlohmann/json",
      {NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH});
  return text;
}

/// An empty working directory, so that paths are short and the same everywhere.
class WorkingDirectory {
 public:
  WorkingDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "ether_XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr)
      throw std::runtime_error("cannot make the directory " + path);
    path_ = path;
    std::filesystem::current_path(path_);
  }
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;
  ~WorkingDirectory() {
    std::error_code ignored;
    std::filesystem::current_path("/", ignored);
    std::filesystem::remove_all(path_, ignored);
  }

 private:
  std::filesystem::path path_;
};

int run(int argc, char** argv) {
  std::vector<instructions::Workload> all = instructions::layer_workloads();
  for (auto& workload : instructions::reader_workloads()) all.push_back(std::move(workload));
  const std::string option = argc > 1 ? argv[1] : "";
  if (option == "--versions" && argc == 2) return std::puts(versions().c_str()) < 0;
  if (option == "--list" && argc == 2) {
    for (const auto& workload : all)
      std::printf("%s %lld\n", workload.name.c_str(), static_cast<long long>(workload.elements));
    return 0;
  }
  if (option == "--run" && argc == 3) {
    for (const auto& workload : all)
      if (workload.name == argv[2]) {
        const WorkingDirectory directory;
        workload.run();
        return 0;
      }
    std::fprintf(stderr, "ether_instructions: there is no workload '%s'; see --list\n", argv[2]);
    return 2;
  }
  std::fputs(usage, option == "--help" ? stdout : stderr);
  return option == "--help" ? 0 : 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::fputs("ether_instructions: it is compiled for processors with AVX2 and FMA\n", stderr);
    return skipped;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ether_instructions: %s\n", error.what());
    return 1;
  }
}
