// SPDX-License-Identifier: Apache-2.0
// AMX: eight registers of 16 rows of 64 bytes, and their products, beside AVX-512.
//
//   EXN_TILE_ZERO(t)
//   EXN_TILE_LOAD(t, p, pitch), EXN_TILE_STORE(t, p, pitch)   rows `pitch` bytes apart in memory
//   EXN_TILE_DOT(c, a, b)   c[m][n] += sum over k of a[m][k] * b[k][n], a and b of bf16: a[m] holds
//                           32 elements, b[k] the elements 2k and 2k + 1 of each column n
//
// The sums of a dot are exactly: over the even k in ascending order, fused multiply-adds from 0 on;
// over the odd likewise; both added; and that to c. Subnormals count as zero. So a row and a column
// have the same bits whatever stands beside them.
//
// Registers are numbered by literals. GCC 12 has intrinsics, but they hide from it that memory is
// read. Only calls that may use tiles (Workspace::tiles) get here: the compiler is told of no flag,
// and the code around is that of AVX-512.
#pragma once

#define EXN_HAS_TILES 1

namespace exn::cpu::EXN_ISA {

// Rows, and bytes of a row, of the registers.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

}  // namespace exn::cpu::EXN_ISA

#if defined(EXN_EMULATE_AVX512)
#include <amx_emulation.h>
#else
namespace exn::cpu::EXN_ISA {

static EXN_SIMD void shape_tiles(const TileShapes& shapes) {
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}
// Registers in use make a context switch, and the frame of a signal, 8 KiB longer.
static EXN_SIMD void release_tiles() { __asm__ volatile("tilerelease" : : : "memory"); }

}  // namespace exn::cpu::EXN_ISA

#define EXN_TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define EXN_TILE_LOAD(t, p, pitch) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(p), "r"(pitch) : "memory")
#define EXN_TILE_STORE(t, p, pitch) \
  __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(p), "r"(pitch) : "memory")
#define EXN_TILE_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#endif

namespace exn::cpu::EXN_ISA {

// v[i] becomes lane i of all v.
static EXN_SIMD void transpose_lanes(f32v (&v)[kLanes]) {
  for (int i = 0; i < kLanes; i += 4) {  // within the quarters of four vectors
    const f32v a = _mm512_shuffle_ps(v[i], v[i + 1], 0x44);
    const f32v b = _mm512_shuffle_ps(v[i], v[i + 1], 0xee);
    const f32v c = _mm512_shuffle_ps(v[i + 2], v[i + 3], 0x44);
    const f32v d = _mm512_shuffle_ps(v[i + 2], v[i + 3], 0xee);
    v[i] = _mm512_shuffle_ps(a, c, 0x88);
    v[i + 1] = _mm512_shuffle_ps(a, c, 0xdd);
    v[i + 2] = _mm512_shuffle_ps(b, d, 0x88);
    v[i + 3] = _mm512_shuffle_ps(b, d, 0xdd);
  }
  for (int i = 0; i < 4; ++i) {  // then the quarters
    f32v quads[4] = {v[i], v[i + 4], v[i + 8], v[i + 12]};
    transpose_quads(quads);
    v[i] = quads[0];
    v[i + 4] = quads[2];
    v[i + 8] = quads[1];
    v[i + 12] = quads[3];
  }
}

// 32 elements of bf16, as vectors of their pairs.
static EXN_SIMD f32v join_pairs(__m256i low, __m256i high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_castsi256_ps(low)),
                            _mm256_castsi256_ps(high), 1);
}

}  // namespace exn::cpu::EXN_ISA
