# SPDX-License-Identifier: Apache-2.0
#
# The instruction sets that the CPU kernels are compiled for, once each, and their flags.
#
#   EXN_ISAS             names, weakest first
#   EXN_KERNELS          those of them whose kernels are compiled, and, where `amx` is there alone,
#                        `avx512`: `amx` is its code, which may multiply in tiles besides
#   EXN_ISA_FLAGS_<isa>  compiler flags
#   exn_kernels_of(<result> <isa>...)  those whose kernels such sets need
#   EXN_TEST_ISAS        those of them that native tests run here
#   EXN_UNUSED_ISAS      those that are left out, since no test of this build runs them
#
# In the quick suite the weakest and the best are tested, which differ most. Where not all is tested,
# nothing else is compiled: most of the time of a run goes into compiling.
#
# A kernel source sees -DEXN_ISA=<isa> and puts all its code into a namespace of that name, so that
# the objects of different instruction sets share no symbol. The CPU dispatcher (native/src/cpu)
# picks one at run time; a set needs every CPU feature in its flags.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(avx2 -mavx2 -mfma -mbmi -mbmi2 -mf16c)
  set(EXN_ISAS baseline avx2 vnni avx512 amx)
  set(EXN_ISA_FLAGS_baseline "")
  set(EXN_ISA_FLAGS_avx2 ${avx2})
  # GCC 12 takes the undefined source operand of unmasked intrinsics for a mistake (GCC bug 105593).
  set(EXN_ISA_FLAGS_vnni ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi
    -mavx512vbmi2 -mavx512vnni -Wno-uninitialized -Wno-maybe-uninitialized)
  set(EXN_ISA_FLAGS_avx512 ${EXN_ISA_FLAGS_vnni} -mavx512bf16)

  set(cpu_avx2 avx2 fma bmi1 bmi2 f16c)  # as /proc/cpuinfo spells them
  set(cpu_vnni ${cpu_avx2} avx512f avx512bw avx512dq avx512vl avx512vbmi avx512_vbmi2 gfni
    avx512_vnni)
  set(cpu_avx512 ${cpu_vnni} avx512_bf16)
  set(cpu_amx ${cpu_avx512} amx_tile amx_bf16)
  set(cpu_flags "")
  if(EXISTS /proc/cpuinfo AND (NOT CMAKE_CROSSCOMPILING OR WIN32))  # Wine runs on this processor
    file(STRINGS /proc/cpuinfo cpu_flags REGEX "^flags" LIMIT_COUNT 1)
    string(REGEX MATCHALL "[a-z0-9_]+" cpu_flags "${cpu_flags}")
  endif()
  set(EXN_TEST_ISAS "")
  foreach(isa IN LISTS EXN_ISAS)
    set(missing "")
    foreach(feature IN LISTS cpu_${isa})
      if(NOT feature IN_LIST cpu_flags)
        list(APPEND missing ${feature})
      endif()
    endforeach()
    if(missing)
      message(STATUS "CPU kernels: ${isa} is not tested, since this CPU lacks ${missing}")
    else()
      list(APPEND EXN_TEST_ISAS ${isa})
    endif()
  endforeach()
  # vnni is avx512 with fewer instructions: where that runs, Java's forced runs of vnni are enough.
  if(avx512 IN_LIST EXN_TEST_ISAS)
    list(REMOVE_ITEM EXN_TEST_ISAS vnni)
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(EXN_ISAS neon)  # NEON is part of every 64-bit ARM
  set(EXN_ISA_FLAGS_neon "")
  set(EXN_TEST_ISAS neon)
else()
  set(EXN_ISAS baseline)
  set(EXN_ISA_FLAGS_baseline "")
  set(EXN_TEST_ISAS baseline)
endif()

set(EXN_UNUSED_ISAS "")
if(EXN_SUITE STREQUAL "quick")
  list(GET EXN_TEST_ISAS 0 weakest_isa)
  list(GET EXN_TEST_ISAS -1 best_isa)
  set(EXN_TEST_ISAS ${weakest_isa} ${best_isa})
  list(REMOVE_DUPLICATES EXN_TEST_ISAS)
endif()
if(EXN_TESTS AND NOT EXN_SUITE STREQUAL "all")
  set(EXN_UNUSED_ISAS ${EXN_ISAS})
  list(REMOVE_ITEM EXN_UNUSED_ISAS ${EXN_TEST_ISAS})
  list(REMOVE_ITEM EXN_ISAS ${EXN_UNUSED_ISAS})
endif()

set(EXN_ONLY_ISAS "" CACHE STRING "Sets whose kernels are built, of those of the processor; all if empty")
if(EXN_ONLY_ISAS)
  set(left_out ${EXN_ISAS})
  list(REMOVE_ITEM left_out ${EXN_ONLY_ISAS})
  if(left_out STREQUAL EXN_ISAS)
    message(FATAL_ERROR "EXN_ONLY_ISAS is '${EXN_ONLY_ISAS}', none of '${EXN_ISAS}'")
  endif()
  list(APPEND EXN_UNUSED_ISAS ${left_out})
  list(REMOVE_ITEM EXN_ISAS ${EXN_UNUSED_ISAS})
  list(REMOVE_ITEM EXN_TEST_ISAS ${EXN_UNUSED_ISAS})
endif()

function(exn_kernels_of result)
  list(TRANSFORM ARGN REPLACE "^amx$" avx512 OUTPUT_VARIABLE kernels)
  list(REMOVE_DUPLICATES kernels)
  set(${result} ${kernels} PARENT_SCOPE)
endfunction()
exn_kernels_of(EXN_KERNELS ${EXN_ISAS})
