// SPDX-License-Identifier: Apache-2.0
//
// The backend's table: devices, memory, streams, errors; the ops are in their own files.
#include "backend.h"

#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/ops.h"
#include "capture.h"
#include "device.h"

namespace exn::cuda {

// The ops, one per source file.
#define EXN_DECLARE(op, Args) \
  exn_status op(const Args& args, Workspace& workspace, exn_stream stream);
EXN_FOR_EACH_OP(EXN_DECLARE)
#undef EXN_DECLARE

#define EXN_NAME(op, Args) op,
enum class OpIndex : int { EXN_FOR_EACH_OP(EXN_NAME) };
#undef EXN_NAME
#define EXN_INDEX(op, Args)  \
  template <>                \
  OpIndex op_index<Args>() { \
    return OpIndex::op;      \
  }
EXN_FOR_EACH_OP(EXN_INDEX)
#undef EXN_INDEX

namespace {

constexpr int kMostDevices = 64;
#define EXN_TEXT(op, Args) #op,
constexpr const char* kOpNames[] = {EXN_FOR_EACH_OP(EXN_TEXT)};
#undef EXN_TEXT
constexpr int kOps = sizeof(kOpNames) / sizeof(kOpNames[0]);

const Host* host = nullptr;
int32_t known_devices = 0;  // counted when the backend opens: one that is lost later stays

// What is asked of a device once. The path texts live as long as the library, as the host expects.
struct Device {
  std::once_flag once;
  int sm_count;
  int l2_bytes;
  char paths[kOps][48];
};
Device devices[kMostDevices];

}  // namespace

exn_status fail(exn_status status, const char* sentence) { return host->fail(status, sentence); }

namespace {

// Errors after which the context can do nothing more.
bool is_sticky(cudaError_t error) {
  switch (static_cast<int>(error)) {
    case 214:  // uncorrectable ECC error
    case 220:  // NVLink failure
    case 700:  // illegal address
    case 702:  // launch timed out
    case 709:  // context is destroyed
    case 710:  // device-side assert
    case 714:  // hardware stack error
    case 715:  // illegal instruction
    case 716:  // misaligned address
    case 717:  // invalid address space
    case 718:  // invalid program counter
    case 719:  // unspecified launch failure
    case 721:  // exception in a cluster of blocks
      return true;
    default:
      return false;
  }
}

// Errors that mean "no usable driver or device here", which is a state, not a failure.
bool is_absence(cudaError_t error) {
  switch (static_cast<int>(error)) {
    case 34:   // a stub library in place of the driver
    case 35:   // no driver, or one older than this runtime
    case 100:  // no device
    case 803:  // driver and kernel module do not match
    case 804:  // forward compatibility on unsupported hardware
    case 999:  // unknown: a driver in a container without devices says this
      return true;
    default:
      return false;
  }
}

void describe(int32_t device) {
  Device& d = devices[device];
  d.sm_count = 1;
  d.l2_bytes = 1 << 20;
  cudaDeviceGetAttribute(&d.sm_count, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&d.l2_bytes, cudaDevAttrL2CacheSize, device);
  char arch[24] = "emulated";
#if !defined(EXN_SIMT)
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  std::snprintf(arch, sizeof arch, "sm_%d%d", major, minor);
#endif
  for (int op = 0; op < kOps; ++op) {
    std::snprintf(d.paths[op], sizeof d.paths[op], "cuda/%s/%s", arch, kOpNames[op]);
  }
  cudaGetLastError();  // an attribute that a driver does not know has its default above
}

const Device& device_at(int32_t device) {
  std::call_once(devices[device].once, describe, device);
  return devices[device];
}

int32_t device_count() { return known_devices; }

exn_status allocate(int32_t device, size_t bytes, void** out) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const BesideCaptures allocating;
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    char text[96];
    std::snprintf(text, sizeof text, "CUDA device %d has not enough free memory for %zu bytes",
                  device, bytes);
    return fail(EXN_OUT_OF_MEMORY, text);
  }
  const exn_status status = check(error, "cudaMalloc");
  if (status == EXN_OK) *out = memory;
  return status;
}

exn_status release(int32_t device, void* pointer) {
  if (pointer == nullptr) return EXN_OK;
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const BesideCaptures freeing;
  return check(cudaFree(pointer), "cudaFree");
}

