// Compiles and links the oneDNN backend.
#include <ether/ether.hpp>

#include <ether/backends/onednn.hpp>

const char* onednn_name() { return ether::OneDnnBackend<float>::name; }
