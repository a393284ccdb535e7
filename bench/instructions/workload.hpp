#pragma once

/// What the instructions are counted of: a name, and a function that does its own setting up and
/// calls count(...) once on what is to be counted.

#include <valgrind/callgrind.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace instructions {

struct Workload {
  std::string name;
  std::int64_t elements;  ///< of the matrix, adapter or file that is worked on
  void (*run)();
};

/// The row operation, gradients, merge, forward: layer.cpp. The readers of files: reader.cpp.
std::vector<Workload> layer_workloads();
std::vector<Workload> reader_workloads();

/// The compiler may assume nothing about the memory behind `data`.
template <class T>
void keep(T* data) {
  asm volatile("" : : "r"(data) : "memory");
}

/// Runs `work` twice and lets callgrind count the second: the first fills the workspace and has the
/// dynamic linker look up what is called. Out of line, so that all workloads are called alike.
template <class Work>
[[gnu::noinline]] void count(Work&& work) {
  work();
  CALLGRIND_START_INSTRUMENTATION;
  work();
  CALLGRIND_STOP_INSTRUMENTATION;
}

}  // namespace instructions
