// SPDX-License-Identifier: Apache-2.0
#include <exeunt/token_bias.h>

#include <cfloat>

#include "backends.h"
#include "base/args/token_bias.h"

namespace exn {
namespace {

void check_args(const exn_token_bias_params& p, Check& check, TokenBiasArgs* a) {
  a->logits = check.matrix("logits", p.logits, kFloats, Role::kInOut);
  check.at_least("V (columns of logits)", a->logits.cols, 1);
  check.at_most("V (columns of logits)", a->logits.cols, INT32_MAX);
  const Vector ids = check.vector("ids", p.ids, kI32Only, Role::kIn);
  a->ids = static_cast<const int32_t*>(ids.data);
  a->count = ids.size;
  a->mask = check.per_row<const uint8_t>("mask", p.mask, kU8Only, Role::kIn, "the rows of logits",
                                         a->logits.rows, Need::kOptional);
  check.positive("scale", static_cast<double>(p.scale));
  check.not_nan("add", p.add);
  if (p.add > FLT_MAX) check.fail_argument("add is inf, expected a finite value or -inf");
  a->scale = p.scale;
  a->add = p.add;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(token_bias, TokenBiasArgs, check_args)
