// Compiles with ether::openmp.
#include <ether/ether.hpp>

#ifndef _OPENMP
#error ether::openmp compiles its users without OpenMP
#endif

int threads() { return ether::EigenContext().threads(); }
