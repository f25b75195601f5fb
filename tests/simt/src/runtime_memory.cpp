// SPDX-License-Identifier: Apache-2.0
//
// CUDA runtime calls that allocate, copy and fill.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "device_memory.h"
#include "runtime_state.h"
#include "scheduler.h"

namespace {

using simt::fail;
using Lock = std::lock_guard<std::mutex>;

std::map<const char*, size_t>& pinned_allocations() {
  static std::map<const char*, size_t> instance;
  return instance;
}

bool is_pinned(const void* pointer) {
  auto after = pinned_allocations().upper_bound(static_cast<const char*>(pointer));
  if (after == pinned_allocations().begin()) return false;
  --after;
  return static_cast<const char*>(pointer) < after->first + after->second;
}

// A device pointer must lie in a live allocation with all its bytes; a host pointer must not be in
// the device's range.
bool is_legal_end(const void* pointer, size_t size, bool on_device) {
  if (!on_device) return !simt::is_device_address(pointer);
  const simt::Allocation* allocation = simt::find_allocation(pointer);
  return allocation != nullptr && allocation->contains(pointer, size);
}

bool is_legal_copy(const void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  if (size == 0) return true;
  const bool to_device = kind == cudaMemcpyDefault
                             ? simt::is_device_address(to)
                             : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDefault
                               ? simt::is_device_address(from)
                               : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return is_legal_end(to, size, to_device) && is_legal_end(from, size, from_device);
}

cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  if (!is_legal_copy(to, from, size, kind)) return cudaErrorInvalidValue;
  return simt::submit(stream, [=] {
    const simt::DeviceMemoryAccess access;
    std::memmove(to, from, size);
  });
}

cudaError_t copy_2d(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                    size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || height == 0) return cudaSuccess;
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  for (size_t row = 0; row < height; ++row) {
    const cudaError_t error =
        copy(static_cast<char*>(to) + row * to_pitch,
             static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t fill(void* to, int value, size_t size, cudaStream_t stream) {
  if (size != 0 && !is_legal_end(to, size, true)) return cudaErrorInvalidValue;
  return simt::submit(stream, [=] {
    const simt::DeviceMemoryAccess access;
    std::memset(to, value, size);
  });
}

cudaError_t allocate(void** pointer, size_t size) {
  *pointer = nullptr;
  if (const cudaError_t error = simt::check_unsafe_call()) return error;
  if (const cudaError_t error = simt::context_error()) return error;
  if (size == 0) return cudaSuccess;
  *pointer = simt::device_allocate(size);
  return *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t allocate_pinned(void** pointer, size_t size) {
  *pointer = nullptr;
  if (const cudaError_t error = simt::check_unsafe_call()) return error;
  if (size == 0) return cudaSuccess;
  if (size <= SIZE_MAX - 255) *pointer = std::aligned_alloc(256, (size + 255) / 256 * 256);
  if (*pointer == nullptr) return cudaErrorMemoryAllocation;
  pinned_allocations()[static_cast<const char*>(*pointer)] = size;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** pointer, size_t size) {
  const Lock lock(simt::runtime_mutex());
  return fail(allocate(pointer, size));
}

cudaError_t cudaFree(void* pointer) {
  const Lock lock(simt::runtime_mutex());
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = simt::check_unsafe_call()) return fail(error);
  if (!simt::device_free(pointer)) return fail(cudaErrorInvalidValue);
  return fail(simt::context_error());
}

cudaError_t cudaMallocHost(void** pointer, size_t size) {
  const Lock lock(simt::runtime_mutex());
  return fail(allocate_pinned(pointer, size));
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  return cudaMallocHost(pointer, size);
}

cudaError_t cudaFreeHost(void* pointer) {
  const Lock lock(simt::runtime_mutex());
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = simt::check_unsafe_call()) return fail(error);
  if (pinned_allocations().erase(static_cast<const char*>(pointer)) == 0) {
    return fail(cudaErrorInvalidValue);
  }
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(simt::runtime_mutex());
  *total = simt::config().device_memory;
  *free = *total - simt::device_bytes_in_use();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  return fail(copy(to, from, size, kind, stream));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  const Lock lock(simt::runtime_mutex());
  if (const cudaError_t error = simt::check_unsafe_call()) return fail(error);
  return fail(copy(to, from, size, kind, nullptr));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  return fail(copy_2d(to, to_pitch, from, from_pitch, width, height, kind, stream));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream) {
  const Lock lock(simt::runtime_mutex());
  return fail(fill(to, value, size, stream));
}

cudaError_t cudaMemset(void* to, int value, size_t size) {
  const Lock lock(simt::runtime_mutex());
  if (const cudaError_t error = simt::check_unsafe_call()) return fail(error);
  return fail(fill(to, value, size, nullptr));
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(simt::runtime_mutex());
  std::memset(attributes, 0, sizeof *attributes);
  attributes->device = 0;
  if (simt::find_allocation(pointer) != nullptr) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(pointer)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->devicePointer = const_cast<void*>(pointer);
    attributes->hostPointer = const_cast<void*>(pointer);
  } else {
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2;
  }
  return cudaSuccess;
}
