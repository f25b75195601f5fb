# SPDX-License-Identifier: Apache-2.0
#
# The static gate on the CUDA kernels' machine code (tests/gate), on what the built library carries:
# two architectures by default, all of them with EXN_CUDA_ARCHS=release. Needs the target
# exeunt_cuda.

find_program(EXN_CUOBJDUMP cuobjdump HINTS ${EXN_CUDA_BIN} DOC "CUDA binary inspector")
if(NOT EXN_CUOBJDUMP)
  message(STATUS "CUDA gate: left out, no cuobjdump beside nvcc or on PATH")
  return()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME cuda.gate COMMAND
  ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/../tests/gate/gate.py
  --cuobjdump ${EXN_CUOBJDUMP} --library $<TARGET_FILE:exeunt_cuda>)
set_tests_properties(cuda.gate PROPERTIES TIMEOUT 600 LABELS cuda)

# The machine code for sm_90, run on the CPU: its results at small shapes against the oracles, and at
# those of a large model what it does, against docs/cuda-counts.md and the budgets.
if(TARGET exeunt_gpu_check AND TARGET exeunt_cuda_emu AND CMAKE_CUDA_ARCHITECTURES MATCHES "(^|;)90")
  set(exn_machine_code
    --backend $<TARGET_FILE:exeunt_cuda_emu> --cuda-runtime $<TARGET_FILE:exeunt_cuda_emu>
    --library $<TARGET_FILE:exeunt_cuda> --cuobjdump ${EXN_CUOBJDUMP}
    --compiler ${CMAKE_CUDA_COMPILER_VERSION})
  set(exn_counts ${CMAKE_SOURCE_DIR}/docs/cuda-counts.md)
  add_test(NAME cuda.machine_code COMMAND exeunt_gpu_check --machine-code ${exn_machine_code})
  add_test(NAME cuda.counts COMMAND exeunt_gpu_check --counts ${exn_counts} ${exn_machine_code})
  set_tests_properties(cuda.machine_code cuda.counts PROPERTIES
    ENVIRONMENT "EXEUNT_BACKEND=" TIMEOUT 600 LABELS cuda COST 25)
  add_custom_target(cuda_counts
    COMMAND ${CMAKE_COMMAND} -E env EXEUNT_BACKEND=
      $<TARGET_FILE:exeunt_gpu_check> --counts ${exn_counts} --update ${exn_machine_code}
    DEPENDS exeunt_gpu_check exeunt_cuda exeunt_cuda_emu VERBATIM)
endif()
