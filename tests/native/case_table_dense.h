// SPDX-License-Identifier: Apache-2.0
// The cases of norm, rope_table, rope, linear, ffn and kv_propagate, and their inputs.
#pragma once

#include <vector>

#include "table.h"

namespace exn::test {

struct NormCase : CaseBase {
  MatrixSpec input;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  int32_t norm = EXN_NORM_RMS;
  float eps = 0;
  bool bias = false;
  bool in_place = false;
};

struct RopeTableCase : CaseBase {
  int64_t positions = 0;
  int64_t pairs = 0;
  int64_t offset = 0;
  float base = 10000;
  float factor = 1;
  int32_t scaling = EXN_ROPE_SCALING_NONE;
};

struct RopeCase : CaseBase {
  MatrixSpec input;  // cols = heads * dim
  int64_t heads = 1;
  int64_t dim = 0;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  int64_t positions = 0;
  int64_t pairs = 0;
  std::string table = "normal";
  std::string position = "random";
  int32_t style = EXN_ROPE_HALF;
};

struct LinearCase : CaseBase {
  MatrixSpec input;
  MatrixSpec weight;
  std::string bias = "-";
  std::string residual = "-";
  int64_t residual_pad = 0;
  Type out_type = Type::kF32;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
};

enum FfnOutput { kFfnCosine, kFfnBranchCosine };

struct FfnCase : CaseBase {
  MatrixSpec hidden;
  int64_t width = 0;
  Type weight_type = Type::kF32;
  int64_t weight_pad = 0;
  int64_t weight_offset = 0;
  float weight_scale = 1;
  bool gate = true;
  bool biases = false;
  std::string skip = "-";
  int32_t norm = EXN_NORM_RMS;
  float norm_eps = 0;
  bool norm_bias = false;
  int32_t activation = EXN_ACT_SILU;
  int64_t out_pad = 0;
  int64_t out_offset = 0;
  bool in_place = false;
  uint32_t outputs = 0;
};

struct KvPropagateCase : CaseBase {
  MatrixSpec hidden;
  MatrixSpec weight;  // of each Wk and Wv
  int64_t heads = 1;
  int64_t head_dim = 0;
  Type cache_type = Type::kF32;
  int32_t layout = EXN_KV_HEAD_MAJOR;
  int64_t sequences = 1;
  int64_t slots = 0;   // T
  int64_t page = 1;    // PAGED
  int64_t layers = 1;  // J
  int64_t first_layer = 0;
  int64_t layer_step = 1;
  int64_t model_layers = 1;  // L
  bool bias = false;
  int32_t norm = EXN_NORM_RMS;
  float norm_eps = 0;
  bool norm_bias = false;
  int64_t pairs = 0;  // 0: no RoPE
  int64_t positions = 0;
  std::string table = "normal";
  int32_t rope_style = EXN_ROPE_HALF;
  std::string exits = "mixed";
  bool slot_per_layer = false;
  bool slots_off = false;
};

std::vector<NormCase> norm_cases();
std::vector<RopeTableCase> rope_table_cases();
std::vector<RopeCase> rope_cases();
std::vector<LinearCase> linear_cases();
std::vector<FfnCase> ffn_cases();
std::vector<KvPropagateCase> kv_propagate_cases();

// ---- inputs -------------------------------------------------------------------------------------
// A tensor that the case leaves out has an empty shape.

struct NormInputs {
  HostTensor input, weight, bias;
};

struct RopeInputs {
  HostTensor input, position, table;
};

struct LinearInputs {
  HostTensor input, weight, bias, residual;
};

struct FfnInputs {
  HostTensor hidden, norm_weight, norm_bias, gate_weight, gate_bias, up_weight, up_bias,
      down_weight, down_bias, skip;
};

struct KvLayerInputs {
  HostTensor norm_weight, norm_bias, k_weight, k_bias, v_weight, v_bias;
  HostTensor k, v, block_table;  // the cache as it is before the call
  int32_t index = 0;
};

struct KvPropagateInputs {
  HostTensor hidden, exit_layer, sequence, slot, position, table;
  std::vector<KvLayerInputs> layers;
};

NormInputs make_inputs(const NormCase& c);
RopeInputs make_inputs(const RopeCase& c);
LinearInputs make_inputs(const LinearCase& c);
FfnInputs make_inputs(const FfnCase& c);
KvPropagateInputs make_inputs(const KvPropagateCase& c);

// Rows first ... first + count of a matrix, as a tensor of their own.
HostTensor rows_of(const HostTensor& t, int64_t first, int64_t count);
// The bytes of their elements, without what lies between rows.
std::vector<unsigned char> row_bytes(const HostTensor& t, int64_t first, int64_t count);

// Elements of all tensors of a case together: what `small` is measured by.
int64_t elements_of(const NormCase& c);
int64_t elements_of(const RopeTableCase& c);
int64_t elements_of(const RopeCase& c);
int64_t elements_of(const LinearCase& c);
int64_t elements_of(const FfnCase& c);
int64_t elements_of(const KvPropagateCase& c);

}  // namespace exn::test
