# SPDX-License-Identifier: Apache-2.0
#
# The warnings every C and C++ target of the tree is built with. -Wconversion is left out on
# purpose: kernels mix 64-bit sizes and 32-bit lanes on every line, and casts there hide more than
# they show. What does cost accuracy (double where float was meant, float to int) is on.

add_library(exeunt_warnings INTERFACE)
target_compile_options(exeunt_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow;-Wvla;-Wformat=2>
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wdouble-promotion;-Wfloat-conversion>
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual;-Wundef>)
if(WIN32)  # its isnan() and INFINITY are of double
  target_compile_options(exeunt_warnings INTERFACE -Wno-double-promotion)
endif()

if(EXN_WERROR)
  target_compile_options(exeunt_warnings INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
endif()
