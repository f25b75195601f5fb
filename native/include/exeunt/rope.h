/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotary position embedding (Su et al. 2021), in two ops.
 *
 * rope_table  fills, once per model, the cosines and sines of n/2 frequencies at positions
 *             0 .. T-1:
 *
 *     inv_freq_i = base^(-2i/n), i = 0 .. n/2 - 1
 *     EXN_ROPE_SCALING_NONE     angle = t * inv_freq_i
 *     EXN_ROPE_SCALING_LINEAR   angle = (t / factor) * inv_freq_i   (position interpolation)
 *     EXN_ROPE_SCALING_NTK      base is replaced by base * factor^(n / (n - 2))   (NTK-aware)
 *     table[t, i, 0] = cos angle, table[t, i, 1] = sin angle, computed in f64, rounded once to f32
 *
 *   No angle may exceed 2^31 (a base below 1 turns faster from pair to pair), and NTK's base is
 *   finite. A table of another making (Llama 3's scaling, YaRN) serves as well: every op reads the
 *   table. Bytes that must move: the table's.
 *
 * rope        rotates the first n elements of each head, two for each column of the table, and
 *             copies the rest:
 *
 *     EXN_ROPE_INTERLEAVED  pairs (x[2i], x[2i+1])      GGUF's Llama layout, GPT-J
 *     EXN_ROPE_HALF         pairs (x[i], x[i + n/2])    Hugging Face's layout, GPT-NeoX
 *     (a, b) -> (a cos - b sin, b cos + a sin) at the row's position
 *
 *   A position of -1 switches a row off: out is untouched. Others outside 0..T-1:
 *   EXN_INVALID_ARGUMENT on the CPU; on CUDA, where a run cannot read positions on the host, the
 *   rotated elements of that row are NaN. A row of more than 2^31 - 1 elements, H * dh:
 *   EXN_UNSUPPORTED on CUDA.
 *
 *   Bytes that must move: R * H * dh elements read and written, and n * 4 bytes of table per row.
 */
#ifndef EXEUNT_ROPE_H
#define EXEUNT_ROPE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_ROPE_INTERLEAVED = 0, EXN_ROPE_HALF = 1 };

enum { EXN_ROPE_SCALING_NONE = 0, EXN_ROPE_SCALING_LINEAR = 1, EXN_ROPE_SCALING_NTK = 2 };

typedef struct exn_rope_table_params {
  uint64_t struct_size;  /**< sizeof(exn_rope_table_params) */
  const DLTensor* table; /**< out, [T, n/2, 2], f32, compact; T may be 0, n >= 2 (NTK: n >= 4).
                              The table. */
  double base;           /**< > 0 and finite, e.g. 10000. The base of the frequencies. */
  double factor;         /**< >= 1 and finite; 1 with EXN_ROPE_SCALING_NONE. How many times longer
                              than in training the context is. */
  int32_t scaling;       /**< EXN_ROPE_SCALING_*. How the frequencies are scaled for a longer
                              context. */
  int32_t reserved;      /**< 0 */
} exn_rope_table_params;

typedef struct exn_rope_params {
  uint64_t struct_size;     /**< sizeof(exn_rope_params) */
  const DLTensor* input;    /**< in, [R,H,dh], f32 | f16 | bf16, heads compact, row stride free;
                                 R may be 0. The heads. */
  const DLTensor* position; /**< in, [R], i32, compact, entries in 0..T-1, in any order; -1: the
                                 row is off. What each row is turned by. */
  const DLTensor* table;    /**< in, [T, n/2, 2], f32, compact; n <= dh. The cosines and sines, as
                                 rope_table makes them. */
  const DLTensor* out;      /**< out, [R,H,dh], dtype of input, heads compact, row stride free;
                                 may be exactly `input`. The rotated heads. */
  int32_t style;            /**< EXN_ROPE_INTERLEAVED or EXN_ROPE_HALF. Which elements of a head are
                                 turned together. */
  int32_t reserved;         /**< 0 */
} exn_rope_params;

EXN_API exn_status exn_rope_table_supported(const exn_rope_table_params* params);
EXN_API exn_status exn_rope_table_workspace_size(const exn_rope_table_params* params,
                                                 size_t* bytes);
EXN_API exn_status exn_rope_table(const exn_rope_table_params* params, void* workspace,
                                  size_t workspace_bytes, exn_stream stream);

EXN_API exn_status exn_rope_supported(const exn_rope_params* params);
EXN_API exn_status exn_rope_workspace_size(const exn_rope_params* params, size_t* bytes);
EXN_API exn_status exn_rope(const exn_rope_params* params, void* workspace, size_t workspace_bytes,
                            exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
