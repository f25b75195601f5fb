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

// A set whose code has tiles beside it is two sets: calls that may use them (Workspace::tiles) go
// through the second.
#if defined(EXN_EMULATE_AVX512)
#define EXN_TILES_NAME EXN_ISA_NAME
#elif defined(EXN_HAS_TILES)
#define EXN_TILES_NAME "amx"
#endif

// Text of exn_last_path() for an op of this instruction set, called with the workspace `ws`.
#if defined(EXN_HAS_TILES)
#define EXN_CPU_PATH(ws, op) \
  ((ws).tiles() ? "cpu/" EXN_TILES_NAME "/" op : "cpu/" EXN_ISA_NAME "/" op)
#else
#define EXN_CPU_PATH(ws, op) "cpu/" EXN_ISA_NAME "/" op
#endif
