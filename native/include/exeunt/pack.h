/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: weights in the order in which this machine reads them fastest.
 *
 * Rows of blocks (blocks.h): sets that multiply bytes (vnni, avx512, amx) want 16 scales of a row
 * beside each other, and of each their group's four bytes in a lane: 512 elements at a time, 256 of
 * Q6_K. Found in place, blocks are brought into that order each time that they are read. A packed
 * row has it already: of every 512 elements first the scales, then the fifth bits, then the halves
 * of bytes, or bytes (without their sign: 128 is added) of Q8_0; of Q6_K the other way round. What
 * is left of a row remains as it was. A row has as many bytes as before, and the same numbers:
 * results have the same bits as in place. For other sets an image holds the blocks as they are.
 *
 * Rows of f32, f16 or bf16: every 32 of them, from the first on, make a panel, which holds column
 * after column the elements of its rows side by side, in the order of the rows; of bf16 in the order
 * 0, 16, 1, 17 and so on to 15, 31. The N % 32 rows that are left make a narrower panel, in the order
 * of the rows. So a vector of weights belongs to as many outputs, and nothing has to be added up
 * across it: that pays most for many rows of inputs. All sets read panels. Rows from a multiple of
 * 32 on are packed weights themselves. Results differ from those in place in the last bits: linear.h
 * says how they are summed.
 *
 * The image is one contiguous run of bytes, in memory as in a file: a header of 4096 bytes, then the
 * rows, one behind the other, or the panels. In memory it begins at a multiple of 64. Ops take the
 * rows like any weights of blocks: a u8 tensor [N, row_bytes] at `offset`, beside the tag that
 * exn_pack_check gives: that of the format, plus EXN_BLOCKS_PACKED where rows were rearranged; of
 * panels EXN_BLOCKS_PACKED_F32, _F16 or _BF16. linear takes all of them on the CPU, exit_head, ffn,
 * kv_propagate and gate those of blocks; embedding, screens and CUDA take none, nor do instruction
 * sets those that they cannot read: EXN_UNSUPPORTED. An image whose checksums hold, but whose numbers
 * were made up, makes wrong answers, no stray reads.
 *
 * These functions are no ops: they take CPU tensors and use the threads of the CPU backend. They may
 * be called from any thread.
 */
#ifndef EXEUNT_PACK_H
#define EXEUNT_PACK_H

#include <exeunt/blocks.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_pack_params {
  uint64_t struct_size;   /**< sizeof(exn_pack_params) */
  const DLTensor* weight; /**< in, [N, bytes of a row], u8, blocks (weight_blocks), or [N,D], f32 |
                               f16 | bf16; last stride 1, N >= 1, at least one block or element in a
                               row. Null for exn_pack_check */
  const DLTensor* image;  /**< u8, compact: out, [bytes] of exn_pack_size for exn_pack_build; in for
                               exn_pack_check; not looked at by exn_pack_size */
  int32_t weight_blocks;  /**< what blocks the rows of weight are made of: EXN_BLOCKS_Q*, or
                               EXN_BLOCKS_NONE; 0 for exn_pack_check */
  int32_t reserved;       /**< 0 */
} exn_pack_params;

/** What an image says about itself. */
typedef struct exn_pack_info {
  int64_t rows;      /**< N */
  int64_t columns;   /**< elements of a row */
  int64_t row_bytes; /**< bytes of a row */
  int64_t offset;    /**< of the first row */
  int64_t bytes;     /**< of the image */
  int32_t blocks;    /**< the tag that ops take beside the rows */
  int32_t reserved;  /**< 0 */
} exn_pack_info;

/** Bytes of the image: a function of the shape and format of weight. */
EXN_API exn_status exn_pack_size(const exn_pack_params* params, size_t* bytes);

/** Makes the image, for the instruction set in use. Everything is read and written once. */
EXN_API exn_status exn_pack_build(const exn_pack_params* params);

/**
 * EXN_OK if `image` is whole: magic, version, sizes, checksums; EXN_UNSUPPORTED if the instruction
 * set in use cannot read its rows. Everything is read once. *info, if it is not null, receives what
 * the image says; nothing is written otherwise.
 */
EXN_API exn_status exn_pack_check(const exn_pack_params* params, exn_pack_info* info);

#ifdef __cplusplus
}
#endif

#endif
