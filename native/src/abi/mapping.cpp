// SPDX-License-Identifier: Apache-2.0
#include <exeunt/mapping.h>

#include <atomic>
#include <mutex>
#include <new>

#include "base/platform/platform.h"
#include "base/status.h"

namespace exn {
namespace {

// A handler may look at it at any time, so that it is never freed, only taken again.
struct Guard {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<uintptr_t> lost{0};  // the first address that was missing; 0: none
  Guard* next = nullptr;
};

std::atomic<Guard*> guards{nullptr};
std::mutex changing;
bool installed = false;

// All of it is atomic without locks, as a handler needs it.
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

uintptr_t page_size() { return platform::page_size(); }

// The first byte of an address's page.
uintptr_t page_of(uintptr_t address) { return address & ~(page_size() - 1); }

// The guard that an address belongs to. One that is just being taken for another mapping counts for
// neither: its beginning is looked at twice.
Guard* guard_of(uintptr_t address) {
  for (Guard* g = guards.load(); g != nullptr; g = g->next) {
    const uintptr_t begin = g->begin.load(), end = g->end.load();
    if (begin != 0 && address >= page_of(begin) &&
        address <= (page_of(end - 1) | (page_size() - 1)) && g->begin.load() == begin) {
      return g;
    }
  }
  return nullptr;
}

// Puts zeros where pages are missing: from there to the mapping's end, so that however many reads
// follow, a mapping has two parts at most.
bool mend(uintptr_t address) {
  Guard* const guard = guard_of(address);
  if (guard == nullptr) return false;
  const uintptr_t from = page_of(address), end = page_of(guard->end.load() - 1) + page_size();
  if (!platform::map_zeros(from, end - from)) return false;
  uintptr_t none = 0;
  guard->lost.compare_exchange_strong(none, address);
  return true;
}

Guard* guard_at(const void* begin) {
  const auto address = reinterpret_cast<uintptr_t>(begin);
  for (Guard* g = guards.load(); g != nullptr && address != 0; g = g->next) {
    if (g->begin.load() == address) return g;
  }
  return nullptr;
}

exn_status none(const char* function, const void* begin) {
  return fail(EXN_INVALID_ARGUMENT, "%s: no guarded mapping begins at begin, %p", function, begin);
}

exn_status guard(const void* begin, size_t bytes) {
  constexpr const char* kName = "exn_mapping_guard";
  const auto from = reinterpret_cast<uintptr_t>(begin);
  if (begin == nullptr) return fail(EXN_INVALID_ARGUMENT, "%s: begin is null", kName);
  if (bytes == 0 || bytes > PTRDIFF_MAX || from + bytes + page_size() < from) {
    return fail(EXN_INVALID_ARGUMENT, "%s: bytes is %zu, which no mapping at begin, %p, has", kName,
                bytes, begin);
  }
  const std::lock_guard<std::mutex> lock(changing);
  Guard* free = nullptr;
  for (Guard* g = guards.load(); g != nullptr; g = g->next) {
    const uintptr_t taken = g->begin.load();
    if (taken == 0) {
      free = g;
    } else if (page_of(from) <= page_of(g->end.load() - 1) &&
               page_of(taken) <= page_of(from + bytes - 1)) {
      return fail(EXN_INVALID_ARGUMENT,
                  "%s: of the pages of %zu bytes at begin, %p, some are guarded already, for %zu "
                  "bytes at %p",
                  kName, bytes, begin, static_cast<size_t>(g->end.load() - taken),
                  reinterpret_cast<void*>(taken));
    }
  }
  if (!installed) installed = platform::on_lost_page(mend);
  if (!installed) {
    return fail(EXN_RUNTIME_FAILURE, "%s: no handler of SIGBUS can be installed", kName);
  }
  const bool added = free == nullptr;
  if (added) free = new (std::nothrow) Guard;
  if (free == nullptr) {
    return fail(EXN_OUT_OF_MEMORY, "%s: there is no memory to remember it", kName);
  }
  free->end.store(from + bytes);
  free->lost.store(0);
  free->begin.store(from);
  if (added) {
    free->next = guards.load();
    guards.store(free);
  }
  return EXN_OK;
}

}  // namespace
}  // namespace exn

extern "C" {

exn_status exn_mapping_guard(const void* begin, size_t bytes) { return exn::guard(begin, bytes); }

exn_status exn_mapping_check(const void* begin) {
  const exn::Guard* const guard = exn::guard_at(begin);
  if (guard == nullptr) return exn::none("exn_mapping_check", begin);
  const uintptr_t lost = guard->lost.load(), first = guard->begin.load();
  if (lost == 0) return EXN_OK;
  return exn::fail(EXN_RUNTIME_FAILURE,
                   "exn_mapping_check: the file of the mapping at begin, %p, has no byte %zu of it "
                   "any more: it was cut while it was mapped, or cannot be read",
                   begin, static_cast<size_t>(lost < first ? 0 : lost - first));
}

exn_status exn_mapping_release(const void* begin) {
  const std::lock_guard<std::mutex> lock(exn::changing);
  exn::Guard* const guard = exn::guard_at(begin);
  if (guard == nullptr) return exn::none("exn_mapping_release", begin);
  guard->begin.store(0);
  return EXN_OK;
}

}  // extern "C"
