// SPDX-License-Identifier: Apache-2.0
// ffn_skip_rule on the CPU: one scalar pass over the rows, about 21 bytes each.
#include "base/args/ffn_skip_rule.h"
#include "isa.h"

namespace exn::cpu::EXN_ISA {

exn_status ffn_skip_rule(const FfnSkipRuleArgs& args, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const FfnSkipRuleArgs a = args;  // a copy that no store of bytes can alias
  ran(EXN_CPU_PATH(ws, "ffn_skip_rule"));
  const auto may_skip = [&](int32_t layer) { return layer >= a.cold_start && layer < a.cold_end; };
  const bool forget = a.layer < 0, measures = !forget && may_skip(a.layer) && a.threshold < 1,
             next = may_skip(a.layer + 1);
  // There are not more layers; a count from a state that was never forgotten stays in range.
  const int32_t budget = a.budget < 0 ? INT32_MAX : a.budget;
  for (int64_t row = 0; row < a.rows; ++row) {
    int32_t* state = a.state + row * EXN_FFN_SKIP_STATE_WORDS;
    int32_t skips = forget ? 0 : state[0];
    int32_t skipped = forget ? 0 : state[1];
    if (measures && a.cosine[row] >= a.threshold) skips = 1;  // NaN is no evidence
    const int32_t token = a.token != nullptr ? a.token[row] : a.token_index;
    const bool skip = next && skips == 1 && token >= a.warm_up && skipped < budget;
    state[0] = skips;
    state[1] = skipped + (skip ? 1 : 0);
    a.skip[row] = skip ? 1 : 0;
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
