// SPDX-License-Identifier: Apache-2.0
//
// AddressSanitizer's manual interface, called directly: the macros of its header do nothing in code
// that is not instrumented, as the runtime is not.
#pragma once

#include <cstddef>

#if defined(SIMT_MODE_ASAN)
extern "C" {
void __asan_poison_memory_region(const volatile void* address, size_t size);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}
#endif

namespace simt {

inline void poison(const void* address, size_t size) {
#if defined(SIMT_MODE_ASAN)
  __asan_poison_memory_region(address, size);
#else
  (void)address;
  (void)size;
#endif
}

inline void unpoison(const void* address, size_t size) {
#if defined(SIMT_MODE_ASAN)
  __asan_unpoison_memory_region(address, size);
#else
  (void)address;
  (void)size;
#endif
}

}  // namespace simt
