// SPDX-License-Identifier: Apache-2.0
#include "static_shared.h"

#include <link.h>

#include <cstring>
#include <vector>

namespace simt {
namespace {

// The loader creates a library's thread-local storage on first use; this is something to use.
__thread volatile char anchor;

struct Search {
  const unsigned char* inside;
  StaticShared found;
  size_t module;
};

int visit_module(dl_phdr_info* info, size_t, void* opaque) {
  auto* search = static_cast<Search*>(opaque);
  const auto* begin = static_cast<const unsigned char*>(info->dlpi_tls_data);
  if (begin == nullptr) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) & header = info->dlpi_phdr[i];
    if (header.p_type != PT_TLS) continue;
    if (search->inside < begin || search->inside >= begin + header.p_memsz) continue;
    search->found = {static_cast<unsigned char*>(info->dlpi_tls_data), header.p_memsz};
    search->module = info->dlpi_tls_modid;
    return 1;
  }
  return 0;
}

// A thread's pointers to the storage of each library, as glibc lays them out. Code of a library
// that was opened at run time looks there whenever it needs the address of a variable, so that an
// image is put in place by one store. The code of a program knows its address without looking;
// there, images are copied.
struct StorageOfModule {
  void* begin;
  void* to_free;
};

StorageOfModule* storage_of_modules() {
  StorageOfModule* modules = nullptr;
  asm volatile("movq %%fs:8, %0" : "=r"(modules));
  return modules;
}

// Not inlined, so that the address is looked up.
__attribute__((noinline)) const volatile char* address_of_anchor() {
  asm volatile("" ::: "memory");
  return &anchor;
}

StaticShared of_host;
size_t module = 0;
bool is_looked_up = false;
std::vector<unsigned char> host_content;
std::vector<SharedImage> spare_images;

// Whether the variables move with the pointer. The layout is not documented, so it is tried.
bool try_lookup() {
#if defined(__GLIBC__)
  void** begin = &storage_of_modules()[module].begin;
  if (module == 0 || *begin != of_host.begin) return false;
  const volatile char* at = address_of_anchor();
  const SharedImage image = new_shared_image(0);
  *begin = image.get();
  const bool moves = address_of_anchor() - at == image.get() - of_host.begin;
  storage_of_modules()[module].begin = of_host.begin;
  return moves;
#else
  return false;
#endif
}

}  // namespace

StaticShared static_shared_in_place;

void enter_static_shared() {
  anchor = 0;
  Search search{
      const_cast<const unsigned char*>(reinterpret_cast<volatile unsigned char*>(&anchor)), {}, 0};
  dl_iterate_phdr(visit_module, &search);
  of_host = search.found;
  module = search.module;
  static_shared_in_place = of_host;
  is_looked_up = try_lookup();
  if (!is_looked_up) host_content.assign(of_host.begin, of_host.begin + of_host.size);
}

// The host's variables hold what they did before: a library may have thread-local variables of its
// own.
void leave_static_shared() {
  if (is_looked_up) {
    storage_of_modules()[module].begin = of_host.begin;
  } else {
    std::memcpy(of_host.begin, host_content.data(), of_host.size);
  }
}

SharedImage new_shared_image(unsigned char poison) {
  constexpr size_t kAlignment = 128;
  SharedImage image;
  if (spare_images.empty()) {
    const size_t bytes = (of_host.size + kAlignment) / kAlignment * kAlignment;
    image.reset(static_cast<unsigned char*>(std::aligned_alloc(kAlignment, bytes)));
  } else {
    image = std::move(spare_images.back());
    spare_images.pop_back();
  }
  std::memset(image.get(), poison, of_host.size);
  return image;
}

void reuse_shared_image(SharedImage image) { spare_images.push_back(std::move(image)); }

void place_static_shared(unsigned char* image, unsigned char* before) {
  if (is_looked_up) {
    storage_of_modules()[module].begin = image;
    static_shared_in_place.begin = image;
    return;
  }
  if (before != nullptr) std::memcpy(before, of_host.begin, of_host.size);
  std::memcpy(of_host.begin, image, of_host.size);
}

}  // namespace simt
