// SPDX-License-Identifier: Apache-2.0
// Only in shared libraries for Linux: what the C++ runtime linked into them asks of glibc and older
// versions lack. The rest is bound to older versions by cmake/lower_glibc.py.
#include <elf.h>
#include <link.h>

#include <cstdint>

extern "C" {

#if defined(__x86_64__)
// Gives a library a name for glibc 2.3.4, to which lower_glibc.py binds what changed since. Elsewhere
// the oldest version is 2.17.
__asm__(".symver exn_of_2_3_4, dlmopen@GLIBC_2.3.4");
void exn_of_2_3_4();
__attribute__((used, retain)) static void (*const of_2_3_4)() = exn_of_2_3_4;
#endif

// glibc 2.32. Locks are taken even where there is one thread.
extern char __libc_single_threaded;
char __libc_single_threaded = 0;

// glibc 2.35: where the unwinder finds the tables of the code at an address.
#if !defined(DLFO_EH_SEGMENT_TYPE)
struct dl_find_object {
  unsigned long long dlfo_flags;
  void* dlfo_map_start;
  void* dlfo_map_end;
  struct link_map* dlfo_link_map;
  void* dlfo_eh_frame;
  unsigned long long __dlfo_reserved[7];
};
#endif

int _dl_find_object(void* address, dl_find_object* found) noexcept {
  struct Search {
    uintptr_t address;
    dl_find_object* found;
  } search{reinterpret_cast<uintptr_t>(address), found};
  const auto look = [](dl_phdr_info* object, size_t, void* data) -> int {
    const auto& wanted = *static_cast<const Search*>(data);
    uintptr_t first = UINTPTR_MAX, end = 0, frame = 0;
    bool within = false;
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr) & segment = object->dlpi_phdr[i];
      const uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
      if (segment.p_type == PT_GNU_EH_FRAME) frame = begin;
      if (segment.p_type != PT_LOAD) continue;
      within |= wanted.address >= begin && wanted.address - begin < segment.p_memsz;
      first = begin < first ? begin : first;
      end = begin + segment.p_memsz > end ? begin + segment.p_memsz : end;
    }
    if (!within || frame == 0) return 0;
    *wanted.found = {};
    wanted.found->dlfo_map_start = reinterpret_cast<void*>(first);
    wanted.found->dlfo_map_end = reinterpret_cast<void*>(end);
    wanted.found->dlfo_eh_frame = reinterpret_cast<void*>(frame);
    return 1;
  };
  return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}

}  // extern "C"
