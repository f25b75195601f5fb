// SPDX-License-Identifier: Apache-2.0
// What the kernels that move entries by a list share outside their instruction sets.
#pragma once

#include <cstdint>

namespace exn::cpu {

// From this many bytes written by one call on, they are stored past the caches: a quarter of the
// last level, of which other data wants a share before anybody reads them.
int64_t stream_threshold();

}  // namespace exn::cpu
