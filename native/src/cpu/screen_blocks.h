// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/args.h"

namespace exn::cpu {

// Quantises 32 values, of which `worth` weighs the squares of errors, as one block of a format
// (Q8_0, Q5_0, Q4_0) at `to`; stands: what the block stands for.
void put_block(Blocks format, const float* v, const float* worth, uint8_t* to, double* stands);

}  // namespace exn::cpu
