// SPDX-License-Identifier: Apache-2.0
//
// CUDA runtime calls about the device, errors and kernels, and the launch itself.
#include <pthread.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "device_memory.h"
#include "runtime_state.h"
#include "scheduler.h"

namespace simt {
namespace {

constexpr int kMaxThreadsPerBlock = 1024;
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kBlocksPerMultiprocessor = 32;
constexpr int kRegistersPerMultiprocessor = 65536;
constexpr size_t kSharedPerBlock = 48 << 10;
constexpr size_t kSharedPerBlockOptIn = 227 << 10;
constexpr size_t kSharedPerMultiprocessor = 228 << 10;
constexpr int kRuntimeVersion = CUDART_VERSION;

// A kernel's failure is pending until a call looks at the context, as on a device that runs behind
// the host: cudaGetLastError right after the launch does not see it.
cudaError_t pending_error = cudaSuccess;
cudaError_t sticky_error = cudaSuccess;

std::map<const void*, size_t>& dynamic_shared_limits() {
  static std::map<const void*, size_t> instance;
  return instance;
}

size_t dynamic_shared_limit(const void* kernel) {
  const auto& limits = dynamic_shared_limits();
  const auto found = limits.find(kernel);
  return found == limits.end() ? kSharedPerBlock : found->second;
}

cudaError_t check_shape(const void* kernel, const LaunchShape& shape) {
  const dim3 grid = shape.grid;
  const dim3 block = shape.block;
  const bool grid_fits = grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 &&
                         grid.z >= 1 && grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= 1024 &&
                          block.y <= 1024 && block.z <= 64 &&
                          size_t{block.x} * block.y * block.z <= kMaxThreadsPerBlock;
  if (!grid_fits || !block_fits) return cudaErrorInvalidConfiguration;
  return shape.dynamic_shared <= dynamic_shared_limit(kernel) ? cudaSuccess : cudaErrorInvalidValue;
}

void run_elsewhere(const void* kernel, const LaunchShape& shape, const Invocation& invocation) {
  const std::vector<unsigned char> arguments = invocation.packed();
  const simt_launch launch = {kernel,
                              {shape.grid.x, shape.grid.y, shape.grid.z},
                              {shape.block.x, shape.block.y, shape.block.z},
                              shape.dynamic_shared,
                              arguments.data(),
                              arguments.size()};
  other_device().launch(other_device().context, &launch);
}

void run_and_note_failure(const char* name, const void* kernel, const LaunchShape& shape,
                          const Invocation& invocation) {
  if (other_device().launch != nullptr) {
    run_elsewhere(kernel, shape, invocation);
    return;
  }
  if (config().fail_launch != 0) {
    pending_error = static_cast<cudaError_t>(config().fail_launch);
    config().fail_launch = 0;
  }
  if (pending_error != cudaSuccess) return;  // what follows it in a graph does not run
  const DeviceMemoryAccess access;
  if (!run_launch(name, shape, invocation)) pending_error = cudaErrorLaunchFailure;
}

// What the launch itself returns.
cudaError_t check_launch(const void* kernel, const LaunchShape& shape) {
  if (config().refuse_launch != 0) {
    const auto refusal = static_cast<cudaError_t>(config().refuse_launch);
    config().refuse_launch = 0;
    return refusal;
  }
  return check_shape(kernel, shape);
}

cudaDeviceProp properties() {
  cudaDeviceProp p;
  std::memset(&p, 0, sizeof p);
  std::snprintf(p.name, sizeof p.name, "SIMT emulator");
  p.totalGlobalMem = config().device_memory;
  p.sharedMemPerBlock = kSharedPerBlock;
  p.sharedMemPerBlockOptin = kSharedPerBlockOptIn;
  p.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  p.reservedSharedMemPerBlock = 1024;
  p.regsPerBlock = kRegistersPerMultiprocessor;
  p.regsPerMultiprocessor = kRegistersPerMultiprocessor;
  p.warpSize = 32;
  p.maxThreadsPerBlock = kMaxThreadsPerBlock;
  p.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  p.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
  p.maxThreadsDim[0] = 1024;
  p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = 65535;
  p.maxGridSize[2] = 65535;
  p.totalConstMem = 65536;
  p.major = 9;
  p.minor = 0;
  p.textureAlignment = 512;
  p.multiProcessorCount = config().multiprocessors;
  p.concurrentKernels = 1;
  p.unifiedAddressing = 1;
  p.memoryBusWidth = 5120;
  p.l2CacheSize = static_cast<int>(config().l2_bytes);
  p.asyncEngineCount = 1;
  return p;
}

}  // namespace

simt_device& other_device() {
  static simt_device instance = {};
  return instance;
}

HostThread& this_host_thread() {
  static const pthread_key_t key = [] {
    pthread_key_t created;
    pthread_key_create(&created, [](void* thread) { delete static_cast<HostThread*>(thread); });
    return created;
  }();
  auto* thread = static_cast<HostThread*>(pthread_getspecific(key));
  if (thread == nullptr) {
    thread = new HostThread;
    pthread_setspecific(key, thread);
  }
  return *thread;
}

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess) this_host_thread().last_error = error;
  return error;
}

cudaError_t context_error() {
  if (sticky_error == cudaSuccess) sticky_error = pending_error;
  return sticky_error;
}

void clear_errors() {
  pending_error = sticky_error = cudaSuccess;
  this_host_thread().last_error = cudaSuccess;
}

