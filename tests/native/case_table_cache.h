// SPDX-License-Identifier: Apache-2.0
// Cases and inputs of the ops on the KV cache and of the layer and row schedules.
// ops/README.md is the specification.
#pragma once

#include "cache.h"

namespace exn::test {

// ---- cases --------------------------------------------------------------------------------------

struct KvAppendCase : CaseBase {
  CacheSpec cache;
  MatrixSpec rows;  // of Hkv * dh columns
  std::string sequence;
  std::string slot;
};

struct KvCopyCase : CaseBase {
  int64_t count = 0;
  CacheSpec source;
  CacheSpec destination;  // of `source` if in_place
  bool in_place = false;
  std::string sequence;
  std::string entries;
};

struct KvLengthCase : CaseBase {
  int32_t action = EXN_KV_ADVANCE;
  std::vector<int64_t> lengths;  // shape
  int64_t rows = 0;
  int64_t calls = 1;
  int64_t capacity = 1;
  std::string start;
  std::string sequence;
  std::string active;
  bool one_limit = false;
  bool visible = true;
};

struct AttentionCase : CaseBase {
  MatrixSpec query;  // of H * dh columns
  int64_t query_heads = 1;
  CacheSpec cache;
  float key_scale = 1;
  std::string cache_special = "-";
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  std::string sequence;
  std::string visible;
  bool scores = false;
  int64_t score_slots = 0;
  float scale = 1;
  float softcap = 0;
};

struct HiddenStackCase : CaseBase {
  int64_t capacity = 0;
  MatrixSpec rows;  // pushed
  int64_t stack_pad = 0;
  int64_t stack_offset = 0;
  int64_t gathered = 0;  // rows of the output of GATHER
  int64_t tags = 0;      // M; 0: none
  std::string mask;
  bool overflow = false;
  std::vector<int32_t> script;  // EXN_STACK_*
};

struct RowCompactionCase : CaseBase {
  int64_t rows = 0;
  int64_t cols = 0;
  Type type = Type::kF32;
  int64_t pad = 0;
  int64_t offset = 0;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t direction = EXN_ROWS_GATHER;
  int64_t listed = 0;
  int64_t spare = 0;
  std::string list;
};

enum ScheduleOutput { kExitTest, kThreshold };

struct LayerScheduleCase : CaseBase {
  int64_t positions = 0;
  int64_t layers = 1;
  int32_t kind = EXN_SCHEDULE_SKIPDECODE;
  int32_t prompt = 0;
  int32_t horizon = 1;
  int32_t most = 1;
  int32_t least = 1;
  int32_t warm_up = 0;
  int32_t first_exit = 0;
  int32_t min_exit = 0;
  int32_t interval = 1;
  int32_t decay = EXN_DECAY_NONE;
  float start_threshold = 0;
  float tau = 0;
  std::vector<int32_t> order;
  uint32_t outputs = 0;
};

struct FfnSkipRuleCase : CaseBase {
  int64_t rows = 0;
  int32_t layers = 1;
  int64_t tokens = 1;
  int32_t cold_start = 0;
  int32_t cold_end = 0;
  int32_t warm_up = 0;
  int32_t budget = -1;
  float threshold = 0;
  bool token_tensor = false;
  std::string cosines;
  bool nan = false;
};

std::vector<KvAppendCase> kv_append_cases();
std::vector<KvCopyCase> kv_copy_cases();
std::vector<KvLengthCase> kv_length_cases();
std::vector<AttentionCase> attention_cases();
std::vector<HiddenStackCase> hidden_stack_cases();
std::vector<RowCompactionCase> row_compaction_cases();
std::vector<LayerScheduleCase> layer_schedule_cases();
std::vector<FfnSkipRuleCase> ffn_skip_rule_cases();

// ---- inputs
// ------------------------------------------------------------------------------------------ A
// tensor that the case leaves out has an empty shape.

struct KvAppendInputs {
  CacheTensors cache;
  HostTensor k, v, sequence, slot;
};

struct KvCopyInputs {
  CacheTensors source;
  CacheTensors destination;  // not given if in_place
  HostTensor from_sequence, from_slot, to_sequence, to_slot;
};

// Of one call; the first one begins with `length`.
struct KvLengthInputs {
  HostTensor length, sequence, active, limit;
};

struct AttentionInputs {
  HostTensor query;
  CacheTensors cache;
  HostTensor sequence, visible;
};

// Of one call of the script. The stack begins full of NaN, its tags are 0x7B bytes.
struct HiddenStackInputs {
  HostTensor rows, tags, mask;
};

struct RowCompactionInputs {
  HostTensor input, list;
};

struct FfnSkipRuleInputs {
  HostTensor cosine, token;
};

KvAppendInputs make_inputs(const KvAppendCase& c);
KvCopyInputs make_inputs(const KvCopyCase& c);
KvLengthInputs make_inputs(const KvLengthCase& c, int64_t call);
AttentionInputs make_inputs(const AttentionCase& c);
HiddenStackInputs make_inputs(const HiddenStackCase& c, int64_t call);
RowCompactionInputs make_inputs(const RowCompactionCase& c);
// The call after `layer`. `skipped`: the mask that this layer ran under (empty: none, layer -1).
FfnSkipRuleInputs make_inputs(const FfnSkipRuleCase& c, int64_t token, int32_t layer,
                              const std::vector<uint8_t>& skipped);

}  // namespace exn::test
