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
    if(ETHER_ONEDNN_INCLUDE_DIR AND ETHER_ONEDNN_LIBRARY)
      add_library(ether::dnnl UNKNOWN IMPORTED)
      set_target_properties(
        ether::dnnl PROPERTIES IMPORTED_LOCATION "${ETHER_ONEDNN_LIBRARY}"
                               INTERFACE_INCLUDE_DIRECTORIES "${ETHER_ONEDNN_INCLUDE_DIR}")
    endif()
  endif()
endif()
