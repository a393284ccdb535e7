// Catch2 v2 only; v3 brings a main function of its own.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
