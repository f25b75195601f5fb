// SPDX-License-Identifier: Apache-2.0
#include <exeunt/row_stats.h>

#include "backends.h"
#include "base/args/row_stats.h"

namespace exn {
namespace {

void check_args(const exn_row_stats_params& p, Check& check, RowStatsArgs* a) {
  a->logits = check.matrix("logits", p.logits, kFloats, Role::kIn);
  check.at_least("V (columns of logits)", a->logits.cols, 1);
  check.at_most("V (columns of logits)", a->logits.cols, INT32_MAX);
  check_normalizer(check, p.normalizer, p.temperature, p.softcap);
  check.one_of("reserved", p.reserved, 0, 0);
  a->normalizer = p.normalizer;
  a->temperature = p.temperature;
  a->softcap = p.softcap;
  a->out = read_stats(check, p.out, a->logits.rows, p.normalizer);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(row_stats, RowStatsArgs, check_args)
