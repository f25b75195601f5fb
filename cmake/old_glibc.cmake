# SPDX-License-Identifier: Apache-2.0
#
# exn_for_old_glibc(<shared library>): lets it start on Linux systems with glibc EXN_OLDEST_GLIBC or
# newer, whatever the machine that links it has (lower_glibc.py says how). Without Python, or another
# libc, the library needs what this machine has.
set(EXN_OLDEST_GLIBC 2.17)  # RHEL 7, Debian 8
find_package(Python3 COMPONENTS Interpreter)
# Before 2.34 these had the functions that are in libc.so.6 now.
find_library(EXN_LIBPTHREAD libpthread.so.0)
find_library(EXN_LIBDL libdl.so.2)
mark_as_advanced(EXN_LIBPTHREAD EXN_LIBDL)

function(exn_for_old_glibc target)
  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" OR NOT Python3_FOUND OR NOT EXN_LIBPTHREAD OR
     NOT EXN_LIBDL OR NOT CMAKE_SIZEOF_VOID_P EQUAL 8 OR CMAKE_CXX_BYTE_ORDER STREQUAL "BIG_ENDIAN")
    return()
  endif()
  target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/native/src/base/platform/old_glibc.cpp)
  target_link_options(${target} PRIVATE
    LINKER:--no-as-needed ${EXN_LIBPTHREAD} ${EXN_LIBDL} LINKER:--as-needed)
  add_custom_command(TARGET ${target} POST_BUILD COMMAND ${Python3_EXECUTABLE}
    ${CMAKE_SOURCE_DIR}/cmake/lower_glibc.py ${EXN_OLDEST_GLIBC} ${CMAKE_CXX_COMPILER}
    $<TARGET_FILE:${target}> VERBATIM)
  set_property(TARGET ${target} APPEND PROPERTY
    LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/lower_glibc.py)
endfunction()
