// SPDX-License-Identifier: Apache-2.0
// Measures on this processor, with the set and the threads in use, what tuning.h leaves open.
#pragma once

#include "choices.h"
#include "kernels.h"

namespace exn::cpu {

// Takes about so long, and makes the choices. False: there is no memory to read; nothing was
// changed.
bool calibrate(const Kernels& table, bool pairs, int32_t milliseconds, Findings* findings);

}  // namespace exn::cpu
