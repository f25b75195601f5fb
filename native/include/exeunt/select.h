/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select: the best columns of each row of scores, as an ascending list.
 *
 * Row r has N columns, and the scores of row r of `scores`; with H heads, the sums of H rows, added
 * up in f32 one after another:
 *
 *   score[r,j] = ((scores[r*H,j] + scores[r*H + 1,j]) + ...) + scores[r*H + H - 1,j]
 *
 * A mean over heads ranks columns as the sum does. Of the columns
 *   kept       are those in a range of `keep`, whatever they score, beside the k best;
 *   left out   are those in a range of `drop`, unless a range of `keep` holds them too;
 *   candidates are the others below limit[r].
 * Each row keeps the k best candidates, or, with `budget`, as many as that says; with `segments`,
 * each segment [segments[g], segments[g+1]) keeps the best of its own candidates, and what lies in
 * no segment is no candidate. More than there are candidates means all of them. Equal scores (-0
 * equals +0) go to the smaller column, -inf is the lowest score and +inf the highest.
 *
 *   indices[r] = the columns kept, ascending, then -1 up to K        count[r] = how many are kept
 *
 * Where count[r] > K the list ends after the first K: give it room for k (in each segment) and for
 * the kept ranges. A row with a NaN among its candidates is invalid: valid[r] = 0, and it keeps
 * everything, all columns below limit[r] (those of `drop` too) and the ranges of `keep`: a token is
 * never lost to a broken score. The scores of other columns are not looked at. A sum is NaN where a
 * score is NaN, or where +inf meets -inf.
 *
 * limit, budget, keep, drop and segments are read from device memory: a decision that was taken
 * there needs no detour. A limit outside 0..N, a negative budget, a range or segments that fall or
 * leave 0..N: EXN_INVALID_ARGUMENT on the CPU with nothing written; on CUDA they are clamped to
 * what is possible, and a range that falls is empty, as is a segment up to the largest boundary
 * before it.
 *
 * Follows the selections of PromptDistill, GemFilter, SnapKV, H2O, FastV, PyramidDrop and HiRED,
 * which leave the order of equal scores open.
 *
 * Bytes that must move: H * N elements of scores per row read once, 4 * K written. On CUDA a block
 * of threads takes a whole row: many rows fill a device, one row of 100 000 columns does not, and a
 * row of more than 16384 columns is read anew in each round of the search, four or five times. The
 * sums of a row of more than 8192 are made before, by many blocks, and lie in the workspace, 4 * N
 * bytes; those of a shorter one do not leave its block.
 */
#ifndef EXEUNT_SELECT_H
#define EXEUNT_SELECT_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/** How many are kept, and where the list goes. R rows of N columns, as the scores it goes with. */
typedef struct exn_selection {
  const DLTensor* budget;   /**< in, optional, [R], or [R,G] with segments, i32, compact;
                                 NULL: k everywhere */
  const DLTensor* segments; /**< in, optional, [G+1], i32, compact, ascending; for all rows;
                                 NULL: one of N columns */
  const DLTensor* keep;     /**< in, optional, [M,2], or [R,M,2], i32, compact:
                                 ranges [begin, end) of columns */
  const DLTensor* drop;     /**< in, optional, as keep */
  const DLTensor* indices;  /**< out, [R,K], i32, compact; K >= min(k, N) where no budget is given,
                                 with segments too */
  const DLTensor* count;    /**< out, optional, [R], i32, compact; may exceed K, see above */
  const DLTensor* valid;    /**< out, optional, [R], u8, compact;
                                 0: the row has a NaN and keeps everything */
  int64_t k;                /**< >= 0; not used where a budget is given */
} exn_selection;

typedef struct exn_select_params {
  uint64_t struct_size;   /**< sizeof(exn_select_params) */
  const DLTensor* scores; /**< in, [R,N], or [R*H,N] with heads, f32 | f16 | bf16, last stride
                                1; R and N may be 0. The scores. */
  const DLTensor* limit;  /**< in, optional, [R], i32, compact, entries in 0..N; NULL: N. How
                                many leading columns of each row there are to choose from. */
  exn_selection
      selection; /**< how many, and where to. How many to keep, and where their list goes. */
  int64_t heads; /**< H >= 0, divides the rows of scores: neighbouring rows that are
                                summed up for one list; 0 or 1: each row has its own. How many
                                neighbouring rows of the scores, the heads of an attention for
                                instance, are added up for one list: row r of the selection is of
                                rows `r H` to `r H + H - 1`. Sums are f32, one row added to
                                another in their order. A sum with a NaN, or of opposite
                                infinities, is NaN. A mean over heads ranks columns as the sum
                                does. */
} exn_select_params;

EXN_API exn_status exn_select_supported(const exn_select_params* params);
EXN_API exn_status exn_select_workspace_size(const exn_select_params* params, size_t* bytes);
EXN_API exn_status exn_select(const exn_select_params* params, void* workspace,
                              size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
