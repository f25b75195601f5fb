/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_compaction: a batch goes on with the rows that stay, by the active list of exit_rule, and
 * back.
 *
 *   EXN_ROWS_GATHER   out[i] = input[list[i]]
 *   EXN_ROWS_SCATTER  out[list[i]] = input[i]
 *
 * for every i in [0, K) with list[i] >= 0; other rows of out are untouched. The padding of
 * exit_rule's list (-1) is skipped, so the list need not be counted on the host. Rows are moved as
 * they are, whatever they hold.
 *
 * list[i] beyond the rows: EXN_INVALID_ARGUMENT on the CPU, nothing written; on CUDA that entry is
 * skipped. Two entries of a scatter that name one row: on the CPU the last one stays, on CUDA one
 * of them.
 *
 * Bytes that must move: 2 * D * sizeof(element) per listed row.
 */
#ifndef EXEUNT_ROW_COMPACTION_H
#define EXEUNT_ROW_COMPACTION_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_ROWS_GATHER = 0, EXN_ROWS_SCATTER = 1 };

typedef struct exn_row_compaction_params {
  uint64_t struct_size;  /**< sizeof(exn_row_compaction_params) */
  const DLTensor* input; /**< in, [R,D] (GATHER) or at least K rows of D (SCATTER), any dtype, last
                              stride 1. The rows to move. */
  const DLTensor* list;  /**< in, [K], i32, compact; negative entries are skipped. Which rows. */
  const DLTensor* out;   /**< out, [K,D] or with more rows (GATHER) or [R,D] (SCATTER), dtype of
                              input, last stride 1. Where they go. */
  int32_t direction;     /**< EXN_ROWS_GATHER or EXN_ROWS_SCATTER. Whether listed rows are taken out
                              or put back. */
  int32_t reserved;      /**< 0 */
} exn_row_compaction_params;

EXN_API exn_status exn_row_compaction_supported(const exn_row_compaction_params* params);
EXN_API exn_status exn_row_compaction_workspace_size(const exn_row_compaction_params* params,
                                                     size_t* bytes);
EXN_API exn_status exn_row_compaction(const exn_row_compaction_params* params, void* workspace,
                                      size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
