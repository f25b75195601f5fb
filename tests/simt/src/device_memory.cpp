// SPDX-License-Identifier: Apache-2.0
#include "device_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "config.h"
#include "report.h"
#include "runtime_state.h"
#include "sanitizer.h"
#include "scheduler.h"

namespace simt {
namespace {

constexpr size_t kReserved = size_t{64} << 30;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises
constexpr size_t kRedzone = 256;
constexpr unsigned char kRedzoneByte = 0xa5;

size_t footprint(size_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment + kRedzone;
}

// Compared against a row of them at once: every launch looks at every
// allocation, but in the asan mode.
[[maybe_unused]] bool is_intact(const char* begin, const char* end) {
  static const std::vector<unsigned char> expected(kAlignment + kRedzone, kRedzoneByte);
  return std::memcmp(begin, expected.data(), static_cast<size_t>(end - begin)) == 0;
}

// The whole pages among these bytes are zero and take no memory from here on.
void give_back(char* begin, size_t bytes) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes) / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// Addresses are handed out in ascending order and only reused after going round, so that a pointer
// into freed memory stays wrong for as long as possible.
class Arena {
 public:
  Arena() {
    void* memory = mmap(nullptr, kReserved, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      perror("simt: cannot reserve device memory");
      abort();
    }
    base_ = static_cast<char*>(memory);
    cursor_ = base_ + kRedzone;
    poison(base_, kRedzone);
    if (config().protect_device_memory) protect(true);
  }

  bool contains(const void* address) const {
    return static_cast<size_t>(static_cast<const char*>(address) - base_) < kReserved;
  }

  Allocation* allocate(size_t size) {
    if (size > config().device_memory || in_use_ > config().device_memory - size) return nullptr;
    char* begin = place(footprint(size));
    if (begin == nullptr) return nullptr;
    Allocation& allocation = allocations_[begin];
    allocation.begin = begin;
    allocation.size = size;
    in_use_ += size;
    unpoison(begin, footprint(size));
    if (other_device().launch == nullptr) std::memset(begin, poison_byte(), size);
    std::memset(begin + size, kRedzoneByte, footprint(size) - size);
    poison(begin + size, footprint(size) - size);
    return &allocation;
  }

  void release(Allocation* allocation) {
    char* begin = allocation->begin;
    const size_t bytes = footprint(allocation->size);
    in_use_ -= allocation->size;
    unpoison(begin, bytes);
    if (other_device().launch == nullptr) {
      std::memset(begin, 0xdd, bytes);
    } else {
      give_back(begin, bytes);
    }
    poison(begin, bytes);
    if (last_found_ == allocation) last_found_ = nullptr;
    allocations_.erase(begin);
  }

  Allocation* find(const void* address) {
    if (last_found_ != nullptr && last_found_->contains(address, 1)) return last_found_;
    auto after = allocations_.upper_bound(static_cast<char*>(const_cast<void*>(address)));
    if (after == allocations_.begin()) return nullptr;
    Allocation& candidate = std::prev(after)->second;
    const auto offset = static_cast<size_t>(static_cast<const char*>(address) - candidate.begin);
    if (offset >= footprint(candidate.size)) return nullptr;
    last_found_ = &candidate;
    return &candidate;
  }

  std::map<char*, Allocation>& all() { return allocations_; }
  size_t in_use() const { return in_use_; }

  void protect(bool on) { mprotect(base_, kReserved, on ? PROT_NONE : PROT_READ | PROT_WRITE); }

  int access_depth = 0;

 private:
  char* place(size_t bytes) {
    if (char* begin = place_between(cursor_, base_ + kReserved, bytes)) return begin;
    return place_between(base_ + kRedzone, cursor_, bytes);
  }

  char* place_between(char* from, char* to, size_t bytes) {
    char* candidate = from;
    for (auto it = allocations_.lower_bound(from); it != allocations_.end(); ++it) {
      if (it->first >= to || static_cast<size_t>(it->first - candidate) >= bytes) break;
      candidate = it->first + footprint(it->second.size);
    }
    if (candidate > to || static_cast<size_t>(to - candidate) < bytes) return nullptr;
    cursor_ = candidate + bytes;
    return candidate;
  }

  char* base_ = nullptr;
  char* cursor_ = nullptr;
  size_t in_use_ = 0;
  std::map<char*, Allocation> allocations_;
  Allocation* last_found_ = nullptr;
};

Arena& arena() {
  static Arena instance;
  return instance;
}

}  // namespace

DeviceMemoryAccess::DeviceMemoryAccess() {
  if (config().protect_device_memory && arena().access_depth++ == 0) arena().protect(false);
}

DeviceMemoryAccess::~DeviceMemoryAccess() {
  if (config().protect_device_memory && --arena().access_depth == 0) arena().protect(true);
}

void* device_allocate(size_t size) {
  const DeviceMemoryAccess access;
  Allocation* allocation = arena().allocate(size);
  return allocation == nullptr ? nullptr : allocation->begin;
}

bool device_free(void* pointer) {
  const DeviceMemoryAccess access;
  Allocation* allocation = find_allocation(pointer);
  if (allocation == nullptr || allocation->begin != pointer) return false;
  arena().release(allocation);
  return true;
}

bool is_device_address(const void* address) { return arena().contains(address); }

Allocation* find_allocation(const void* address) {
  return arena().contains(address) ? arena().find(address) : nullptr;
}

size_t live_allocations() { return arena().all().size(); }

size_t device_bytes_in_use() { return arena().in_use(); }

void check_redzones() {
#if !defined(SIMT_MODE_ASAN)  // there the sanitizer watches every access
  for (auto& entry : arena().all()) {
    Allocation& allocation = entry.second;
    char* end = allocation.begin + footprint(allocation.size);
    if (is_intact(allocation.begin + allocation.size, end)) continue;
    for (char* byte = allocation.begin + allocation.size; byte != end; ++byte) {
      if (static_cast<unsigned char>(*byte) == kRedzoneByte) continue;
      report("out-of-bounds write to global memory", Location{},
             std::to_string(byte - allocation.begin) + " bytes into an allocation of " +
                 std::to_string(allocation.size));
      std::memset(allocation.begin + allocation.size, kRedzoneByte,
                  static_cast<size_t>(end - allocation.begin) - allocation.size);
      break;
    }
  }
#endif
}

void drop_shadows() {
  for (auto& entry : arena().all()) entry.second.shadow.reset();
}

}  // namespace simt
