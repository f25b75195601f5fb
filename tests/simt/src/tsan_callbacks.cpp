// SPDX-License-Identifier: Apache-2.0
//
// g++ -fsanitize=thread turns every load and store into a call. libtsan is not linked: the calls
// come here. Host code of the same sources is instrumented too; check_access ignores it.
#include "race_detector.h"

#define SIMT_CALLER (Location{nullptr, 0, __builtin_return_address(0)})

using simt::Access;
using simt::check_access;
using simt::Location;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define SIMT_ACCESS(name, size, access) \
  void __tsan_##name(void* address) { check_access(address, size, access, SIMT_CALLER); }

// The compiler chose these because the type promises the alignment.
#define SIMT_ALIGNED_ACCESS(name, size, access)        \
  void __tsan_##name(void* address) {                  \
    simt::check_alignment(address, size, SIMT_CALLER); \
    check_access(address, size, access, SIMT_CALLER);  \
  }

#define SIMT_ACCESSES(size)                                \
  SIMT_ALIGNED_ACCESS(read##size, size, Access::kRead)     \
  SIMT_ALIGNED_ACCESS(write##size, size, Access::kWrite)   \
  SIMT_ACCESS(unaligned_read##size, size, Access::kRead)   \
  SIMT_ACCESS(unaligned_write##size, size, Access::kWrite) \
  SIMT_ACCESS(volatile_read##size, size, Access::kRead)    \
  SIMT_ACCESS(volatile_write##size, size, Access::kWrite)

SIMT_ACCESSES(1)
SIMT_ACCESSES(2)
SIMT_ACCESSES(4)
SIMT_ACCESSES(8)
SIMT_ACCESSES(16)

void __tsan_read_range(void* address, size_t size) {
  check_access(address, size, Access::kRead, SIMT_CALLER);
}

void __tsan_write_range(void* address, size_t size) {
  check_access(address, size, Access::kWrite, SIMT_CALLER);
}

// Host code only: kernels use the CUDA atomics. The memory order is at least as strong as asked
// for.
#define SIMT_ATOMICS(bits, type)                                                                   \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                                   \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile type* p, type v, int) {                                \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  type __tsan_atomic##bits##_exchange(volatile type* p, type v, int) {                             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(volatile type* p, type v, int) {                            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(volatile type* p, type v, int) {                            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_and(volatile type* p, type v, int) {                            \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_or(volatile type* p, type v, int) {                             \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_xor(volatile type* p, type v, int) {                            \
    return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* expected, type v, int, \
                                                    int) {                                         \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* expected, type v, int,   \
                                                  int) {                                           \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  type __tsan_atomic##bits##_compare_exchange_val(volatile type* p, type expected, type v, int,    \
                                                  int) {                                           \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
    return expected;                                                                               \
  }

SIMT_ATOMICS(8, unsigned char)
SIMT_ATOMICS(16, unsigned short)
SIMT_ATOMICS(32, unsigned int)
SIMT_ATOMICS(64, unsigned long)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

}  // extern "C"
