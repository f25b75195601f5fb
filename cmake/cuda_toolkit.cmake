# SPDX-License-Identifier: Apache-2.0
#
# Finds a CUDA compiler and the toolkit's headers. Sets
#
#   EXN_CUDA_FOUND     a compiler works and EXN_CUDA is not OFF; the language is enabled
#   EXN_CUDA_INCLUDE   include folders of the toolkit, also without a compiler; may be empty
#   EXN_CUDA_BIN       folder with nvcc, ptxas, cuobjdump; empty if there is none
#   EXN_CUDA_DRIVER    the oldest driver family that what it compiles starts on
#
# Looked at in this order: EXN_CUDA_ROOT, the environment's CUDA_HOME and CUDA_PATH, nvcc on PATH,
# /usr/local/cuda, and build/cuda/toolkit, where the launcher (`./exeunt`) puts a pinned one, or its
# headers alone into build/cuda/headers.

set(EXN_CUDA AUTO CACHE STRING
  "Build libexeunt_cuda.so: AUTO (if a compiler is found), ON (or fail), OFF")
set_property(CACHE EXN_CUDA PROPERTY STRINGS AUTO ON OFF)
set(EXN_CUDA_ROOT "" CACHE PATH "CUDA toolkit to use (the folder with bin/nvcc)")

set(EXN_CUDA_FOUND FALSE)
set(EXN_CUDA_INCLUDE "")
set(EXN_CUDA_BIN "")

if(CMAKE_CROSSCOMPILING)
  if(EXN_CUDA STREQUAL "ON")
    message(FATAL_ERROR "EXN_CUDA=ON: CUDA cannot be cross-compiled here")
  endif()
  return()
endif()

# What an earlier run found may be gone since.
foreach(found EXN_NVCC EXN_CUDA_HEADERS)
  if(${found} AND NOT EXISTS "${${found}}")
    unset(${found} CACHE)
  endif()
endforeach()

set(exn_cuda_roots ${EXN_CUDA_ROOT} $ENV{CUDA_HOME} $ENV{CUDA_PATH})
find_program(EXN_NVCC nvcc HINTS ${exn_cuda_roots} PATH_SUFFIXES bin
  PATHS /usr/local/cuda/bin ${CMAKE_SOURCE_DIR}/build/cuda/toolkit/bin DOC "CUDA compiler")

if(EXN_NVCC)
  # Resolve links: nvcc finds its headers relative to where it really is.
  get_filename_component(exn_nvcc_real "${EXN_NVCC}" REALPATH)
  get_filename_component(EXN_CUDA_BIN "${exn_nvcc_real}" DIRECTORY)
  get_filename_component(exn_cuda_home "${EXN_CUDA_BIN}" DIRECTORY)
  list(APPEND exn_cuda_roots ${exn_cuda_home})
endif()

find_path(EXN_CUDA_HEADERS cuda_bf16.h
  HINTS ${exn_cuda_roots} ${CMAKE_SOURCE_DIR}/build/cuda/headers/nvidia/cu13
  PATH_SUFFIXES include targets/x86_64-linux/include NO_DEFAULT_PATH DOC "CUDA toolkit headers")
if(EXN_CUDA_HEADERS)
  list(APPEND EXN_CUDA_INCLUDE ${EXN_CUDA_HEADERS})
  if(IS_DIRECTORY ${EXN_CUDA_HEADERS}/cccl)  # <nv/target> moved there with CUDA 13
    list(APPEND EXN_CUDA_INCLUDE ${EXN_CUDA_HEADERS}/cccl)
  endif()
endif()

if(EXN_CUDA STREQUAL "OFF")
  message(STATUS "CUDA backend: off (EXN_CUDA=OFF)")
  return()
endif()

file(GLOB exn_cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/cuda/src/*.cu)
if(NOT EXN_NVCC)
  if(EXN_CUDA STREQUAL "ON")
    message(FATAL_ERROR
      "EXN_CUDA=ON, but no nvcc: set EXN_CUDA_ROOT, or let `./exeunt build` fetch a toolkit")
  endif()
  message(STATUS "CUDA backend: left out, no CUDA compiler found (EXN_CUDA_ROOT, CUDA_HOME, PATH)")
elseif(NOT exn_cuda_sources)
  message(STATUS "CUDA backend: left out, cuda/src has no sources")
else()
  include(${CMAKE_SOURCE_DIR}/cmake/cuda_archs.cmake)
  set(CMAKE_CUDA_COMPILER ${exn_nvcc_real})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 11.8)
    message(FATAL_ERROR
      "CUDA ${CMAKE_CUDA_COMPILER_VERSION} does not know sm_90: 11.8 or newer is needed")
  endif()
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8 AND
      CMAKE_CUDA_ARCHITECTURES MATCHES "(^|;)1[0-9][0-9]")
    message(FATAL_ERROR
      "CUDA ${CMAKE_CUDA_COMPILER_VERSION} does not know ${CMAKE_CUDA_ARCHITECTURES}: sm_100 and "
      "sm_120 need 12.8 or newer, or other EXN_CUDA_ARCHS")
  endif()
  # The runtime is linked in, and starts on the drivers of its own family and newer ones.
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
    set(EXN_CUDA_DRIVER R450)
  elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    set(EXN_CUDA_DRIVER R525)
  else()
    set(EXN_CUDA_DRIVER R580)
  endif()
  set(EXN_CUDA_FOUND TRUE)
  message(STATUS "CUDA backend: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, "
    "architectures ${CMAKE_CUDA_ARCHITECTURES}, drivers from ${EXN_CUDA_DRIVER} on")
endif()
