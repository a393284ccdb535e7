#pragma once

/// Version of the library; CMake reads these three lines.
#define ETHER_VERSION_MAJOR 0
#define ETHER_VERSION_MINOR 1
#define ETHER_VERSION_PATCH 0
