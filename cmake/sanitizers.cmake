# SPDX-License-Identifier: Apache-2.0
#
# EXN_SANITIZE: a list given to -fsanitize=, e.g. "address,undefined" or "thread". Empty: none. Sanitized
# code is built with -O1, which takes a third of the time to compile and keeps more accesses to check.

add_library(exeunt_sanitizers INTERFACE)
if(EXN_SANITIZE)
  string(REPLACE ";" "," sanitizers "${EXN_SANITIZE}")
  set(flags -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(exeunt_sanitizers INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:${flags};-O1;-g1>)
  target_link_options(exeunt_sanitizers INTERFACE $<$<LINK_LANGUAGE:C,CXX>:${flags}>)
endif()
