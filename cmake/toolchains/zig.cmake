# SPDX-License-Identifier: Apache-2.0
#
# Other systems from Linux, with the clang and the libraries that zig brings (pip install ziglang):
#   cmake -S . -B build/windows -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/zig.cmake \
#     -DEXN_ZIG=FILE -DEXN_TARGET=x86_64-windows-gnu -DEXN_TESTS=OFF
# Targets: x86_64-windows-gnu, aarch64-macos, x86_64-macos, aarch64-linux-gnu.2.17 (or any glibc).

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EXN_ZIG EXN_TARGET)
if(EXN_TARGET MATCHES "windows")
  set(CMAKE_SYSTEM_NAME Windows)
elseif(EXN_TARGET MATCHES "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()
string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${EXN_TARGET}")
set(CMAKE_C_COMPILER ${EXN_ZIG} cc -target ${EXN_TARGET})
set(CMAKE_CXX_COMPILER ${EXN_ZIG} c++ -target ${EXN_TARGET})
set(CMAKE_AR ${EXN_ZIG})
set(CMAKE_RANLIB ${EXN_ZIG})
foreach(language IN ITEMS C CXX)
  set(CMAKE_${language}_ARCHIVE_CREATE "<CMAKE_AR> ar qc <TARGET> <LINK_FLAGS> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_FINISH "<CMAKE_RANLIB> ranlib <TARGET>")
endforeach()
