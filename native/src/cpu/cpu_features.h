// SPDX-License-Identifier: Apache-2.0
// What this processor and this operating system can run.
#pragma once

namespace exn::cpu {

#if defined(__x86_64__)
// AVX2, FMA, F16C, BMI1, BMI2, and YMM state saved by the system.
bool has_avx2();
// AVX-512 F, BW, DQ, VL and BF16, and ZMM and mask state saved by the system.
bool has_avx512();
bool has_amx();
#endif

}  // namespace exn::cpu
