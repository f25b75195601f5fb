// SPDX-License-Identifier: Apache-2.0
// Versions, and what this thread's last call left.
#include "base/status.h"

extern "C" {

uint32_t exn_abi_version(void) { return EXN_ABI_VERSION; }

const char* exn_version(void) { return EXN_VERSION_STRING; }

const char* exn_status_name(exn_status status) {
  switch (status) {
    case EXN_OK:
      return "EXN_OK";
    case EXN_INVALID_ARGUMENT:
      return "EXN_INVALID_ARGUMENT";
    case EXN_UNSUPPORTED:
      return "EXN_UNSUPPORTED";
    case EXN_OUT_OF_MEMORY:
      return "EXN_OUT_OF_MEMORY";
    case EXN_BACKEND_UNAVAILABLE:
      return "EXN_BACKEND_UNAVAILABLE";
    case EXN_RUNTIME_FAILURE:
      return "EXN_RUNTIME_FAILURE";
    case EXN_DEVICE_LOST:
      return "EXN_DEVICE_LOST";
    default:
      return "unknown status";
  }
}

const char* exn_last_error(void) { return exn::last_error(); }

const char* exn_last_path(void) { return exn::last_path(); }

}  // extern "C"
