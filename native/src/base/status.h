// SPDX-License-Identifier: Apache-2.0
// Thread-local error text and the trace of which kernel ran.
#pragma once

#include <exeunt/core.h>

namespace exn {

// Records a formatted sentence for exn_last_error() and returns `status`.
exn_status fail(exn_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// What fail() recorded last on this thread.
const char* last_error();

// fail() with finished text, as the Host of a backend offers it.
exn_status fail_text(exn_status status, const char* sentence);

// Records exn_last_path(). `path` must outlive the process's use of the backend.
void ran(const char* path);
const char* last_path();

// A per-thread buffer for text that a query hands out until the thread's next call.
const char* thread_text(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace exn
