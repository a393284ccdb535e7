# cmake -DCOMPILER=… -DFLAGS=… -DSOURCE=… [-DEXPECT=…] [-DEXTRA=…] -P check.cmake
#
# SOURCE begins with the line "// expect: <part of a sentence>". It must not compile, the compiler
# must print that part, and with ETHER_COMPILE_OK defined the same file must compile.
# EXPECT and EXTRA (one more flag) serve the tests of this script.
# (CMake leaves the lines of a message whole where it begins with a space.)
cmake_minimum_required(VERSION 3.22)

if(NOT DEFINED EXPECT)
  file(STRINGS "${SOURCE}" line LIMIT_COUNT 1)
  if(NOT line MATCHES "^// expect: (.+)$")
    message(FATAL_ERROR " ${SOURCE}: the first line must be \"// expect: <part of a sentence>\".")
  endif()
  set(EXPECT "${CMAKE_MATCH_1}")
endif()

set(compile "${COMPILER}" -std=c++17 -fsyntax-only ${FLAGS} ${EXTRA})
execute_process(COMMAND ${compile} "${SOURCE}" RESULT_VARIABLE status OUTPUT_VARIABLE output
                ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR " ${SOURCE} compiles, but must not.")
endif()
string(FIND "${output}" "${EXPECT}" position)
if(position EQUAL -1)
  message("${output}")
  message(FATAL_ERROR " ${SOURCE} fails to compile, but does not say \"${EXPECT}\".")
endif()

execute_process(COMMAND ${compile} -DETHER_COMPILE_OK "${SOURCE}" RESULT_VARIABLE status
                OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0)
  message("${output}")
  message(FATAL_ERROR " ${SOURCE} must compile with ETHER_COMPILE_OK, but does not.")
endif()
