// SPDX-License-Identifier: Apache-2.0
//
// Global memory: one reserved range of addresses, carved into allocations with redzones.
#pragma once

#include <cstddef>
#include <memory>

#include "cache_model.h"
#include "shadow.h"

namespace simt {

struct Allocation {
  char* begin = nullptr;
  size_t size = 0;
  std::unique_ptr<Shadow> shadow;    // of the current launch; race builds only
  std::unique_ptr<SectorTags> tags;  // once traffic is followed; race builds only

  bool contains(const void* address, size_t bytes) const {
    const auto offset = static_cast<size_t>(static_cast<const char*>(address) - begin);
    return offset <= size && bytes <= size - offset;
  }
};

// Null when the device is full.
void* device_allocate(size_t size);
bool device_free(void* pointer);

// Whether the address belongs to the device's range, allocated or not.
bool is_device_address(const void* address);

// The live allocation that holds the address; null if there is none.
Allocation* find_allocation(const void* address);

size_t live_allocations();
size_t device_bytes_in_use();

// Reports every allocation whose redzone was overwritten.
void check_redzones();

void drop_shadows();

// While one exists, the host may touch device memory even under EXN_SIMT_PROTECT.
class DeviceMemoryAccess {
 public:
  DeviceMemoryAccess();
  ~DeviceMemoryAccess();
  DeviceMemoryAccess(const DeviceMemoryAccess&) = delete;
  DeviceMemoryAccess& operator=(const DeviceMemoryAccess&) = delete;
};

}  // namespace simt
