# SPDX-License-Identifier: Apache-2.0
#
# EXN_SANITIZE: a list given to -fsanitize=, e.g. "address,undefined" or "thread". Empty: none.
# Sanitized code is built with -O1, which takes a third of the time to compile and keeps more
# accesses to check, and without NDEBUG: what only such builds refuse is tested here.
#
#   exeunt_sanitizers       all of it; part of exeunt_options
#   exeunt_isa_sanitizers   for the kernels of any instruction set but the weakest: less of it
#   exeunt_test_sanitizers  for test programs and oracles: less of it
#
# The last two switch checks off again and must come after exeunt_options.

add_library(exeunt_sanitizers INTERFACE)
add_library(exeunt_isa_sanitizers INTERFACE)
add_library(exeunt_test_sanitizers INTERFACE)
if(EXN_SANITIZE)
  string(REPLACE ";" "," sanitizers "${EXN_SANITIZE}")
  set(flags -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(exeunt_sanitizers INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:${flags};-O1;-g1;-UNDEBUG>)
  target_link_options(exeunt_sanitizers INTERFACE $<$<LINK_LANGUAGE:C,CXX>:${flags}>)
endif()

# Checks of accesses are called instead of inlined: the same checks in half the time to compile.
if(EXN_SANITIZE MATCHES "address")
  target_compile_options(exeunt_sanitizers INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:--param=asan-instrumentation-with-call-threshold=0>)
endif()

# How addresses are computed is the same source text in every instruction set, and these three
# checks of it double the compile time of vector code. Accesses stay checked, by AddressSanitizer
# and for their alignment, as does the arithmetic.
if(EXN_SANITIZE MATCHES "undefined")
  target_compile_options(exeunt_isa_sanitizers INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize=null$<COMMA>object-size$<COMMA>pointer-overflow>)
endif()

# Tests own the buffers that the library works on: what they have on the stack and in
# globals gets its redzones, as what they have on the heap does anyway. What the tests
# themselves do with it is not in question, and instrumenting their assertions takes longer
# than compiling the library. (Under ThreadSanitizer their accesses do matter: they can race
# with those of the library's threads.)
if(EXN_SANITIZE MATCHES "address")
  set(flags -fno-sanitize=undefined
    --param=asan-instrument-reads=0 --param=asan-instrument-writes=0)
  target_compile_options(exeunt_test_sanitizers INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${flags}>")
endif()
