// expect: the harness reads this sentence
#include <ether/ether.hpp>

#ifndef ETHER_COMPILE_OK
static_assert(sizeof(char) == 2, "the harness reads this sentence");
#elif defined(ETHER_BREAK_CONTROL)
#error "the control is broken on purpose"
#endif
