// SPDX-License-Identifier: Apache-2.0
// The thread that Linux and macOS share.
#pragma once

#include <pthread.h>

#include <cstddef>

namespace exn::platform {

struct PosixThread {
  pthread_t thread;
  void (*main)(void*);
  void* argument;

  // Calls main(argument) on `thread` from now on. False: there is none.
  bool begin(size_t stack);
};

}  // namespace exn::platform
