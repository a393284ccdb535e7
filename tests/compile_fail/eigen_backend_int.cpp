// expect: ether: EigenBackend is for float, double, Eigen::bfloat16 and Eigen::half
#include <ether/ether.hpp>

#ifdef ETHER_COMPILE_OK
using Scalar = float;
#else
using Scalar = int;
#endif

ether::EigenBackend<Scalar>::Context context;
