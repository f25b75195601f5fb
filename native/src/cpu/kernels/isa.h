// SPDX-License-Identifier: Apache-2.0
// What every kernel source starts from: the vector type of this instruction set
// and the trace of what ran.
#pragma once

#include "../pool.h"
#include "../simd/simd.h"
#include "base/args.h"
#include "base/status.h"

#define EXN_TEXT_(x) #x
#define EXN_TEXT(x) EXN_TEXT_(x)
#define EXN_ISA_NAME EXN_TEXT(EXN_ISA)

// Text of exn_last_path() for an op of this instruction set.
#define EXN_CPU_PATH(op) "cpu/" EXN_ISA_NAME "/" op
