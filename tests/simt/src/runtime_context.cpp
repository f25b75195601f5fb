// SPDX-License-Identifier: Apache-2.0
//
// Contexts, by the driver's own names, for programs that look them up: which of them is current in
// a thread, and that work for a stream comes from the context it was made in. Memory is everybody's.
#include <mutex>
#include <set>

#include "runtime_state.h"
#include "scheduler.h"

namespace {

using Lock = std::lock_guard<std::mutex>;

enum Result { kSuccess = 0, kInvalidValue = 1, kInvalidDevice = 101, kInvalidContext = 201 };

std::set<const void*>& contexts() {
  static std::set<const void*> instance;
  return instance;
}

}  // namespace

extern "C" {

// Makes the new one current, as the driver does.
int cuCtxCreate_v2(void** context, unsigned, int device) {
  const Lock lock(simt::runtime_mutex());
  if (context == nullptr) return kInvalidValue;
  if (device != 0) return kInvalidDevice;
  *context = new char;
  contexts().insert(*context);
  simt::this_host_thread().context = *context;
  return kSuccess;
}

int cuCtxDestroy_v2(void* context) {
  const Lock lock(simt::runtime_mutex());
  if (contexts().erase(context) == 0) return kInvalidContext;
  if (simt::this_host_thread().context == context) simt::this_host_thread().context = nullptr;
  delete static_cast<char*>(context);
  return kSuccess;
}

int cuCtxSetCurrent(void* context) {
  const Lock lock(simt::runtime_mutex());
  if (context != nullptr && contexts().count(context) == 0) return kInvalidContext;
  simt::this_host_thread().context = context;
  return kSuccess;
}

int cuCtxGetCurrent(const void** context) {
  const Lock lock(simt::runtime_mutex());
  *context = simt::this_host_thread().context;
  return kSuccess;
}

}  // extern "C"
