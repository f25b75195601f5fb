/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kv_compact: shrinks the KV cache of one layer to the slots that are kept, per KV head if need be.
 *
 * B sequences are compacted. List g (g = b, or b * Hd + h with per_head) names the slots of the
 * source that head h, or every head, of the destination keeps. Entry i goes to slot i:
 *
 *   destination[seq b, h, i] = source[seq b, h / (Hd / Hs), list_g[i]]     K and V alike
 *   new_length[g] = entries of list g
 *
 * Hd and Hs are the heads of the two caches: a destination with a head per query head holds the
 * lists of SnapKV and H2O, which keep other tokens for each of them. Slots are physical; the
 * positions that K was turned by do not change and are the caller's to remember (gather.h moves
 * them by the same list).
 *
 * The lists come packed, list g being entries offsets[g] .. offsets[g+1] - 1 of `list` [M], or
 * padded as select writes them, list g being the first count[g] entries of row g of `list`
 * [lists,K].
 *
 * In place (destination is exactly source) lists must ascend strictly. Of a paged cache the pages
 * that no head needs any more are then returned: of sequence b the blocks from ceil(longest new
 * length / page) to ceil(length[b] / page) - 1, b and block ascending, -1 after the last. The block
 * table is left as it is; shorten it before the pages serve another sequence.
 *
 * A slot outside 0 .. length[b] - 1 (0 .. T-1 without length), a length outside 0..T, offsets that
 * fall or leave 0..M, a count outside 0..K or above the destination's T, an in-place list that does
 * not ascend, a sequence out of range or named twice, a page out of range or used twice:
 * EXN_INVALID_ARGUMENT on the CPU with nothing moved; on CUDA, where a run cannot read them on the
 * host, nothing is moved either, every new_length is -1 and nothing is freed (freed_count 0). The
 * pages in question are those that entries read and those that are written: of the destination's
 * sequence b the blocks below ceil(longest new length / page). In place with length all blocks
 * below ceil(length[b] / page) count. A page may be read for several blocks (a shared prefix), but
 * what is written, and all that counts in place, is used once.
 *
 * Bytes that must move: 4 * dh elements per entry and head (K and V, read and written), 4 per entry
 * of the lists.
 */
#ifndef EXEUNT_KV_COMPACT_H
#define EXEUNT_KV_COMPACT_H

#include <exeunt/kv_cache.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct exn_kv_compact_params {
  uint64_t struct_size;        /**< sizeof(exn_kv_compact_params) */
  exn_kv_cache source;         /**< in. Where slots come from. */
  exn_kv_cache destination;    /**< in-out; dtype, dh and sequences of source; Hd % Hs = 0; may
                                    be exactly source. Where they go. */
  const DLTensor* list;        /**< in, i32, compact: [M] with offsets, [lists,K] with count. The
                                    slots of the source that are kept, list by list. */
  const DLTensor* offsets;     /**< in, [lists+1], i32, compact, ascending; exactly one of offsets
                                    and count is given. Where each of the packed lists begins. */
  const DLTensor* count;       /**< in, [lists], i32, compact, entries in 0..K. How many entries
                                    each of the padded lists has. */
  const DLTensor* sequence;    /**< in, optional, [B], i32, compact, distinct; NULL: B = S, list
                                    b is of sequence b. The sequences to compact. */
  const DLTensor* length;      /**< in, [B], i32, compact; optional where nothing is freed. How
                                    many slots of each compacted sequence are in use before. */
  const DLTensor* new_length;  /**< out, optional, [lists], i32, compact. How many slots of each
                                    list are in use after. */
  const DLTensor* freed;       /**< out, optional, PAGED and in place: [F], i32, compact; F = B *
                                    blocks holds all. The pages that no head needs any more, then
                                    -1. */
  const DLTensor* freed_count; /**< out, optional, with freed: [1], i32; may exceed F: the list ends
                                    after F. How many pages were freed. */
  int32_t per_head;            /**< 0: a list per sequence; 1: one per sequence and head of the
                                    destination. A list for each head of the destination. */
  int32_t reserved;            /**< 0 */
} exn_kv_compact_params;

EXN_API exn_status exn_kv_compact_supported(const exn_kv_compact_params* params);
EXN_API exn_status exn_kv_compact_workspace_size(const exn_kv_compact_params* params,
                                                 size_t* bytes);
EXN_API exn_status exn_kv_compact(const exn_kv_compact_params* params, void* workspace,
                                  size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
