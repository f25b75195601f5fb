// SPDX-License-Identifier: Apache-2.0
// What this processor and this operating system can run.
#pragma once

namespace exn::cpu {

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
