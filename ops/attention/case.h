// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache.h"

namespace exn::test {
inline namespace attention_op {

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
  bool batch_invariant = false;
};

std::vector<AttentionCase> attention_cases();

struct AttentionInputs {
  HostTensor query;
  CacheTensors cache;
  HostTensor sequence, visible;
};

AttentionInputs make_inputs(const AttentionCase& c);

// Of as many rows as the inputs have. Outputs are out and, if asked for, scores.
std::unique_ptr<Instance> instantiate(const AttentionCase& c, const AttentionInputs& in,
                                      int32_t device_type);

}  // namespace attention_op
}  // namespace exn::test
