// SPDX-License-Identifier: Apache-2.0
#include "status.h"

#include <cstdarg>
#include <cstdio>

namespace exn {
namespace {

constexpr size_t kText = 1024;
thread_local char error_text[kText];
thread_local char query_text[kText];
thread_local const char* path_text = "";

}  // namespace

exn_status fail(exn_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(error_text, kText, format, args);
  va_end(args);
  return status;
}

exn_status fail_text(exn_status status, const char* sentence) {
  return fail(status, "%s", sentence);
}

const char* last_error() { return error_text; }

void ran(const char* path) { path_text = path; }

const char* last_path() { return path_text; }

const char* thread_text(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(query_text, kText, format, args);
  va_end(args);
  return query_text;
}

}  // namespace exn
