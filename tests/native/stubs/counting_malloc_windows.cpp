// SPDX-License-Identifier: Apache-2.0
// Counts what exeunt.dll allocates: what it imports of malloc and its kin leads here. operator new
// inside of it ends here too.
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <malloc.h>
#include <windows.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<uint64_t> allocations{0};

void* counted_malloc(size_t bytes) {
  ++allocations;
  return std::malloc(bytes);
}

void* counted_calloc(size_t count, size_t bytes) {
  ++allocations;
  return std::calloc(count, bytes);
}

void* counted_realloc(void* p, size_t bytes) {
  ++allocations;
  return std::realloc(p, bytes);
}

void* counted_aligned_malloc(size_t bytes, size_t align) {
  ++allocations;
  return _aligned_malloc(bytes, align);
}

struct Counted {
  const char* name;
  void* function;
};

const Counted kCounted[] = {
    {"malloc", reinterpret_cast<void*>(counted_malloc)},
    {"calloc", reinterpret_cast<void*>(counted_calloc)},
    {"realloc", reinterpret_cast<void*>(counted_realloc)},
    {"_aligned_malloc", reinterpret_cast<void*>(counted_aligned_malloc)},
};

template <class T>
T* at(HMODULE library, uint64_t offset) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(library) + offset);
}

void redirect(IMAGE_THUNK_DATA* slot, void* function) {
  DWORD before;
  VirtualProtect(slot, sizeof *slot, PAGE_READWRITE, &before);
  slot->u1.Function = reinterpret_cast<uintptr_t>(function);
  VirtualProtect(slot, sizeof *slot, before, &before);
}

// Goes through the imports of the library: of each DLL the names, and the addresses in use.
bool redirect_imports(HMODULE library) {
  const auto* const header = at<IMAGE_NT_HEADERS>(
      library, static_cast<uint64_t>(at<IMAGE_DOS_HEADER>(library, 0)->e_lfanew));
  const auto& imports = header->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
  for (const auto* dll = at<IMAGE_IMPORT_DESCRIPTOR>(library, imports.VirtualAddress);
       dll->Name != 0; ++dll) {
    const auto* name = at<IMAGE_THUNK_DATA>(library, dll->OriginalFirstThunk);
    auto* slot = at<IMAGE_THUNK_DATA>(library, dll->FirstThunk);
    for (; name->u1.AddressOfData != 0; ++name, ++slot) {
      if (IMAGE_SNAP_BY_ORDINAL(name->u1.Ordinal)) continue;
      const auto* const named = at<IMAGE_IMPORT_BY_NAME>(library, name->u1.AddressOfData);
      for (const Counted& counted : kCounted) {
        if (std::strcmp(named->Name, counted.name) == 0) redirect(slot, counted.function);
      }
    }
  }
  return true;
}

const bool kRedirected = redirect_imports(GetModuleHandleA("exeunt.dll"));

}  // namespace

extern "C" uint64_t exn_test_allocations() { return allocations; }
