# ether::dnnl, which is oneDNN: the target DNNL::dnnl of the project that uses ether, or what is found by
# name. Not through oneDNN's own package, which stops where one of its other back ends (Debian's:
# OpenCL) is not installed.
if(NOT TARGET ether::dnnl)
  if(TARGET DNNL::dnnl)
    add_library(ether::dnnl INTERFACE IMPORTED)
    set_target_properties(ether::dnnl PROPERTIES INTERFACE_LINK_LIBRARIES DNNL::dnnl)
  else()
    find_path(ETHER_ONEDNN_INCLUDE_DIR dnnl.hpp DOC "Where oneDNN's dnnl.hpp is")
    find_library(ETHER_ONEDNN_LIBRARY dnnl DOC "oneDNN's library")
    mark_as_advanced(ETHER_ONEDNN_INCLUDE_DIR ETHER_ONEDNN_LIBRARY)
    set(config "")
    set(version 0)
    if(EXISTS "${ETHER_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h")
      file(STRINGS "${ETHER_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" version
           REGEX "define DNNL_VERSION_(MAJOR|MINOR)")
      list(TRANSFORM version REPLACE "^[^0-9]*([0-9]+).*$" "\\1")
      list(JOIN version "." version)
      file(STRINGS "${ETHER_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h" config
           REGEX "define DNNL_CPU_RUNTIME DNNL_RUNTIME_OMP")
    endif()
    if(ETHER_ONEDNN_LIBRARY AND config AND version VERSION_GREATER_EQUAL 2.6)
      add_library(ether::dnnl UNKNOWN IMPORTED)
      set_target_properties(
        ether::dnnl PROPERTIES IMPORTED_LOCATION "${ETHER_ONEDNN_LIBRARY}"
                               INTERFACE_INCLUDE_DIRECTORIES "${ETHER_ONEDNN_INCLUDE_DIR}")
    endif()
  endif()
endif()
