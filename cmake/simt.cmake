# SPDX-License-Identifier: Apache-2.0
#
# The CUDA sources, compiled for this processor: tests/simt runs kernels and launchers without a GPU
# and checks them while they run.
#
#   exn_add_simt_backend(<target> MODE <mode> SOURCES <file>... [INCLUDES <folder>...]
#     [HEADERS <header>...])
#     a shared library that stands in for libexeunt_cuda.so
#   exn_add_simt_program(<target> MODE <mode> SOURCES <file>... [INCLUDES <folder>...]
#     [HEADERS <header>...])
#     a program with kernels in its own sources
#   HEADERS are compiled once for all sources.
#
# Modes: plain is the fastest; asan adds AddressSanitizer and UBSan; race lets the emulator see
# every access. Only the whole suite has the last two. Needs EXN_CUDA_INCLUDE, the include folders
# of a CUDA toolkit: its headers serve the host as well.

set(EXN_SIMT_DIR ${CMAKE_CURRENT_LIST_DIR}/../tests/simt)
get_filename_component(EXN_SIMT_DIR ${EXN_SIMT_DIR} ABSOLUTE)
set(EXN_SIMT_MODES plain)
if(EXN_SUITE STREQUAL "all")
  list(APPEND EXN_SIMT_MODES asan race)
endif()

if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR CMAKE_CROSSCOMPILING)
  message(STATUS "SIMT emulator: left out, it switches stacks on x86-64 only")
  return()
endif()
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  message(STATUS "SIMT emulator: left out, it needs g++")
  return()
endif()

# nvcc contracts a product and a sum; so does the emulation where the processor can.
include(CheckCXXSourceRuns)
set(CMAKE_REQUIRED_FLAGS "-mavx2 -mfma -mf16c")
check_cxx_source_runs(
  "int main(int n, char**) { return __builtin_fma(n, 2.0, -2.0 * n) != 0; }" EXN_SIMT_HAS_FMA)
unset(CMAKE_REQUIRED_FLAGS)

set(exn_simt_kernel_flags -g1 -fno-strict-aliasing -ffp-contract=fast -Wall -Wextra
  -Wno-unknown-pragmas -Wno-unused-parameter -Wno-attributes)
if(EXN_SIMT_HAS_FMA)
  list(APPEND exn_simt_kernel_flags -mavx2 -mfma -mf16c)
