// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exeunt/kv_propagate.h>

#include "../args.h"

namespace exn {

struct KvLayer {
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  Matrix k_weight;
  const float* k_bias = nullptr;
  Matrix v_weight;
  const float* v_bias = nullptr;
  KvCache cache;
  int32_t index = 0;
};

struct KvPropagateArgs {
  int32_t device = 0;
  Matrix hidden;
  const int32_t* exit_layer = nullptr;
  const int32_t* sequence = nullptr;
  const int32_t* slot = nullptr;
  int64_t slot_stride = 0;  // between layers; 0: one row of slots for all
  const int32_t* position = nullptr;
  RopeTable table;  // data null: no RoPE
  // The layers, one at a time: all of them, up to 128, would not fit a small stack. `first` is that
  // of index 0, with which the others agree in types and sizes.
  KvLayer first;
  KvLayer layer(int32_t which) const { return layer_of(*this, which); }
  KvLayer (*layer_of)(const KvPropagateArgs& args, int32_t which) = nullptr;
  const exn_kv_layer* source = nullptr;  // for layer_of alone: what the caller gave
  int32_t layer_count = 0;
  int32_t model_layers = 0;
  int32_t rope_style = 0;
  int32_t norm = 0;
  float norm_eps = 0;
};

}  // namespace exn
