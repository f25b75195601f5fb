// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of one instruction set. Every kernels/*.cpp is compiled once per instruction set
// into the namespace exn::cpu::EXN_ISA; table.cpp collects them.
#pragma once

#include "base/ops.h"

namespace exn::cpu {

struct Kernels {
  const char* isa;
#define EXN_ENTRY(op, Args) exn_status (*op)(const Args&, Workspace&);
  EXN_FOR_EACH_OP(EXN_ENTRY)
#undef EXN_ENTRY
  uint64_t (*read_probe)(const void* data, int64_t bytes, int32_t way);
  void (*copy_probe)(void* to, const void* from, int64_t bytes, int32_t way);
  uint64_t (*fma_probe)(uint64_t multiply_adds);
  bool packs;  // whether pack_rows rearranges them
  void (*pack_rows)(const Matrix& weight, char* to);
  bool tiles;  // whether its calls may multiply in tiles: `amx` is the code of `avx512`, and these
};

}  // namespace exn::cpu
