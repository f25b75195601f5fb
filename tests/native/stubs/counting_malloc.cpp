// SPDX-License-Identifier: Apache-2.0
// Counts what a process allocates: malloc and its kin with a counter in front, for programs that
// load this library before the C library. Where another one, as a sanitizer's, comes first, that
// one serves and nothing is counted. operator new ends here too, also the one inside libexeunt.so.
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace {
uint64_t allocations = 0;

void count() { __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED); }
}  // namespace

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

__attribute__((visibility("default"))) uint64_t exn_test_allocations() {
  return __atomic_load_n(&allocations, __ATOMIC_RELAXED);
}

__attribute__((visibility("default"))) void* malloc(size_t bytes) {
  count();
  return __libc_malloc(bytes);
}

__attribute__((visibility("default"))) void* calloc(size_t count_of, size_t bytes) {
  count();
  return __libc_calloc(count_of, bytes);
}

__attribute__((visibility("default"))) void* realloc(void* p, size_t bytes) {
  count();
  return __libc_realloc(p, bytes);
}

__attribute__((visibility("default"))) void* memalign(size_t align, size_t bytes) {
  count();
  return __libc_memalign(align, bytes);
}

__attribute__((visibility("default"))) void* aligned_alloc(size_t align, size_t bytes) {
  count();
  return __libc_memalign(align, bytes);
}

__attribute__((visibility("default"))) int posix_memalign(void** out, size_t align, size_t bytes) {
  count();
  void* p = __libc_memalign(align, bytes);
  if (p == nullptr) return ENOMEM;
  *out = p;
  return 0;
}

}  // extern "C"
