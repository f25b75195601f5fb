// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "judge.h"

namespace exn::test {
inline namespace exit_rule_op {

struct ExitRuleInputs {
  HostTensor score, label, valid, step;
};

// Options of one call; its tensors are not looked at.
using ExitRuleCall = exn_exit_rule_params;

// The state machine of all rows, written from the header's formulas in its arithmetic, f32. A
// decision whose deciding quantity lies within kDecisionBand (relative) of the threshold, but not
// on it, may go either way, because a fused multiply-add or another exp may tip it: the oracle then
// follows what was observed and counts a band hit. Comparisons of unprocessed scores have no band.
// An invalid row or a NaN score leaves the rule's state as it is.
class ExitRuleOracle {
 public:
  static constexpr double kDecisionBand = 1e-6;

  explicit ExitRuleOracle(int64_t rows) : rows_(static_cast<size_t>(rows)) {}

  // Takes one call. `observed_mask` is what the implementation decided (null: none, decide
  // alone). Returns false if that is not a permitted outcome; mask(), active() and
  // exit_layer() then hold the oracle's.
  bool step(const ExitRuleCall& call, const ExitRuleInputs& in,
            const std::vector<uint8_t>* observed_mask);

  const std::vector<uint8_t>& mask() const { return mask_; }
  std::vector<int32_t> active() const;
  bool left(int64_t row) const { return rows_[static_cast<size_t>(row)].left; }
  int32_t exit_layer(int64_t row) const { return rows_[static_cast<size_t>(row)].exit_layer; }
  int64_t band_hits() const { return band_hits_; }
  int64_t decisions() const { return decisions_; }

 private:
  enum class Verdict { kStay, kLeave, kEither };

  struct RowState {
    bool left = false;
    int32_t exit_layer = -1;
    int64_t calls = 0;
    int64_t counter = 0;
    bool has_previous = false;
    int64_t previous_label = 0;
    float previous_score = 0;
    float product = 1;  // of (1 - lambda), (1 - a) or c
    float sum = 0;      // of g
  };

  static Verdict against(float value, int32_t comparator, float threshold, double band);
  static Verdict over_threshold(const ExitRuleCall& call, const ExitRuleInputs& in, int64_t row);
  static Verdict patience(const ExitRuleCall& call, const ExitRuleInputs& in, int64_t row,
                          RowState* s);
  static Verdict quantile(const ExitRuleCall& call, float lambda, RowState* s);
  static Verdict jei(const ExitRuleCall& call, float g, RowState* s);
  static Verdict specdec(const ExitRuleCall& call, float p, RowState* s);
  static Verdict verdict(const ExitRuleCall& call, const ExitRuleInputs& in, int64_t row,
                         RowState* s);

  // What the rows' verdicts make of an active row under a scope.
  Verdict scoped(const ExitRuleCall& call, const std::vector<Verdict>& verdicts, size_t row) const;

  std::vector<RowState> rows_;
  std::vector<uint8_t> mask_;
  int64_t band_hits_ = 0;
  int64_t decisions_ = 0;
};

}  // namespace exit_rule_op
}  // namespace exn::test
