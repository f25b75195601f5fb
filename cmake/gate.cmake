# SPDX-License-Identifier: Apache-2.0
#
# The static gate on the CUDA kernels' machine code (tests/gate), on what the built library carries:
# two architectures by default, all of them with EXN_CUDA_ARCHS=release; the instructions of the
# newest, the resources of each. Needs the target exeunt_cuda.

find_program(EXN_CUOBJDUMP cuobjdump HINTS ${EXN_CUDA_BIN} DOC "CUDA binary inspector")
if(NOT EXN_CUOBJDUMP)
  message(STATUS "CUDA gate: left out, no cuobjdump beside nvcc or on PATH")
  return()
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME cuda.gate COMMAND
  ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/../tests/gate/gate.py
  --cuobjdump ${EXN_CUOBJDUMP} --library $<TARGET_FILE:exeunt_cuda> --newest-sass)
set_tests_properties(cuda.gate PROPERTIES TIMEOUT 600 LABELS cuda COST 30)
