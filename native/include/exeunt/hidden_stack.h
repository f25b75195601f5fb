/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hidden_stack: keeps the hidden states of rows that left, so that the deep layers can run for all
 * of them together later, with exact K and V (FREE's synchronised parallel decoding, EE-LLM's KV
 * recomputation, LayerSkip's exit query cache).
 *
 *   EXN_STACK_PUSH    appends the rows with mask[r] != 0, ascending, and their tags; count grows
 *   EXN_STACK_GATHER  rows[i], tags[:, i] = entry i for i < count; behind them tags are -1 and
 *                     rows untouched
 *   EXN_STACK_CLEAR   count = 0
 *
 * Tags are M integers per entry that travel with it, for instance sequence, slot, position and what
 * attention may see. Row m of tags is tag m of all entries: a compact tensor [R], as the ops that
 * follow take it. The -1 of an entry that is not there switches it off as slot (kv_append, kv_copy,
 * kv_propagate), exit_layer (kv_propagate), position (rope) and visible (attention); its other ids,
 * its sequence among them, are not looked at then. kv_length has no such switch.
 *
 * A push that does not fit pushes nothing: EXN_INVALID_ARGUMENT on the CPU; on CUDA, where a run
 * cannot read the count on the host, `overflow` receives the rows that found no room. Likewise a
 * gather with count > R: its tags are all -1 then, its rows untouched. A count outside 0..C, which
 * no push leaves behind, is EXN_INVALID_ARGUMENT on the CPU; on CUDA nothing is pushed or gathered,
 * the tags of a gather are all -1, and overflow is not 0.
 *
 * Bytes that must move: 2 * D elements per row pushed or gathered, and its tags.
 */
#ifndef EXEUNT_HIDDEN_STACK_H
#define EXEUNT_HIDDEN_STACK_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_STACK_PUSH = 0, EXN_STACK_GATHER = 1, EXN_STACK_CLEAR = 2 };

typedef struct exn_hidden_stack_params {
  uint64_t struct_size;       /**< sizeof(exn_hidden_stack_params) */
  const DLTensor* stack;      /**< in-out, [C,D], f32 | f16 | bf16, last stride 1; C up to
                                   2^31 - 1. The stack's memory. */
  const DLTensor* stack_tags; /**< in-out, optional, [M,C], i32, compact, M >= 1. The tags of the
                                   entries on the stack, tag by tag. */
  const DLTensor* count;      /**< in-out, [1], i32, 0..C. How many entries are on the stack; set
                                   it to 0 before the first push. */
  const DLTensor* rows;       /**< PUSH: in, GATHER: out, [R,D], dtype of stack, last stride 1, R
                                   up to 2^31 - 1; CLEAR: NULL. The rows to push or to fill; not
                                   for a clear. */
  const DLTensor* tags;       /**< PUSH: in, GATHER: out, [M,R], i32, compact; with stack_tags only.
                                   The tags of the rows, such as their sequences, slots and
                                   positions. */
  const DLTensor* mask;       /**< in, optional, PUSH: [R], u8, compact; NULL: all rows. Which
                                   rows to push; for a push only. `exit_mask` of `exit_rule`
                                   fits. */
  const DLTensor* overflow;   /**< out, optional, [1], i32: 0 if all did; CUDA: also not 0 if
                                   count was outside 0..C. How many rows did not fit. */
  int32_t action;             /**< EXN_STACK_*. What happens to the stack. */
  int32_t reserved;           /**< 0 */
} exn_hidden_stack_params;

EXN_API exn_status exn_hidden_stack_supported(const exn_hidden_stack_params* params);
EXN_API exn_status exn_hidden_stack_workspace_size(const exn_hidden_stack_params* params,
                                                   size_t* bytes);
EXN_API exn_status exn_hidden_stack(const exn_hidden_stack_params* params, void* workspace,
                                    size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
