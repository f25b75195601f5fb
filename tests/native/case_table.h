// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "stats.h"
#include "table.h"

namespace exn::test {

struct RowStatsCase : CaseBase {
  MatrixSpec logits;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  uint32_t outputs = 0;
};

struct ExitHeadCase : CaseBase {
  MatrixSpec hidden;
  MatrixSpec weight;
  std::string bias = "-";
  int32_t norm = EXN_NORM_NONE;
  float norm_eps = 0;
  bool norm_bias = false;
  bool translator = false;
  Type translator_type = Type::kF32;
  int64_t translator_pad = 0;
  int32_t translate = EXN_TRANSLATE_RAW;
  bool translator_bias = false;
  int64_t shortlist = 0;
  bool shortlist_descending = false;
  int32_t normalizer = EXN_SOFTMAX;
  float temperature = 1;
  float softcap = 0;
  uint32_t outputs = 0;
};

struct StableMaxCase : CaseBase {
  MatrixSpec logits;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t normalizer = EXN_STABLEMAX;
  bool log = false;
  bool in_place = false;
};

struct CrossEntropyCase : CaseBase {
  MatrixSpec logits;
  int64_t grad_pad = 0;
  int64_t grad_offset = 0;
  Type label_type = Type::kI64;
  std::string labels;
  int64_t ignore_index = 0;
  int32_t normalizer = EXN_STABLEMAX;
  int32_t reduction = EXN_REDUCE_MEAN;
  bool loss = true;
  bool grad = true;
  bool in_place = false;
};

struct PerpGradCase : CaseBase {
  std::vector<int64_t> shape;
  Type type = Type::kF32;
  int64_t offset = 0;
  std::string weight_fill;
  float weight_scale = 1;
  std::string grad_fill;
  float grad_scale = 1;
  std::string special;
  int32_t form = EXN_PERP_CODE;
  bool in_place = false;
};

struct GateCase : CaseBase {
  MatrixSpec features;
  Type weight_type = Type::kF32;
  float weight_scale = 1;
  int32_t kind = EXN_GATE_LINEAR;
  int32_t repeats = 0;
  bool hidden_bias = false;
  int64_t classes = 1;
  bool out_bias = false;
};

enum ExitOutput { kExitMask, kActiveList, kActiveCount, kExitLayer };

struct ExitRuleCase : CaseBase {
  int64_t rows = 0;
  int64_t layers = 0;
  int64_t tokens = 0;
  int32_t rule = EXN_RULE_THRESHOLD;
  int32_t comparator = EXN_COMPARE_GE;
  int32_t decay = EXN_DECAY_NONE;
  float tau = 0;
  float horizon = 1;
  bool step_tensor = false;
  int32_t scope = EXN_SCOPE_EACH;
  float threshold = 0;
  int32_t patience = 0;
  int32_t min_steps = 0;
  int32_t max_steps = 0;
  std::string scores;
  int64_t labels = 0;  // 0: none
  bool valid = false;
  bool nan = false;
  bool force = false;
  uint32_t outputs = 0;
};

// All cases of an op from the tables in `directory`.
std::vector<RowStatsCase> row_stats_cases();
std::vector<ExitHeadCase> exit_head_cases();
std::vector<StableMaxCase> stablemax_cases();
std::vector<CrossEntropyCase> cross_entropy_cases();
std::vector<PerpGradCase> perp_grad_cases();
std::vector<GateCase> gate_cases();
std::vector<ExitRuleCase> exit_rule_cases();

// ---- inputs -------------------------------------------------------------------------------------
// A tensor that the case leaves out has an empty shape.

struct RowStatsInputs {
  HostTensor logits;
};

struct ExitHeadInputs {
  HostTensor hidden, weight, bias, norm_weight, norm_bias, translator, translator_bias, shortlist;
};

struct StableMaxInputs {
  HostTensor logits;
};

struct CrossEntropyInputs {
  HostTensor logits, labels;
};

struct PerpGradInputs {
  HostTensor weight, grad;
};

struct GateInputs {
  HostTensor features, hidden_weight, hidden_bias, out_weight, out_bias;
};

struct ExitRuleInputs {
  HostTensor score, label, valid, step;
};

RowStatsInputs make_inputs(const RowStatsCase& c);
ExitHeadInputs make_inputs(const ExitHeadCase& c);
StableMaxInputs make_inputs(const StableMaxCase& c);
CrossEntropyInputs make_inputs(const CrossEntropyCase& c);
PerpGradInputs make_inputs(const PerpGradCase& c);
GateInputs make_inputs(const GateCase& c);
// Of one call: token `token`, layer `layer`.
ExitRuleInputs make_inputs(const ExitRuleCase& c, int64_t token, int64_t layer);

}  // namespace exn::test
