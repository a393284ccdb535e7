// A host that defines min and max as macros, as windows.h does, after everybody else's headers.

#include <Eigen/Core>

#include <bits/stdc++.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))

#include <ether/ether.hpp>
#ifdef ETHER_HAS_IO
#include <ether/io.hpp>
#endif

int main() { return 0; }
