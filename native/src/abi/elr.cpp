// SPDX-License-Identifier: Apache-2.0
#include <exeunt/elr.h>

#include "backends.h"
#include "base/args/elr.h"
#include "logits.h"

namespace exn {
namespace {

void check_args(const exn_elr_params& p, Check& check, ElrArgs* a) {
  check.reserved(p.reserved);
  check.one_of("reduction", p.reduction, EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  check.share("beta", static_cast<double>(p.beta));
  check.not_negative("lambda", p.lambda);
  a->logits = check_logits(check, p.logits, kFloats);
  a->labels = check_labels(check, p.labels, a->logits);
  a->index = check.per_row<const int32_t>("index", p.index, kI32Only, Role::kIn,
                                          "the rows of logits", a->logits.rows);
  a->targets = check.matrix("targets", p.targets, kF32Only, Role::kInOut);
  check.same("targets", "columns", a->targets.cols, "logits", a->logits.cols);
  a->loss = check_loss(check, p.loss, kF32Only, p.reduction, a->logits);
  a->grad = check_twin(check, "grad", p.grad, a->logits, kFloats, Need::kOptional);
  a->ignore_index = p.ignore_index;
  a->beta = p.beta;
  a->lambda = p.lambda;
  a->reduction = p.reduction;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(elr, ElrArgs, check_args)
