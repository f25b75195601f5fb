/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KV cache of one layer, described, and the ops that write, move and count its slots.
 *
 * A cache holds K and V of S sequences with up to T slots each. A slot is where a token lies; its
 * position is what RoPE turned it by. The two stay apart: exeunt never changes a position, and
 * layers may hold different tokens and lengths.
 *
 *   EXN_KV_HEAD_MAJOR   k, v [S,Hkv,T,dh], or [Hkv,T,dh] for one sequence
 *   EXN_KV_TOKEN_MAJOR  k, v [S,T,Hkv,dh], or [T,Hkv,dh] for one sequence
 *   EXN_KV_PAGED        k, v [P,page,Hkv,dh]; block_table [S,B]: slot t of sequence s lies in page
 *                       block_table[s, t / page] at t % page, and T = B * page
 *
 * kv_append   writes rows of K and V, converted to the cache's dtype, to their slots:
 *
 *     cache[sequence[r], h, slot[r]] = k[r, h], v[r, h]
 *
 * kv_copy     copies slots, within a cache or from one to another (layer copy, compaction, fork of
 *             a sequence):
 *
 *     destination[to_sequence[i], h, to_slot[i]] = source[from_sequence[i], h, from_slot[i]]
 *
 * kv_length   counts on the device: EXN_KV_ADVANCE gives each active row r, in ascending order, the
 *             next slot of its sequence s, EXN_KV_CROP shortens:
 *
 *     EXN_KV_ADVANCE  slot[r] = length[s],  visible[r] = length[s] + 1,  length[s] <- length[s] + 1
 *     EXN_KV_CROP     length = min(length, limit)
 *
 * A slot of -1 switches a row off, of kv_copy on either side: nothing is read or written for it,
 * and its other ids may be anything. Other values outside 0..T-1, a sequence outside 0..S-1 and
 * (PAGED) a table entry outside 0..P-1 are EXN_INVALID_ARGUMENT on the CPU with nothing written; on
 * CUDA, where a run cannot read them on the host, such a row is switched off.
 *
 * Two rows of one call that write one slot are an error of the caller: on the CPU the last one
 * stays (builds without NDEBUG refuse them), on CUDA one of them.
 *
 * Table entries may name one page for several blocks and sequences (a shared prefix). What is
 * written there is written for all of them, and rows of different sequences that write to one place
 * of such a page write one slot: this goes for kv_append, kv_copy and kv_propagate. kv_compact
 * refuses to write shared pages.
 *
 * Bytes that must move: per row and op, 2 * Hkv * dh elements read and as many written; kv_length
 * 12 per row or length.
 */
#ifndef EXEUNT_KV_CACHE_H
#define EXEUNT_KV_CACHE_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_KV_HEAD_MAJOR = 0, EXN_KV_TOKEN_MAJOR = 1, EXN_KV_PAGED = 2 };

typedef struct exn_kv_cache {
  const DLTensor* k;           /**< f32 | f16 | bf16, compact, shape as the layout says. The
                                    keys. */
  const DLTensor* v;           /**< dtype and shape of k. The values. */
  const DLTensor* block_table; /**< in, PAGED: [S,B], i32, compact; else NULL. In which page each
                                    block of a sequence lies. */
  int32_t layout;              /**< EXN_KV_*. How the slots lie in memory. */
  int32_t reserved;            /**< 0 */
} exn_kv_cache;

typedef struct exn_kv_append_params {
  uint64_t struct_size;     /**< sizeof(exn_kv_append_params) */
  exn_kv_cache cache;       /**< in-out. The cache. */
  const DLTensor* k;        /**< in, [R,Hkv,dh], f32 | f16 | bf16, heads compact, row stride
                                 free; R may be 0. The keys. */
  const DLTensor* v;        /**< in, [R,Hkv,dh], dtype of k. The values. */
  const DLTensor* sequence; /**< in, optional, [R], i32, compact; NULL: all rows belong to
                                 sequence 0. The sequence of each row. */
  const DLTensor* slot;     /**< in, [R], i32, compact; -1: the row is off. The slot of each row. */
} exn_kv_append_params;

