/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather: the kept tokens of several tensors at once, and their positions.
 *
 * For every entry i in [0, n) of the list, n = count or K, that is not negative, and every tensor
 *
 *   out[.., i, ..] = input[.., list[i], ..]   along the tensor's axis: 0 for hidden [N,D] or a RoPE
 *                                             table [N,pairs,2], 1 for K and V [Hkv,N,dh]
 *   position_out[i] = position[list[i]]       (EXN_POSITIONS_KEEP; list[i] without `position`)
 *                   | first_position + i      (EXN_POSITIONS_RENUMBER)
 *
 * Elements are moved as they are, whatever they hold; entries of out beyond n are untouched.
 * select's padding of -1 is skipped, so the list need not be counted on the host.
 *
 * In place: out of a tensor (of all of them, position_out too) may be exactly its input. The first
 * n entries of the list must then ascend strictly, with negative entries behind all others.
 *
 * An entry >= N, a count outside 0..K, an in-place list that does not ascend: EXN_INVALID_ARGUMENT
 * on the CPU with nothing moved; on CUDA, where a run cannot read them on the host, nothing is
 * moved either and `moved` is -1.
 *
 * Bytes that must move: 2 * the bytes of an entry, per entry and tensor; 4 per entry of the list.
 */
#ifndef EXEUNT_GATHER_H
#define EXEUNT_GATHER_H

#include <exeunt/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EXN_GATHER_MAX_TENSORS = 8 };
enum { EXN_POSITIONS_KEEP = 0, EXN_POSITIONS_RENUMBER = 1 };

typedef struct exn_gather_tensor {
  const DLTensor* input; /**< in, any dtype, N entries along axis; compact, but for a free stride of
                              axis 0 if that is `axis`. The tensor that entries are taken from. */
  const DLTensor* out;   /**< out, >= K entries along axis, else dtype, shape and strides as for
                              input; may be exactly input. Where the kept entries go. */
  int32_t axis;          /**< 0 .. rank - 1. The axis along which entries are counted. */
  int32_t reserved;      /**< 0 */
} exn_gather_tensor;

typedef struct exn_gather_params {
  uint64_t struct_size;             /**< sizeof(exn_gather_params) */
  const exn_gather_tensor* tensors; /**< in, host memory, tensor_count of them. The tensors that
                                         keep the same entries. */
  const DLTensor* list;             /**< in, [K], i32, compact; entries below N, negative ones
                                         are skipped. Which entries are kept. */
  const DLTensor* count;            /**< in, optional, [1], i32, 0..K; NULL: all. How many
                                         entries of the list are used. */
  const DLTensor* position;         /**< in, optional, [N], i32, compact; NULL with RENUMBER. The
                                         position of each entry. */
  const DLTensor* position_out;     /**< out, optional, [>= K], i32, compact; may be exactly
                                         position. The positions of the kept entries. */
  const DLTensor* moved;            /**< out, optional, [1], i32; -1 if the list was refused. How
                                         many entries were moved. */
  int64_t rows;                     /**< N, 0 .. 2^31 - 1. How many entries there are to choose
                                         from. */
  int32_t tensor_count;             /**< 0 .. EXN_GATHER_MAX_TENSORS. How many tensors there are. */
  int32_t positions;                /**< EXN_POSITIONS_KEEP or EXN_POSITIONS_RENUMBER. Whether kept
                                         entries keep their positions or get new ones in a row. */
  int32_t first_position;           /**< RENUMBER: the last position stays below 2^31; else 0. The
                                         new position of the first kept entry. */
  int32_t reserved;                 /**< 0 */
} exn_gather_params;

EXN_API exn_status exn_gather_supported(const exn_gather_params* params);
EXN_API exn_status exn_gather_workspace_size(const exn_gather_params* params, size_t* bytes);
EXN_API exn_status exn_gather(const exn_gather_params* params, void* workspace,
                              size_t workspace_bytes, exn_stream stream);

#ifdef __cplusplus
}
#endif

#endif
