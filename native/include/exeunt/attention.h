/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention: grouped-query attention (Ainslie et al. 2023) of R query rows over a KV cache, for
 * decode and for prefill.
 *
 *   s[r,h,t] = scale * <query[r,h], K[h / G, t]>,  t in [0, visible[r]),  G = H / Hkv
 *   s = softcap * tanh(s / softcap) if softcap > 0
 *   out[r,h] = sum_t softmax_t(s[r,h]) V[h / G, t]
 *
 * Causality is the caller's, through `visible`: a row that was appended to slot t sees t + 1 slots.
 * A row that sees nothing (visible 0, or -1: it is off) gives zeros, whatever its sequence is.
 * `scores` hands out s itself, before the softmax, -inf from visible[r] on: what token dropping
 * selects by. Everything after loading is f32, and `scale` multiplies the finished product; the
 * running maximum is subtracted, so large scores do not overflow. Where query and cache are both
 * bf16, the CPU may sum the exact products of query and K in pairs (VDPBF16PS): each addition
 * rounds to nearest, and subnormal bf16 elements, products and sums count as 0; the weights of V
 * stay f32. A row with a NaN gives NaN in the heads concerned.
 *
 * On the CPU a row has the same bits whatever other rows there are. CUDA parts the slots by how many
 * rows there are; with `batch_invariant` as if a row were alone, so that a row of several drafted
 * tokens gives what it gives in a step of its own. Then as many rows share a read of the cache as
 * have 4 queries for a KV head, or 8 where G > 4.
 *
 * visible outside -1..T, a sequence outside 0..S-1, a page outside 0..P-1: EXN_INVALID_ARGUMENT on
 * the CPU with nothing written; on CUDA such a row is NaN. A head dimension of which rows of query,
 * K and V do not fit into a block's shared memory: EXN_UNSUPPORTED on CUDA.
 *
 * Bytes that must move: 2 * visible * Hkv * dh elements of the cache per row (rows of one sequence
 * in one call share them in blocks), query and out once, and 4 * H * N per row for scores.
 */
#ifndef EXEUNT_ATTENTION_H
#define EXEUNT_ATTENTION_H

#include <exeunt/kv_cache.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_attention_params {
  uint64_t struct_size;     /**< sizeof(exn_attention_params) */
  const DLTensor* query;    /**< in, [R,H,dh], f32 | f16 | bf16, heads compact, row stride free;
                                 H a multiple of Hkv; R may be 0. The queries. */
  exn_kv_cache cache;       /**< in. The keys and values. */
  const DLTensor* sequence; /**< in, optional, [R], i32, compact; NULL: all rows belong to
                                 sequence 0. The sequence of each row. */
  const DLTensor* visible;  /**< in, [R], i32, compact, entries in 0..T; -1: the row is off. How
                                 many leading slots each row sees. */
  const DLTensor* out;      /**< out, [R,H,dh], f32 | f16 | bf16, heads compact, row stride free.
                                 The result. */
  const DLTensor* scores;   /**< out, optional, [R,H,N], f32, compact, N <= T: s of the first N
                                 slots. The scores before the softmax. */
  float scale;              /**< > 0 and finite, usually 1 / sqrt(dh). Factor of the scores. */
  float softcap;            /**< >= 0 and finite; 0 = none. Soft cap of the scores. */
  int32_t batch_invariant;  /**< 0 or 1. Whether each row has the bits that it has alone on CUDA,
                                 too, where else the slots are parted by how many rows there are:
                                 then drafted tokens, verified together, are those of plain
                                 decoding. Costs reads of the cache, which fewer rows share. */
  int32_t reserved;         /**< 0 */
} exn_attention_params;

EXN_API exn_status exn_attention_supported(const exn_attention_params* params);
EXN_API exn_status exn_attention_workspace_size(const exn_attention_params* params, size_t* bytes);
EXN_API exn_status exn_attention(const exn_attention_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
