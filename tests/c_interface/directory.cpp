// A C++ program that loads adapters by the light header, compiled for another instruction set than the
// library: argument 1 is an adapter's directory with one module, argument 2 and 3 its weight's sizes.

#include <ether/adapter_directory.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int, char** argv) {
  const ether::AdapterDirectory directory(argv[1]);
  for (const std::string& module : directory.modules()) {
    const auto adapter = directory.adapter(module, std::atol(argv[2]), std::atol(argv[3]));
    double sum = 0;
    for (ether::Index i = 0; i < adapter.size(); ++i) sum += static_cast<double>(adapter.data()[i]);
    std::printf("%s %td %.9g\n", module.c_str(), adapter.size(), sum);
  }
  try {
    directory.adapter("no.such.module", 1, 1);
  } catch (const ether::format_error& e) {  // thrown in the library, caught here
    return std::strstr(e.what(), "no module 'no.such.module'") == nullptr;
  }
  return 1;
}
