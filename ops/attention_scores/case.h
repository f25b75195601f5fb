// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cache.h"
#include "selection.h"

namespace exn::test {
inline namespace attention_scores_op {

struct AttentionScoresCase : CaseBase {
  int64_t window = 1;
  MatrixSpec query;  // prompts * window rows of H * dh columns
  int64_t query_heads = 1;
  CacheSpec cache;
  float key_scale = 1;
  std::string cache_special = "-";
  std::string sequence;
  std::string visible;
  std::string limit;
  int64_t columns = 0;
  int64_t first = 0;
  float scale = 1;
  int32_t kind = EXN_SCORE_RAW;
  int32_t reduction = EXN_HEADS_EACH;
  int32_t pool = EXN_POOL_NONE;
  int32_t pool_width = 0;
  bool accumulate = false;
  bool scores = true;
  bool selects = false;
  SelectionSpec selection;

  int64_t prompts() const { return query.rows / window; }
  int64_t score_heads() const {
    return reduction == EXN_HEADS_EACH        ? query_heads
           : reduction == EXN_HEADS_GROUP_SUM ? cache.heads
                                              : 1;
  }
  int64_t score_rows() const { return prompts() * score_heads(); }
};

struct AttentionScoresInputs {
  HostTensor query;
  CacheTensors cache;  // v is full of NaN
  HostTensor sequence, visible, limit;
  HostTensor scores;  // [S,B,N] before the call, if asked for; with accumulate what is added to
  SelectionInputs selection;
};

std::vector<AttentionScoresCase> attention_scores_cases();
AttentionScoresInputs make_inputs(const AttentionScoresCase& c);

struct AttentionScoresExpected {
  std::vector<Expected> scores;  // [S,B,N]
  std::vector<int64_t> scored;   // [S]: leading columns that are scored
};

AttentionScoresExpected attention_scores_oracle(const AttentionScoresCase& c,
                                                const AttentionScoresInputs& in);

// What select makes of the scores that an implementation has handed out, [S,B,N].
SelectExpected selection_oracle(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                                const AttentionScoresExpected& expected, const HostTensor& scores);

}  // namespace attention_scores_op
}  // namespace exn::test
