// SPDX-License-Identifier: Apache-2.0
// Oracles of the ops that score tokens and choose among them, in the manner of oracle.h.
#pragma once

#include <cstdint>
#include <vector>

#include "case_table_scores.h"
#include "oracle.h"

namespace exn::test {

// ---- selections ---------------------------------------------------------------------------------

// What a row keeps.
struct Choice {
  bool valid = true;
  std::vector<int64_t> kept;  // ascending
};

// Of a row's scores, by sorting them.
Choice choose(const std::vector<double>& scores, int64_t limit, const SelectionSpec& s,
              const SelectionInputs& in, int64_t row);

struct SelectExpected {
  std::vector<int32_t> indices;  // [R,K]
  std::vector<int32_t> count;    // [R]
  std::vector<uint8_t> valid;    // [R]

  void add(const Choice& choice, int64_t capacity);
};

SelectExpected select_oracle(const SelectCase& c, const SelectInputs& in);

// Whether scores within their bounds exist of which `got` is the choice. `hits` counts the columns
// that another choice than the one of the scores' values has put in the place of others.
struct ChoiceVerdict {
  bool permitted = false;
  int64_t hits = 0;
};

ChoiceVerdict judge_choice(const std::vector<Expected>& scores, int64_t limit,
                           const SelectionSpec& s, const SelectionInputs& in, int64_t row,
                           const Choice& got);

// ---- scores -------------------------------------------------------------------------------------

struct AttentionScoresExpected {
  std::vector<Expected> scores;  // [S,B,N]
  std::vector<int64_t> scored;   // [S]: leading columns that are scored
};

AttentionScoresExpected attention_scores_oracle(const AttentionScoresCase& c,
                                                const AttentionScoresInputs& in);

// What select makes of the scores that an implementation has handed out, [S,B,N].
SelectExpected selection_oracle(const AttentionScoresCase& c, const AttentionScoresInputs& in,
                                const AttentionScoresExpected& expected, const HostTensor& scores);

}  // namespace exn::test
