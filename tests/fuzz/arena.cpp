// SPDX-License-Identifier: Apache-2.0
#include "arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace exn::fuzz {
namespace {

// Wide enough that an index that goes wrong by a row, not only by an element, ends in it.
constexpr size_t kGuard = size_t{256} << 10;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(2);
}

char* reserve(size_t bytes) {
  void* region =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) die("fuzz: cannot reserve addresses");
  return static_cast<char*>(region);
}

char* map(char* at, size_t bytes, int protection, int file, size_t offset) {
  void* mapped =
      mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED, file, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) die("fuzz: cannot map memory");
  return static_cast<char*>(mapped);
}

}  // namespace

Arena::Arena() {
  size_t total = 0;
  for (const Size& size : kSizes) total += size.bytes * static_cast<size_t>(size.count);
  const int file = memfd_create("exeunt_fuzz", 0);
  if (file < 0 || ftruncate(file, static_cast<off_t>(total)) != 0) die("fuzz: no shared memory");
  size_t offset = 0;
  for (Class& made : classes_) {
    const Size& size = kSizes[&made - classes_];
    made.count = size.count;
    made.used = 0;
    made.stride = kGuard + size.bytes;
    for (char*& view : made.views)
      view = reserve(made.stride * static_cast<size_t>(size.count) + kGuard);
    for (int i = 0; i < size.count; ++i, offset += size.bytes) {
      const size_t at = made.stride * static_cast<size_t>(i) + kGuard;
      Slot& slot = made.slots[i];
      slot.bytes = size.bytes;
      slot.begin = map(made.views[0] + at, size.bytes, PROT_READ | PROT_WRITE, file, offset);
      slot.read_only = map(made.views[1] + at, size.bytes, PROT_READ, file, offset);
      slot.before = static_cast<char*>(std::malloc(size.bytes));
      if (slot.before == nullptr) die("fuzz: no memory");
    }
  }
  close(file);
}

void Arena::reset() {
  for (Class& c : classes_) c.used = 0;
}

Slot* Arena::take(size_t bytes) {
  for (Class& c : classes_) {
    if (bytes <= c.slots[0].bytes && c.used < c.count) return &c.slots[c.used++];
  }
  return nullptr;
}

const Slot* Arena::around(uintptr_t address, int64_t* offset, bool* writable) const {
  for (const Class& c : classes_) {
    for (const char* view : c.views) {
      const uintptr_t base = reinterpret_cast<uintptr_t>(view);
      const size_t span = c.stride * static_cast<size_t>(c.count) + kGuard;
      if (address < base || address - base >= span) continue;
      // A guard belongs to the slot before it, but for its last page and the one before them all.
      constexpr size_t kFront = 4096;
      const size_t from_first = address - base + kFront;
      if (from_first < kGuard) return nullptr;
      const size_t index = (from_first - kGuard) / c.stride;
      if (index >= static_cast<size_t>(c.used)) return nullptr;
      const Slot& slot = c.slots[index];
      *writable = view == c.views[0];
      *offset = static_cast<int64_t>(address - reinterpret_cast<uintptr_t>(slot.view(*writable)));
      return &slot;
    }
  }
  return nullptr;
}

}  // namespace exn::fuzz
