/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights: rows of blocks, as GGUF files hold them, in the layouts that ggml defines.
 *
 * A matrix [N,D] of them is a u8 tensor [N, bytes of a row] beside a tag; D is a multiple of the
 * elements of a block. Blocks need no alignment, rows may have gaps between them. Numbers are
 * little-endian; d, m and dmin are f16, every other number is an integer. Element i of a block is
 *
 *   Q4_0   32 in 18 bytes   d (q - 8)     d; 16 bytes: byte j holds the q of j (low half), j + 16
 *   Q4_1   32 in 20 bytes   d q + m       d, m; q as in Q4_0
 *   Q5_0   32 in 22 bytes   d (q - 16)    d; 4 bytes whose bit i is bit 4 of q_i; the rest as Q4_0
 *   Q5_1   32 in 24 bytes   d q + m       d, m; q as in Q5_0
 *   Q8_0   32 in 34 bytes   d q           d; 32 signed bytes
 *   Q4_K  256 in 144 bytes  d s q - dmin t
 *            d, dmin; 12 bytes with s and t, six bits each, of 8 groups of 32; 128 bytes: of each
 *            32, low halves are the q of one group, high halves that of the next
 *   Q5_K  256 in 176 bytes  d s q - dmin t
 *            d, dmin, s and t as in Q4_K; 32 bytes, bit g of byte l is bit 4 of the q of element l
 *            of group g; 128 bytes as in Q4_K
 *   Q6_K  256 in 210 bytes  d s (q - 32)
 *            128 bytes: of each 64, byte l holds bits 0 to 3 of the q of l (low half) and l + 64 of
 *            these 128 elements; 64 bytes: of each 32, byte l holds bits 4 and 5 of the q of l,
 *            l + 32, l + 64 and l + 96; 16 signed bytes, the s of 16 elements each; d
 *
 * s and t of groups 0 to 3 are the lower six bits of bytes g and g + 4 of the twelve; of groups 4
 * to 7, bits 0 to 3 are the low and the high half of byte g + 4, bits 4 and 5 are bits 6 and 7 of
 * bytes g - 4 and g.
 */
#ifndef EXEUNT_BLOCKS_H
#define EXEUNT_BLOCKS_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a weight's rows are made of; the numbers are those of ggml and of GGUF files. */
enum {
  EXN_BLOCKS_NONE = 0, /**< elements of the tensor's dtype */
  EXN_BLOCKS_Q4_0 = 2,
  EXN_BLOCKS_Q4_1 = 3,
  EXN_BLOCKS_Q5_0 = 6,
  EXN_BLOCKS_Q5_1 = 7,
  EXN_BLOCKS_Q8_0 = 8,
  EXN_BLOCKS_Q4_K = 12,
  EXN_BLOCKS_Q5_K = 13,
  EXN_BLOCKS_Q6_K = 14,
  EXN_BLOCKS_PACKED =
      256, /**< added to one of these: rows that exn_pack_build (pack.h) rearranged */
  EXN_BLOCKS_PACKED_F32 = 256, /**< rows of f32 that it arranged in panels; for linear alone */
  EXN_BLOCKS_PACKED_F16 = 257, /**< the same of f16 */
  EXN_BLOCKS_PACKED_BF16 = 286 /**< the same of bf16 */
};

/**
 * How inputs are rounded to meet weights of blocks, each 32 elements of a row for themselves; what
 * that costs is in the header of the op. Inputs of other weights are not rounded.
 */
enum {
  /** To multiples of a power of two, with 15 bits. */
  EXN_INPUT_INT16 = 0,
  /**
   * To whole multiples of s = a / 127, from -127 to 127; a is the largest magnitude of the 32
   * elements, and at least 2^-88. That of x is x * (127 / a), the nearest one, or the even one of
   * two. All this is done in f32. On the CPU alone (EXN_UNSUPPORTED), and for blocks alone
   * (EXN_INVALID_ARGUMENT); where bytes are multiplied (vnni, avx512, amx), several rows take a
   * half to four fifths of the time.
   */
  EXN_INPUT_INT8 = 1
};

/**
 * Bytes of a row of `columns` elements as blocks, packed or not, or in panels. EXN_INVALID_ARGUMENT, and nothing
 * written: an unknown tag (EXN_BLOCKS_NONE too, which has no blocks), columns that are negative, too many, or
 * no multiple of a block's elements, `bytes` null. Thread-safe.
 */
EXN_API exn_status exn_blocks_row_bytes(int32_t blocks, int64_t columns, int64_t* bytes);

#ifdef __cplusplus
}
#endif

#endif
