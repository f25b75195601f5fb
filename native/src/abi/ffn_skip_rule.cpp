// SPDX-License-Identifier: Apache-2.0
#include <exeunt/ffn_skip_rule.h>

#include "backends.h"
#include "base/args/ffn_skip_rule.h"

namespace exn {
namespace {

void check_args(const exn_ffn_skip_rule_params& p, Check& check, FfnSkipRuleArgs* a) {
  const Vector state = check.flat("state", p.state, {2, 2}, kI32Only, Role::kInOut);
  if (!check.ok()) return;
  a->rows = p.state->shape[0];
  check.shape("state", p.state, {a->rows, EXN_FFN_SKIP_STATE_WORDS});
  a->state = static_cast<int32_t*>(state.data);
  check.at_least("model_layers", p.model_layers, 1);
  if (!check.ok()) return;
  check.one_of("layer", p.layer, -1, p.model_layers - 2);
  check.one_of("cold_start", p.cold_start, 0, p.model_layers);
  check.one_of("cold_end", p.cold_end, p.cold_start, p.model_layers);
  check.at_least("warm_up", p.warm_up, 0);
  check.at_least("token_index", p.token_index, 0);
  check.at_least("budget", p.budget, -1);
  check.not_nan("threshold", p.threshold);
  const Need cosine_needed = p.layer >= 0 ? Need::kRequired : Need::kOptional;
  a->cosine = check.per_row<const float>("cosine", p.cosine, kF32Only, Role::kIn,
                                         "the rows of state", a->rows, cosine_needed);
  a->token = check.per_row<const int32_t>("token", p.token, kI32Only, Role::kIn,
                                          "the rows of state", a->rows, Need::kOptional);
  a->skip =
      check.per_row<uint8_t>("skip", p.skip, kU8Only, Role::kOut, "the rows of state", a->rows);
  a->layer = p.layer;
  a->cold_start = p.cold_start;
  a->cold_end = p.cold_end;
  a->warm_up = p.warm_up;
  a->token_index = p.token_index;
  a->budget = p.budget;
  a->threshold = p.threshold;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(ffn_skip_rule, FfnSkipRuleArgs, check_args)
