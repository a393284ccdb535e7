// Compiles and links every header of ether::io.
#include <ether/io.hpp>

const char* default_index_name() { return ether::Checkpoint::index_name; }
