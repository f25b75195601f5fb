// SPDX-License-Identifier: Apache-2.0
#include "static_shared.h"

#include <link.h>

namespace simt {
namespace {

// The loader creates a library's thread-local storage on first use; this is something to use.
__thread volatile char anchor;

struct Search {
  const unsigned char* inside;
  StaticShared found;
};

int visit_module(dl_phdr_info* info, size_t, void* opaque) {
  auto* search = static_cast<Search*>(opaque);
  const auto* begin = static_cast<const unsigned char*>(info->dlpi_tls_data);
  if (begin == nullptr) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_TLS) continue;
    if (search->inside < begin || search->inside >= begin + header.p_memsz) continue;
    search->found = {static_cast<unsigned char*>(info->dlpi_tls_data), header.p_memsz};
    return 1;
  }
  return 0;
}

}  // namespace

StaticShared find_static_shared() {
  anchor = 0;
  Search search{
      const_cast<const unsigned char*>(reinterpret_cast<volatile unsigned char*>(&anchor)), {}};
  dl_iterate_phdr(visit_module, &search);
  return search.found;
}

}  // namespace simt
