// SPDX-License-Identifier: Apache-2.0
#include "moves.h"

#include <unistd.h>

namespace exn::cpu {
namespace {

int64_t last_level_cache() {
  long bytes = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (bytes <= 0) bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : int64_t{32} << 20;
}

}  // namespace

int64_t stream_threshold() {
  static const int64_t bytes = last_level_cache() / 4;
  return bytes;
}

}  // namespace exn::cpu
