/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedding: rows of an embedding table, unpacked where it is quantised (blocks.h).
 *
 *   out[r,:] = scale * table[ids[r],:]   in f32, rounded to the dtype of out
 *
 * An element of a block is its exact value rounded to f32: the products of scales and quants are
 * exact there, and what is added or subtracted, m or dmin * t, rounds once. The product with scale
 * rounds to f32, then the result to the dtype of out, each to nearest even; scale 1 changes
 * nothing. So every instruction set and device gives the same numbers.
 *
 * Elements that are NaN or infinite stay so. A block whose d, m or dmin is NaN or infinite gives
 * what f32 arithmetic does: an infinite d is NaN where it meets a q, or s, of 0. Where table and out
 * have one dtype and scale is 1, elements are moved as they are, whatever they hold; else a NaN is
 * some NaN.
 *
 * An id outside 0..V-1: EXN_INVALID_ARGUMENT on the CPU with nothing written; on CUDA, where a run
 * cannot read ids on the host, such a row of out is NaN.
 *
 * Bytes that must move: a row of the table and one of out per id, and 4 for the id.
 */
#ifndef EXEUNT_EMBEDDING_H
#define EXEUNT_EMBEDDING_H

#include <exeunt/blocks.h>
#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_embedding_params {
  uint64_t struct_size;  /**< sizeof(exn_embedding_params) */
  const DLTensor* table; /**< in, [V,D], f32 | f16 | bf16, or blocks (u8, table_blocks), last
                              stride 1; V, D >= 1. The table. */
  const DLTensor* ids;   /**< in, [R], i32, compact, entries 0 .. V - 1; R may be 0. Which rows. */
  const DLTensor* out;   /**< out, [R,D], f32 | f16 | bf16, last stride 1. The rows. */
  float scale;           /**< finite and not 0: sqrt(D) for Gemma, else 1. What they are
                              multiplied by. */
  int32_t table_blocks;  /**< EXN_BLOCKS_*. What blocks the rows of the table are made of. */
} exn_embedding_params;

EXN_API exn_status exn_embedding_supported(const exn_embedding_params* params);
EXN_API exn_status exn_embedding_workspace_size(const exn_embedding_params* params, size_t* bytes);
EXN_API exn_status exn_embedding(const exn_embedding_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
