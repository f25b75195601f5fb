# SPDX-License-Identifier: Apache-2.0
#
# Other systems from Linux, with the clang and the libraries that zig brings (pip install ziglang):
#   cmake -S . -B build/windows -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/toolchains/zig.cmake \
#     -DEXN_ZIG=FILE -DEXN_TARGET=x86_64-windows-gnu  # tests run under Wine; elsewhere -DEXN_TESTS=OFF
# Targets: x86_64-windows-gnu, aarch64-macos, x86_64-macos, aarch64-linux-gnu.2.17 (or any glibc).

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EXN_ZIG EXN_TARGET EXN_ZIG_TOOLS)
if(EXN_TARGET MATCHES "windows")
  set(CMAKE_SYSTEM_NAME Windows)
  set(CMAKE_CROSSCOMPILING_EMULATOR wine)
elseif(EXN_TARGET MATCHES "macos")
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()
string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${EXN_TARGET}")
if(NOT EXN_ZIG_TOOLS)
  set(EXN_ZIG_TOOLS ${CMAKE_BINARY_DIR}/zig)
endif()
# Compilers of one word, by whose names CMake and ccache know clang. They optimize, or zig would
# compile its C++ library once more for the checks of CMake.
foreach(tool IN ITEMS clang:cc clang++:c++ ar:ar ranlib:ranlib)
  string(REPLACE ":" ";" tool ${tool})
  list(GET tool 0 name)
  list(GET tool 1 command)
  set(options "")
  if(name MATCHES "clang")
    set(options " -target ${EXN_TARGET} -O3 -fno-sanitize=undefined")  # which zig adds to -O0
  endif()
  set(text "#!/bin/sh\nexec '${EXN_ZIG}' ${command}${options} \"$@\"\n")
  set(there "")
  if(EXISTS ${EXN_ZIG_TOOLS}/${name})
    file(READ ${EXN_ZIG_TOOLS}/${name} there)
  endif()
  if(NOT there STREQUAL text)
    file(WRITE ${EXN_ZIG_TOOLS}/${name} "${text}")
    file(CHMOD ${EXN_ZIG_TOOLS}/${name}
      PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endif()
endforeach()
set(CMAKE_C_COMPILER ${EXN_ZIG_TOOLS}/clang)
set(CMAKE_CXX_COMPILER ${EXN_ZIG_TOOLS}/clang++)
set(CMAKE_AR ${EXN_ZIG_TOOLS}/ar)
set(CMAKE_RANLIB ${EXN_ZIG_TOOLS}/ranlib)
# Or programs would be linked with what draws windows, whose libraries zig compiles first.
set(CMAKE_C_STANDARD_LIBRARIES "" CACHE STRING "")
set(CMAKE_CXX_STANDARD_LIBRARIES "" CACHE STRING "")
if(EXN_TARGET MATCHES "macos")
  set(CMAKE_SHARED_LINKER_FLAGS_INIT -s)  # symbols of objects name the folder of the build
endif()
