// SPDX-License-Identifier: Apache-2.0
#include "status.h"

#include <cstdarg>
#include <cstdio>

namespace exn {
namespace {

constexpr size_t kText = 1024;
thread_local char last_error[kText];
thread_local char query_text[kText];
thread_local const char* last_path = "";

}  // namespace

exn_status fail(exn_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(last_error, kText, format, args);
  va_end(args);
  return status;
}

exn_status fail_text(exn_status status, const char* sentence) {
  return fail(status, "%s", sentence);
}

void ran(const char* path) { last_path = path; }

const char* thread_text(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(query_text, kText, format, args);
  va_end(args);
  return query_text;
}

}  // namespace exn

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

const char* exn_last_error(void) { return exn::last_error; }

const char* exn_last_path(void) { return exn::last_path; }

}  // extern "C"
