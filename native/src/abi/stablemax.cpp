// SPDX-License-Identifier: Apache-2.0
#include <exeunt/stablemax.h>

#include "backends.h"
#include "base/args/stablemax.h"
#include "logits.h"

namespace exn {
namespace {

void check_forward(const exn_stablemax_params& p, Check& check, StableMaxArgs* a) {
  a->logits = check_logits(check, p.logits, kFloatsAndF64);
  a->out = check_twin(check, "out", p.out, a->logits, kFloatsAndF64, Need::kRequired);
  check.one_of("normalizer", p.normalizer, EXN_SOFTMAX, EXN_STABLEMAX);
  check.one_of("log", p.log, 0, 1);
  a->normalizer = p.normalizer;
  a->log = p.log != 0;
}

void check_cross_entropy(const exn_cross_entropy_params& p, Check& check, CrossEntropyArgs* a) {
  a->logits = check_logits(check, p.logits, kFloatsAndF64);
  a->labels = check_labels(check, p.labels, a->logits);
  check.one_of("normalizer", p.normalizer, EXN_SOFTMAX, EXN_STABLEMAX);
  check.one_of("reduction", p.reduction, EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  if (p.loss == nullptr && p.grad == nullptr) {
    check.fail_argument("loss and grad are both null, expected at least 1 output");
  }
  const bool wide = a->logits.dtype == DType::kF64;
  a->loss = check_loss(check, p.loss, wide ? bit(DType::kF64) : kF32Only, p.reduction, a->logits);
  a->grad = check_twin(check, "grad", p.grad, a->logits, kFloatsAndF64, Need::kOptional);
  a->ignore_index = p.ignore_index;
  a->normalizer = p.normalizer;
  a->reduction = p.reduction;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(stablemax, StableMaxArgs, check_forward)
EXN_DEFINE_OP(cross_entropy, CrossEntropyArgs, check_cross_entropy)
