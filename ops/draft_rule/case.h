// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "judge.h"

namespace exn::test {
inline namespace draft_rule_op {

struct DraftInputs {
  HostTensor score, token, stop_tokens;                                 // of a step
  HostTensor shadow_token, shadow_prob, final_token, columns, context;  // of an update
  HostTensor candidate, mask;                                           // of a reset, too
};

// Options of one call; its tensors are not looked at.
using DraftCall = exn_draft_rule_params;

// What draft_rule keeps of all sequences, in double precision from the header's formulas. A stop
// whose deciding quantity lies within its band of the threshold may go either way: the oracle then
// follows what was observed. A choice between TPLs within theirs it cannot follow, since no output
// shows the plan of each round: `undecided` says so.
class DraftOracle {
 public:
  struct Statistics {
    double matches = 0, mismatches = 0, match_sum = 0, mismatch_sum = 0;
  };
  struct Plan {
    int64_t candidate = 0, layers = 0, length = 1, updates = 0;
  };
  struct State {
    double accepted = 1;  // C
    int64_t length = 0;
    bool stopped = false;
  };
  // Relative, around DEL's tau and between TPLs: f32 sums of some hundred columns.
  static constexpr double kBand = 4e-6;

  DraftOracle(int64_t sequences, int64_t candidates)
      : states(static_cast<size_t>(sequences)),
        statistics(static_cast<size_t>(sequences * candidates)),
        plans(static_cast<size_t>(sequences)),
        candidates_(candidates) {}

  // Each takes one call. `observed` is who drafts next by the implementation, null: decide alone.
  void step(const DraftCall& call, const DraftInputs& in, const std::vector<uint8_t>* observed);
  void update(const DraftCall& call, const DraftInputs& in);
  void reset(const DraftInputs& in);

  std::vector<State> states;
  std::vector<Statistics> statistics;  // [S,K]
  std::vector<Plan> plans;
  // After a step or an update: who drafts next, and the step's lengths; -1 for a plan that makes no
  // sense, which a device puts up with.
  std::vector<uint8_t> drafting;
  std::vector<int64_t> lengths;

  int64_t band_hits = 0;
  int64_t decisions = 0;
  bool undecided = false;

 private:
  enum class Verdict { kGoOn, kStop, kEither };

  bool sound(size_t s) const {
    return plans[s].candidate >= 0 && plans[s].candidate < candidates_ && plans[s].length >= 0 &&
           plans[s].updates >= 0;
  }
  static Verdict below(double score, double threshold, double band);
  Verdict verdict(const DraftCall& call, double score, size_t s);
  void add_columns(const DraftCall& call, const DraftInputs& in, size_t s, int64_t columns);
  void choose(const DraftCall& call, const DraftInputs& in, size_t s);

  int64_t candidates_;
};

}  // namespace draft_rule_op
}  // namespace exn::test