void submit_launch(const char* name, const void* kernel, const LaunchShape& shape,
                   cudaStream_t stream, std::shared_ptr<const Invocation> invocation) {
  const std::lock_guard<std::mutex> lock(runtime_mutex());
  if (fail(check_launch(kernel, shape)) != cudaSuccess) return;
  fail(submit(stream, [=] { run_and_note_failure(name, kernel, shape, *invocation); }));
}

}  // namespace simt

using simt::fail;
using Lock = std::lock_guard<std::mutex>;

cudaError_t cudaPeekAtLastError() {
  const Lock lock(simt::runtime_mutex());
  return simt::sticky_error != cudaSuccess ? simt::sticky_error
                                           : simt::this_host_thread().last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  const Lock lock(simt::runtime_mutex());
  simt::this_host_thread().last_error = cudaSuccess;
  return error;
}

namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

#define SIMT_ERROR(name, text) {name, #name, text}
constexpr ErrorText kErrors[] = {
    SIMT_ERROR(cudaSuccess, "no error"),
    SIMT_ERROR(cudaErrorInvalidValue, "invalid argument"),
    SIMT_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    SIMT_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    SIMT_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    SIMT_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    SIMT_ERROR(cudaErrorNotReady, "device not ready"),
    SIMT_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    SIMT_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    SIMT_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    SIMT_ERROR(cudaErrorStreamCaptureUnsupported,
               "operation not permitted when stream is capturing"),
    SIMT_ERROR(cudaErrorStreamCaptureInvalidated,
               "operation failed due to a previous error during capture"),
    SIMT_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    SIMT_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    SIMT_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not initiated in this stream"),
    SIMT_ERROR(cudaErrorStreamCaptureMerge, "captures of two streams would become one"),
    SIMT_ERROR(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
    SIMT_ERROR(cudaErrorStreamCaptureWrongThread,
               "attempt to terminate a thread-local capture sequence from another thread"),
    SIMT_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    SIMT_ERROR(cudaErrorNotSupported, "operation not supported"),
};
#undef SIMT_ERROR

const ErrorText* find_error(cudaError_t error) {
  for (const ErrorText& entry : kErrors) {
    if (entry.error == error) return &entry;
  }
  return nullptr;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* entry = find_error(error);
  return entry != nullptr ? entry->name : "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* entry = find_error(error);
  return entry != nullptr ? entry->text : "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const Lock lock(simt::runtime_mutex());
  if (device != 0) return fail(cudaErrorInvalidDevice);
  simt::this_host_thread().context = nullptr;  // the device's primary context becomes current
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* result, int device) {
  const Lock lock(simt::runtime_mutex());
  if (device != 0) return fail(cudaErrorInvalidDevice);
  *result = simt::properties();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Lock lock(simt::runtime_mutex());
  if (device != 0) return fail(cudaErrorInvalidDevice);
  const cudaDeviceProp p = simt::properties();
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = p.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = p.maxGridSize[0];
      break;
    case cudaDevAttrMaxGridDimY:
      *value = p.maxGridSize[1];
      break;
    case cudaDevAttrMaxGridDimZ:
      *value = p.maxGridSize[2];
      break;
    case cudaDevAttrUnifiedAddressing:
      *value = p.unifiedAddressing;
      break;
    default:
      return fail(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = simt::kRuntimeVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = simt::kRuntimeVersion;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(simt::runtime_mutex());
  if (const cudaError_t error = simt::check_unsafe_call()) return fail(error);
  return fail(simt::context_error());
}

cudaError_t cudaDeviceReset() {
  const Lock lock(simt::runtime_mutex());
  simt::clear_errors();
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Lock lock(simt::runtime_mutex());
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > simt::kSharedPerBlockOptIn) {
    return fail(cudaErrorInvalidValue);
  }
  simt::dynamic_shared_limits()[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Lock lock(simt::runtime_mutex());
  std::memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = simt::kMaxThreadsPerBlock;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(simt::dynamic_shared_limit(kernel));
  attributes->numRegs = 32;
  attributes->ptxVersion = 90;
  attributes->binaryVersion = 90;
  return cudaSuccess;
}

// Registers and static shared memory are unknown here; a thread is taken to have 128 of the former,
// which is what kernels count on that keep much in them.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                                   int block_size,
                                                                   size_t dynamic_shared,
                                                                   unsigned) {
  const Lock lock(simt::runtime_mutex());
  if (block_size < 1 || block_size > simt::kMaxThreadsPerBlock) return fail(cudaErrorInvalidValue);
  const simt_device& other = simt::other_device();
  if (other.blocks != nullptr) {
    *blocks = other.blocks(other.context, kernel, block_size, dynamic_shared);
    return cudaSuccess;
  }
  *blocks = simt::kThreadsPerMultiprocessor / ((block_size + 31) / 32 * 32);
  if (*blocks > simt::kBlocksPerMultiprocessor) *blocks = simt::kBlocksPerMultiprocessor;
  const int by_registers = simt::kRegistersPerMultiprocessor / (128 * block_size);
  if (*blocks > by_registers) *blocks = by_registers > 0 ? by_registers : 1;
  const auto by_shared = static_cast<int>(simt::kSharedPerMultiprocessor / (dynamic_shared + 1024));
  if (*blocks > by_shared) *blocks = by_shared;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int block_size, size_t dynamic_shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, kernel, block_size,
                                                                dynamic_shared, 0);
}
