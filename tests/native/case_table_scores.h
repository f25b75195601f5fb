// SPDX-License-Identifier: Apache-2.0
// Cases and inputs of the ops that score tokens and choose among them.
// ops/README.md is the specification.
#pragma once

#include "case_table_cache.h"

namespace exn::test {

// ---- a selection --------------------------------------------------------------------------------

enum SelectOutput { kSelectCount, kSelectValid };

struct SelectionSpec {
  int64_t k = 0;
  int64_t capacity = 0;  // K
  std::string budget = "-";
  std::vector<int64_t> segments;  // empty: none
  std::string keep = "-";
  std::string drop = "-";
  uint32_t outputs = 3;

  int64_t segment_count() const {
    return segments.empty() ? 1 : static_cast<int64_t>(segments.size()) - 1;
  }
};

// A tensor that the case leaves out has an empty shape.
struct SelectionInputs {
  HostTensor budget, segments, keep, drop;
};

// For R rows of N columns.
SelectionInputs make_selection(const SelectionSpec& s, int64_t rows, int64_t columns,
                               uint64_t seed);

// ---- cases --------------------------------------------------------------------------------------

struct SelectCase : CaseBase {
  MatrixSpec scores;  // of all heads
  int64_t heads = 0;
  std::string limit;
  SelectionSpec selection;

  int64_t summed() const { return heads > 1 ? heads : 1; }
  int64_t rows() const { return scores.rows / summed(); }
};

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
    return reduction == EXN_HEADS_EACH ? query_heads
           : reduction == EXN_HEADS_GROUP_SUM ? cache.heads : 1;
  }
  int64_t score_rows() const { return prompts() * score_heads(); }
};

std::vector<SelectCase> select_cases();
std::vector<AttentionScoresCase> attention_scores_cases();

// ---- inputs -------------------------------------------------------------------------------------

struct SelectInputs {
  HostTensor scores, limit;
  SelectionInputs selection;
};

struct AttentionScoresInputs {
  HostTensor query;
  CacheTensors cache;  // v is full of NaN
  HostTensor sequence, visible, limit;
  HostTensor scores;  // [S,B,N] before the call, if asked for; with accumulate what is added to
  SelectionInputs selection;
};

SelectInputs make_inputs(const SelectCase& c);
AttentionScoresInputs make_inputs(const AttentionScoresCase& c);

}  // namespace exn::test
