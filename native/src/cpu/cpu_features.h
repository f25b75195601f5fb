// SPDX-License-Identifier: Apache-2.0
// What this processor and this operating system can run.
#pragma once

#include <cstdint>

namespace exn::cpu {

struct Processor {
  // Maker, family, model and stepping, "AuthenticAMD/25/17/1" say; empty if unknown.
  char name[48] = "";
  // Bytes of a core's first and second cache for data, and of the last one; 0 if unknown.
  int64_t l1 = 0, l2 = 0, l3 = 0;
};

const Processor& processor();

#if defined(__x86_64__)
// AVX2, FMA, F16C, BMI1, BMI2, and YMM state saved by the system.
bool has_avx2();
// AVX-512 F, BW, DQ, VL, VBMI, VBMI2 and VNNI, GFNI, and ZMM and mask state saved by the system.
bool has_vnni();
// BF16 as well.
bool has_avx512();
// AMX as well.
bool has_amx();
#endif

}  // namespace exn::cpu
