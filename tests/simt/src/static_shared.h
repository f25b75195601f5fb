// SPDX-License-Identifier: Apache-2.0
//
// The static shared variables of all kernels in this library: its thread-local storage.
#pragma once

#include <cstddef>

namespace simt {

struct StaticShared {
  unsigned char* begin = nullptr;
  size_t size = 0;
};

// The calling host thread's instance.
StaticShared find_static_shared();

}  // namespace simt
