// SPDX-License-Identifier: Apache-2.0
// The seam between the C ABI and the backends. The ABI layer (src/abi) checks every argument once
// and hands plain, sound values on; a backend fills one Backend table with one function per op.
//
// An op function runs in two modes, so that the size query and the carving of the workspace cannot
// disagree:
//
//   exn_status my_op(const MyArgs& a, Workspace& ws, exn_stream stream) {
//     float* partial = ws.take<float>(n);
//     if (ws.counting()) return EXN_OK;      // size query, or too small: nothing below may run
//     ... launch ...
//   }
#pragma once

#include "args.h"
#include "device.h"

namespace exn {

// Every op: its name in the C ABI and the arguments of its kernels. The tables of backends and of
// instruction sets are made from this list.
#define EXN_FOR_EACH_OP(X)                 \
  X(row_stats, RowStatsArgs)               \
  X(exit_head, ExitHeadArgs)               \
  X(stablemax, StableMaxArgs)              \
  X(cross_entropy, CrossEntropyArgs)       \
  X(perp_grad, PerpGradArgs)               \
  X(cosine, CosineArgs)                    \
  X(gate, GateArgs)                        \
  X(exit_rule, ExitRuleArgs)               \
  X(draft_rule, DraftRuleArgs)             \
  X(draft_lookup, DraftLookupArgs)         \
  X(verify, VerifyArgs)                    \
  X(norm, NormArgs)                        \
  X(rope_table, RopeTableArgs)             \
  X(rope, RopeArgs)                        \
  X(linear, LinearArgs)                    \
  X(kv_append, KvAppendArgs)               \
  X(kv_copy, KvCopyArgs)                   \
  X(kv_length, KvLengthArgs)               \
  X(attention, AttentionArgs)              \
  X(kv_propagate, KvPropagateArgs)         \
  X(hidden_stack, HiddenStackArgs)         \
  X(row_compaction, RowCompactionArgs)     \
  X(layer_schedule, LayerScheduleArgs)     \
  X(ffn, FfnArgs)                          \
  X(ffn_skip_rule, FfnSkipRuleArgs)        \
  X(attention_scores, AttentionScoresArgs) \
  X(select, SelectArgs)                    \
  X(hired_budget, HiredBudgetArgs)         \
  X(gather, GatherArgs)                    \
  X(kv_compact, KvCompactArgs)             \
  X(embedding, EmbeddingArgs)              \
  X(column_norms, ColumnNormsArgs)         \
  X(prune_mask, PruneMaskArgs)             \
  X(prune_apply, PruneApplyArgs)           \
  X(stop_rule, StopRuleArgs)               \
  X(token_bias, TokenBiasArgs)             \
  X(ssm_step, SsmStepArgs)                 \
  X(elr, ElrArgs)

#define EXN_DECLARE(op, Args) struct Args;
EXN_FOR_EACH_OP(EXN_DECLARE)
#undef EXN_DECLARE

// What a backend needs from the library that opened it.
struct Host {
  // Records the sentence that exn_last_error() returns in this thread, and returns `status`.
  exn_status (*fail)(exn_status status, const char* sentence);
  // Records exn_last_path() of this thread. `path` is static text or lives as long as the backend.
  void (*ran)(const char* path);
};

constexpr uint32_t kBackendAbi = 10;

struct Backend {
  uint32_t abi;   // kBackendAbi
  uint32_t size;  // sizeof(Backend)
  const char* name;

  int32_t (*device_count)();
  exn_status (*alloc)(int32_t device, size_t bytes, void** out);
  exn_status (*free)(int32_t device, void* pointer);
  // dst_on_device, src_on_device: which sides are device memory of this backend.
  exn_status (*copy)(int32_t device, void* dst, bool dst_on_device, const void* src,
                     bool src_on_device, size_t bytes, exn_stream stream);
  exn_status (*stream_create)(int32_t device, exn_stream* out);
  exn_status (*stream_destroy)(int32_t device, exn_stream stream);
  exn_status (*stream_synchronize)(int32_t device, exn_stream stream);

#define EXN_ENTRY(op, Args) exn_status (*op)(const Args&, Workspace&, exn_stream);
  EXN_FOR_EACH_OP(EXN_ENTRY)
#undef EXN_ENTRY

  const DeviceCalls* calls;  // what device.h offers
};

// The one symbol that libexeunt_cuda.so exports. Fills *table and returns EXN_OK, or returns
// EXN_BACKEND_UNAVAILABLE after host.fail() said why (no driver, no device, other ABI).
using BackendQuery = exn_status (*)(uint32_t abi, const Host* host, Backend* table);
constexpr const char* kBackendQuerySymbol = "exn_cuda_backend_query";

}  // namespace exn