exn_status copy(int32_t device, void* dst, bool dst_on_device, const void* src, bool src_on_device,
                size_t bytes, exn_stream stream) {
  if (bytes == 0) return EXN_OK;
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  const cudaMemcpyKind kind =
      dst_on_device ? (src_on_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                    : (src_on_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  return check(cudaMemcpyAsync(dst, src, bytes, kind, stream_of(stream)), "cudaMemcpyAsync");
}

exn_status stream_create(int32_t device, exn_stream* out) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  cudaStream_t stream = nullptr;
  // Non-blocking: a kernel on somebody's legacy default stream must not serialise ours.
  const exn_status status =
      check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  if (status == EXN_OK) *out = stream;
  return status;
}

exn_status stream_destroy(int32_t device, exn_stream stream) {
  if (stream == nullptr) return EXN_OK;
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaStreamDestroy(stream_of(stream)), "cudaStreamDestroy");
}

exn_status stream_synchronize(int32_t device, exn_stream stream) {
  const DeviceGuard guard(device);
  if (guard.status() != EXN_OK) return guard.status();
  return check(cudaStreamSynchronize(stream_of(stream)), "cudaStreamSynchronize");
}

// Says why the backend cannot run, or returns EXN_OK.
exn_status find_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    check(error, "looking for CUDA devices");
    return EXN_BACKEND_UNAVAILABLE;
  }
  if (count == 0) return fail(EXN_BACKEND_UNAVAILABLE, "the CUDA driver reports no device");
  known_devices = count < kMostDevices ? count : kMostDevices;
  return EXN_OK;
}

}  // namespace

exn_status check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return EXN_OK;
  cudaGetLastError();  // consumed here: the next launch must not be blamed for it
  char sentence[320];
  std::snprintf(sentence, sizeof sentence, "%s: CUDA error %d %s (%s)", what,
                static_cast<int>(error), cudaGetErrorName(error), cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return fail(EXN_OUT_OF_MEMORY, sentence);
  if (is_absence(error)) return fail(EXN_BACKEND_UNAVAILABLE, sentence);
  return fail(is_sticky(error) ? EXN_DEVICE_LOST : EXN_RUNTIME_FAILURE, sentence);
}

exn_status check_rows(OpIndex op, const char* name, int64_t rows) {
  if (rows <= kMostBlocks) return EXN_OK;
  char sentence[200];
  std::snprintf(sentence, sizeof sentence,
                "exn_%s: %s has %lld rows, but the CUDA kernels take a block for each, and a "
                "launch has at most %lld",
                kOpNames[static_cast<int>(op)], name, static_cast<long long>(rows),
                static_cast<long long>(kMostBlocks));
  return fail(EXN_UNSUPPORTED, sentence);
}

DeviceGuard::DeviceGuard(int32_t device) : status_(EXN_OK) {
  if (device < 0 || device >= kMostDevices) {
    char text[80];
    std::snprintf(text, sizeof text, "CUDA device %d is not one of 0..%d", device,
                  device_count() - 1);
    status_ = fail(EXN_INVALID_ARGUMENT, text);
    return;
  }
  int current = -1;
  status_ = check(cudaGetDevice(&current), "cudaGetDevice");
  if (status_ != EXN_OK || current == device) return;
  status_ = check(cudaSetDevice(device), "cudaSetDevice");
  if (status_ == EXN_OK) previous_ = current;
}

DeviceGuard::~DeviceGuard() {
  if (previous_ >= 0 && cudaSetDevice(previous_) != cudaSuccess) cudaGetLastError();
}

int64_t sm_count(int32_t device) { return device_at(device).sm_count; }

int64_t l2_bytes(int32_t device) { return device_at(device).l2_bytes; }

void report_path(int32_t device, OpIndex op) {
  host->ran(device_at(device).paths[static_cast<int>(op)]);
}

}  // namespace exn::cuda

extern "C" EXN_API exn_status exn_cuda_backend_query(uint32_t abi, const exn::Host* host,
                                                     exn::Backend* table) {
  using namespace exn;
  cuda::host = host;
  if (abi != kBackendAbi) {
    char text[96];
    std::snprintf(text, sizeof text, "the CUDA backend speaks ABI %u, the library %u", kBackendAbi,
                  abi);
    return cuda::fail(EXN_BACKEND_UNAVAILABLE, text);
  }
  const exn_status status = cuda::find_devices();
  if (status != EXN_OK) return status;
#define EXN_ENTRY(op, Args) cuda::op,
  *table = Backend{kBackendAbi,
                   sizeof(Backend),
                   "cuda",
                   cuda::device_count,
                   cuda::allocate,
                   cuda::release,
                   cuda::copy,
                   cuda::stream_create,
                   cuda::stream_destroy,
                   cuda::stream_synchronize,
                   EXN_FOR_EACH_OP(EXN_ENTRY)  //
                       & cuda::kDeviceCalls};
#undef EXN_ENTRY
  return EXN_OK;
}