endif()
# The settings of the build type come first, these after it: -O3 -DNDEBUG of a release would hide
# line numbers and assertions. -O2 would compile half as long again, and run no faster: the time
# goes into the emulator.
set(exn_simt_kernel_flags_plain -O1)
# AddressSanitizer sees what a null pointer or a wrapped address would read or write; looking at
# addresses that nothing is read from doubles the compile time, and so does inlining its checks.
set(exn_simt_kernel_flags_asan -O1 -fsanitize=address,undefined
  -fno-sanitize=vptr,null,object-size,pointer-overflow
  --param=asan-instrumentation-with-call-threshold=0
  -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
set(exn_simt_kernel_flags_race -O1 -fsanitize=thread --param=tsan-instrument-func-entry-exit=0)
set(exn_simt_link_flags_plain "")
set(exn_simt_link_flags_asan -fsanitize=address,undefined)
set(exn_simt_link_flags_race "")

find_package(Threads REQUIRED)

# The emulator itself is never instrumented: it is what the instrumented code calls.
foreach(mode IN LISTS EXN_SIMT_MODES)
  file(GLOB exn_simt_runtime_sources CONFIGURE_DEPENDS ${EXN_SIMT_DIR}/src/*.cpp)
  if(NOT mode STREQUAL "race")
    list(REMOVE_ITEM exn_simt_runtime_sources ${EXN_SIMT_DIR}/src/tsan_callbacks.cpp)
  endif()
  file(GLOB exn_simt_api_sources ${EXN_SIMT_DIR}/src/runtime_*.cpp)
  set_source_files_properties(${exn_simt_api_sources} PROPERTIES
    COMPILE_OPTIONS -fvisibility=default)
  string(TOUPPER ${mode} upper_mode)
  add_library(exn_simt_runtime_${mode} OBJECT ${exn_simt_runtime_sources})
  target_include_directories(exn_simt_runtime_${mode} PRIVATE
    ${EXN_SIMT_DIR}/include ${EXN_SIMT_DIR}/src)
  target_include_directories(exn_simt_runtime_${mode} SYSTEM PRIVATE ${EXN_CUDA_INCLUDE})
  target_compile_definitions(exn_simt_runtime_${mode} PRIVATE
    EXN_SIMT=1 SIMT_MODE_${upper_mode}=1)
  target_compile_options(exn_simt_runtime_${mode} PRIVATE -O2 -g1 -Wall -Wextra -Wno-attributes)
  set_target_properties(exn_simt_runtime_${mode} PROPERTIES
    CXX_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
    UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)  # of what has no options of its own
endforeach()

function(exn_simt_configure target)
  cmake_parse_arguments(arg "" "MODE" "SOURCES;INCLUDES;HEADERS" ${ARGN})
  if(NOT arg_MODE IN_LIST EXN_SIMT_MODES)
    message(FATAL_ERROR
      "${target}: mode '${arg_MODE}' is not in EXN_SIMT_MODES (${EXN_SIMT_MODES})")
  endif()
  set_source_files_properties(${arg_SOURCES} PROPERTIES LANGUAGE CXX)
  target_sources(${target} PRIVATE ${arg_SOURCES} $<TARGET_OBJECTS:exn_simt_runtime_${arg_MODE}>)
  target_include_directories(${target} PRIVATE
    ${EXN_SIMT_DIR}/include ${EXN_SIMT_DIR}/../../cuda/include ${arg_INCLUDES})
  target_include_directories(${target} SYSTEM PRIVATE ${EXN_CUDA_INCLUDE})
  target_compile_definitions(${target} PRIVATE EXN_SIMT=1)
  target_compile_options(${target} PRIVATE
    ${exn_simt_kernel_flags} ${exn_simt_kernel_flags_${arg_MODE}})
  target_link_options(${target} PRIVATE ${exn_simt_link_flags_${arg_MODE}} LINKER:-z,noexecstack)
  target_link_libraries(${target} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  set_target_properties(${target} PROPERTIES
    CXX_STANDARD 17 CXX_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_precompile_headers(${target} PRIVATE ${arg_HEADERS})
endfunction()

function(exn_add_simt_backend target)
  add_library(${target} SHARED)
  exn_simt_configure(${target} ${ARGN})
  # -Bsymbolic: a real CUDA runtime in the same process must not take the emulated calls.
  target_link_options(${target} PRIVATE LINKER:-Bsymbolic
    LINKER:--version-script=${EXN_SIMT_DIR}/emulated_backend.map)
  set_target_properties(${target} PROPERTIES LINK_DEPENDS ${EXN_SIMT_DIR}/emulated_backend.map)
endfunction()

function(exn_add_simt_program target)
  add_executable(${target})
  exn_simt_configure(${target} ${ARGN})
endfunction()

# For programs that open the asan backend without being built with AddressSanitizer themselves.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libasan.so
  OUTPUT_VARIABLE EXN_SIMT_ASAN_RUNTIME OUTPUT_STRIP_TRAILING_WHITESPACE)
set(EXN_SIMT_ENVIRONMENT_asan
  "ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0"
  "UBSAN_OPTIONS=print_stacktrace=1")
set(EXN_SIMT_ENVIRONMENT_plain "")
set(EXN_SIMT_ENVIRONMENT_race "")

# ---- the emulated backends ----------------------------------------------------------------------

file(GLOB exn_simt_backend_sources CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/cuda/src/*.cu ${CMAKE_SOURCE_DIR}/cuda/src/*.cpp)
if(exn_simt_backend_sources)
  foreach(mode IN LISTS EXN_SIMT_MODES)
    set(target exeunt_cuda_emu_${mode})
    if(mode STREQUAL "plain")
      set(target exeunt_cuda_emu)
    endif()
    exn_add_simt_backend(${target} MODE ${mode}
      SOURCES ${exn_simt_backend_sources} ${CMAKE_SOURCE_DIR}/tests/gpu/probes.cu
      INCLUDES ${CMAKE_SOURCE_DIR}/native/include ${CMAKE_SOURCE_DIR}/native/src
      HEADERS <algorithm> <cstdio> <initializer_list> <mutex> <exeunt/cuda/portable.cuh>)
    target_link_options(${target} PRIVATE LINKER:-z,defs)
  endforeach()
endif()

# ---- the emulator's own tests -------------------------------------------------------------------

if(EXN_TESTS)
  add_subdirectory(${EXN_SIMT_DIR} ${CMAKE_BINARY_DIR}/tests/simt)
endif()

# ---- every case of the tables, on the emulated backends -----------------------------------------

if(EXN_SUITE STREQUAL "all" AND exn_simt_backend_sources AND TARGET exeunt)
  add_subdirectory(${CMAKE_SOURCE_DIR}/tests/gpu ${CMAKE_BINARY_DIR}/tests/gpu)

  # exn_add_emulated_check(<name> <mode> [SETTINGS <variable=value>...] [OPTIONS <option>...])
  function(exn_add_emulated_check name mode)
    cmake_parse_arguments(arg "" "" "SETTINGS;OPTIONS" ${ARGN})
    set(backend exeunt_cuda_emu)
    set(environment "EXEUNT_BACKEND=" ${arg_SETTINGS} ${EXN_SIMT_ENVIRONMENT_${mode}})
    if(NOT mode STREQUAL "plain")
      set(backend exeunt_cuda_emu_${mode})
    endif()
    if(mode STREQUAL "asan")
      list(APPEND environment "LD_PRELOAD=${EXN_SIMT_ASAN_RUNTIME}")
    endif()
    add_test(NAME simt.check.${name} COMMAND exeunt_gpu_check --backend $<TARGET_FILE:${backend}>
      --cuda-runtime $<TARGET_FILE:${backend}> --small --no-bench ${arg_OPTIONS})
    set_tests_properties(simt.check.${name} PROPERTIES
      ENVIRONMENT "${environment}" TIMEOUT 1800 LABELS simt COST 50)
  endfunction()

  # The costs here are seconds, roughly, and of tests that take long; the others have none. Those
  # that take longest begin first, so that no core is idle in the end.
  # All cases once, and every fifth five times: at once, from a graph, on two streams. A schedule is
  # the same whenever a launch is repeated, so under others, and for races, every fifth case runs
  # once; where memory is watched, every seventh in all five ways.
  set(exn_simt_once --every 5 --once)
  exn_add_emulated_check(plain plain OPTIONS --once)
  exn_add_emulated_check(graphs plain OPTIONS --every 5)
  exn_add_emulated_check(priority plain
    SETTINGS EXN_SIMT_POLICY=priority EXN_SIMT_SEED=11 OPTIONS ${exn_simt_once})
  exn_add_emulated_check(reverse plain
    SETTINGS EXN_SIMT_POLICY=reverse EXN_SIMT_SEED=2 OPTIONS ${exn_simt_once})
  # Protection changes page tables at every copy and launch, which is slow: a handful of each op.
  exn_add_emulated_check(protect plain SETTINGS EXN_SIMT_PROTECT=1 OPTIONS --every 60)
  exn_add_emulated_check(asan asan OPTIONS --every 7)
  exn_add_emulated_check(race race OPTIONS ${exn_simt_once})
  exn_add_emulated_check(race_random race
    SETTINGS EXN_SIMT_POLICY=random EXN_SIMT_SEED=7 EXN_SIMT_PREEMPT=64
    OPTIONS ${exn_simt_once})

  # Bytes that realistic cases take from memory, against the compulsory ones: with the
  # multiprocessors and the L2 cache of an A100, and for what is read twice with a cache so small
  # that the launchers must cut it up.
  function(exn_add_traffic_check name l2_bytes)
    add_test(NAME simt.traffic.${name} COMMAND exeunt_gpu_check --traffic
      --backend $<TARGET_FILE:exeunt_cuda_emu_race>
      --cuda-runtime $<TARGET_FILE:exeunt_cuda_emu_race> ${ARGN})
    set_tests_properties(simt.traffic.${name} PROPERTIES
      ENVIRONMENT "EXEUNT_BACKEND=;EXN_SIMT_SMS=108;EXN_SIMT_L2=${l2_bytes}"
      TIMEOUT 1800 LABELS simt COST 30)
  endfunction()
  exn_add_traffic_check(large_cache 41943040)
  exn_add_traffic_check(small_cache 1048576
    --ops row_stats,stablemax,cross_entropy,perp_grad,cosine)

  # Rehearsals of the script for GPU machines: to its end, killed, told to end, short of time, with
  # stand-ins for NVIDIA's tools.
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  foreach(what complete killed told_to_end short_of_time tools clocks)
    add_test(NAME simt.gpu_script.${what}
      COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/gpu/run_test.py ${what}
        $<TARGET_FILE:exeunt_cuda_emu> $<TARGET_FILE:exeunt_gpu_check>
        $<TARGET_FILE:exeunt_gpu_nvml_stub> ${CMAKE_BINARY_DIR}/tests/gpu/results/${what})
    set_tests_properties(simt.gpu_script.${what} PROPERTIES TIMEOUT 600 LABELS simt COST 15)
  endforeach()

  # There the checker is a project of its own. Its sources are compiled here already; that it
  # configures, and that one of them finds what it includes, is what may differ. Only Ninja
  # builds a single object by that name.
  if(CMAKE_GENERATOR STREQUAL "Ninja")
    add_test(NAME simt.gpu_checker_alone COMMAND ${CMAKE_CTEST_COMMAND}
      --build-and-test ${CMAKE_SOURCE_DIR}/tests/gpu ${CMAKE_BINARY_DIR}/tests/gpu/alone
      --build-generator ${CMAKE_GENERATOR}
      --build-target CMakeFiles/exeunt_gpu_check.dir/device.cpp.o
      --build-options -DEXN_LIBRARY=$<TARGET_FILE:exeunt> -DEXN_CUDA_INCLUDE=${EXN_CUDA_HEADERS}
        -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER})
    set_tests_properties(simt.gpu_checker_alone PROPERTIES TIMEOUT 600 LABELS simt)
  endif()
endif()
