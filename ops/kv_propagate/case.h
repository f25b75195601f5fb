// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "cache.h"
#include "expected.h"

namespace exn::test {
inline namespace kv_propagate_op {

struct KvPropagateCase : CaseBase {
  MatrixSpec hidden;
  std::vector<MatrixSpec> weights = {MatrixSpec()};  // of Wk and Wv of each layer in turn
  CacheSpec cache;                                   // of each layer
  int64_t layers = 1;                                // J
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

  MatrixSpec k_weight(int64_t layer) const { return weight(2 * layer); }
  MatrixSpec v_weight(int64_t layer) const { return weight(2 * layer + 1); }

 private:
  MatrixSpec weight(int64_t which) const {
    return sized(weights, which, cache.columns(), hidden.cols);
  }
};

std::vector<KvPropagateCase> kv_propagate_cases();

struct KvLayerInputs {
  HostTensor norm_weight, norm_bias, k_weight, k_bias, v_weight, v_bias;
  CacheTensors cache;  // as it is before the call
  int32_t index = 0;
};

struct KvPropagateInputs {
  HostTensor hidden, exit_layer, sequence, slot, position, table;
  std::vector<KvLayerInputs> layers;

  // Where entry `layer` of the list keeps `row`.
  int64_t slot_of(size_t layer, int64_t row) const;
  // Whether the row writes to its caches.
  bool owes(size_t layer, int64_t row) const;
};

KvPropagateInputs make_inputs(const KvPropagateCase& c);

// The caches of one layer after the call, flat; what no row writes keeps its value with bound 0.
struct KvLayerExpected {
  std::vector<Expected> k;
  std::vector<Expected> v;
  bool quantised = false;  // weights
};

std::vector<KvLayerExpected> kv_propagate_oracle(const KvPropagateCase& c,
                                                 const KvPropagateInputs& in);

// Outputs: k and v of each layer.
std::unique_ptr<Instance> instantiate(const KvPropagateCase& c, const KvPropagateInputs& in,
                                      int32_t device_type);
Complaint judge(const std::vector<KvLayerExpected>& expected, const Outputs& got);

}  // namespace kv_propagate_op
}  // namespace exn::test
