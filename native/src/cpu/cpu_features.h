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

// What pays on the cores of this processor's maker. What is not x86 takes Intel's way, untimed.
//
// Whether VDPBF16PS multiplies faster than widening to f32 does. AMD's processors begin one of 512
// bits a cycle; Intel's begin one in two cycles, in the time of four multiplications of f32.
bool bf16_dot_pays();
// Whether memory answers a core faster that asks for lines of two arrays in turn than one that asks
// for one array after the other: measured on Intel's Granite Rapids, where attention takes five
// sixths of the time, and assumed of Intel's others.
bool alternation_pays();
// Whether it pays to ask, line by line, for what a stream of loads will read: measured on Intel's
// Granite Rapids, where one row of bf16 weights after another comes 38 % slower without, and
// assumed of Intel's others. Zen 4 reads ahead by itself, and the requests cost it up to 40 %.
bool line_requests_pay();
// Whether a copy with AVX-512 past the caches had better ask for lines into L2 than L1: measured
// on Intel's Granite Rapids, and assumed of Intel's others.
bool copies_by_l2();
// Whether lines that lie apart had better be asked for into L2 several times: measured on AMD's
// Zen 4, which loses requests where many are under way (moves.h), and assumed of AMD's others.
bool asking_again_pays();

}  // namespace exn::cpu