/**
 * Entries are copied as if one by one: an ascending list may move slots down within a cache. The
 * destination may be exactly the source, which means K and V both, with heads and slots at the same
 * distances; if one of the two is shared alone, the call is EXN_INVALID_ARGUMENT.
 */
typedef struct exn_kv_copy_params {
  uint64_t struct_size;          /**< sizeof(exn_kv_copy_params) */
  exn_kv_cache source;           /**< in. Where slots come from. */
  exn_kv_cache destination;      /**< in-out; dtype, Hkv and dh of source; may be exactly source.
                                      Where slots go. */
  const DLTensor* from_sequence; /**< in, optional, [N], i32, compact; NULL: sequence 0. The
                                      sequence that each entry is copied from. */
  const DLTensor* from_slot;     /**< in, [N], i32, compact; -1: the entry is off. The slot that
                                      each entry is copied from. */
  const DLTensor* to_sequence;   /**< in, optional, [N], i32, compact; NULL: sequence 0. The
                                      sequence that each entry is copied to. */
  const DLTensor* to_slot;       /**< in, [N], i32, compact; -1: the entry is off. The slot that
                                      each entry is copied to. */
} exn_kv_copy_params;

enum { EXN_KV_ADVANCE = 0, EXN_KV_CROP = 1 };

/**
 * ADVANCE, rows in ascending order: an active row r of sequence s gets slot[r] = length[s] and
 * visible[r] = length[s] + 1, and length[s] grows by one; an inactive row gets slot -1 and visible
 * length[s] as it stands then. Where a sequence is full (length = capacity): EXN_INVALID_ARGUMENT
 * on the CPU, nothing written; on CUDA the row gets slot -1 and visible 0, and the length stays.
 * CROP: length = min(length, limit), element by element.
 */
typedef struct exn_kv_length_params {
  uint64_t struct_size;     /**< sizeof(exn_kv_length_params) */
  const DLTensor* length;   /**< in-out, i32, compact, entries >= 0, any shape, such as layers
                                 times S; ADVANCE: S elements. Slots in use. */
  const DLTensor* sequence; /**< in, optional, ADVANCE: [R], i32, compact; NULL: all rows belong
                                 to sequence 0. The sequence of each row; advance only. */
  const DLTensor* active;   /**< in, optional, ADVANCE: [R], u8, compact; NULL: all rows are
                                 active. Which rows get a slot; advance only. */
  const DLTensor* limit;    /**< in, CROP: i32, compact, entries >= 0; as many elements as
                                 length, or 1 for all. The longest a sequence may stay; crop
                                 only. */
  const DLTensor* slot;     /**< out, ADVANCE: [R], i32, compact. The slot of each row; advance
                                 only. */
  const DLTensor* visible;  /**< out, optional, ADVANCE: [R], i32, compact. What `attention` lets
                                 each row see; advance only. */
  int64_t capacity;         /**< T, ADVANCE: 1 .. 2^31 - 1. How many slots a sequence may have;
                                 advance only. */
  int32_t action;           /**< EXN_KV_ADVANCE or EXN_KV_CROP. Whether sequences get slots or are
                                 cut short. */
  int32_t reserved;         /**< 0 */
} exn_kv_length_params;

EXN_API exn_status exn_kv_append_supported(const exn_kv_append_params* params);
EXN_API exn_status exn_kv_append_workspace_size(const exn_kv_append_params* params, size_t* bytes);
EXN_API exn_status exn_kv_append(const exn_kv_append_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

EXN_API exn_status exn_kv_copy_supported(const exn_kv_copy_params* params);
EXN_API exn_status exn_kv_copy_workspace_size(const exn_kv_copy_params* params, size_t* bytes);
EXN_API exn_status exn_kv_copy(const exn_kv_copy_params* params, void* workspace,
                               size_t workspace_bytes, exn_stream stream);

EXN_API exn_status exn_kv_length_supported(const exn_kv_length_params* params);
EXN_API exn_status exn_kv_length_workspace_size(const exn_kv_length_params* params, size_t* bytes);
EXN_API exn_status exn_kv_length(const exn_kv_length_params* params, void* workspace,
                                 size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
