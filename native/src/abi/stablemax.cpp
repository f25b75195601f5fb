// SPDX-License-Identifier: Apache-2.0
#include <exeunt/stablemax.h>

#include "backends.h"
#include "base/args/stablemax.h"

namespace exn {
namespace {

Matrix check_logits(Check& check, const DLTensor* t) {
  const Matrix logits = check.matrix("logits", t, kFloatsAndF64, Role::kIn);
  check.at_least("V (columns of logits)", logits.cols, 1);
  check.at_most("V (columns of logits)", logits.cols, INT32_MAX);
  return logits;
}

// A matrix that takes the shape and dtype of the logits and may replace them in place.
Matrix check_twin(Check& check, const char* name, const DLTensor* t, const Matrix& logits,
                  Need need) {
  const Matrix twin = check.matrix(name, t, kFloatsAndF64, Role::kOut, need);
  if (t == nullptr) return twin;
  check.same(name, "rows", twin.rows, "logits", logits.rows);
  check.same(name, "columns", twin.cols, "logits", logits.cols);
  check.same_dtype(name, twin.dtype, "logits", logits.dtype);
  if (twin.data == logits.data) {
    check.same(name, "elements between rows", twin.stride, "logits, the same memory,",
               logits.stride);
  }
  check.may_alias(name, "logits");
  return twin;
}

void check_forward(const exn_stablemax_params& p, Check& check, StableMaxArgs* a) {
  a->logits = check_logits(check, p.logits);
  a->out = check_twin(check, "out", p.out, a->logits, Need::kRequired);
  check.one_of("normalizer", p.normalizer, EXN_SOFTMAX, EXN_STABLEMAX);
  check.one_of("log", p.log, 0, 1);
  a->normalizer = p.normalizer;
  a->log = p.log != 0;
}

void check_cross_entropy(const exn_cross_entropy_params& p, Check& check, CrossEntropyArgs* a) {
  a->logits = check_logits(check, p.logits);
  a->labels = check.vector("labels", p.labels, kLabels, Role::kIn);
  check.same("labels", "elements", a->labels.size, "the rows of logits", a->logits.rows);
  check.one_of("normalizer", p.normalizer, EXN_SOFTMAX, EXN_STABLEMAX);
  check.one_of("reduction", p.reduction, EXN_REDUCE_NONE, EXN_REDUCE_MEAN);
  if (p.loss == nullptr && p.grad == nullptr) {
    check.fail_argument("loss and grad are both null, expected at least 1 output");
  }
  const bool wide = a->logits.dtype == DType::kF64;
  a->loss =
      check.vector("loss", p.loss, wide ? bit(DType::kF64) : kF32Only, Role::kOut, Need::kOptional);
  if (p.loss != nullptr) {
    const bool mean = p.reduction == EXN_REDUCE_MEAN;
    check.same("loss", "elements", a->loss.size, mean ? "the mean" : "the rows of logits",
               mean ? 1 : a->logits.rows);
  }
  a->grad = check_twin(check, "grad", p.grad, a->logits, Need::kOptional);
  a->ignore_index = p.ignore_index;
  a->normalizer = p.normalizer;
  a->reduction = p.reduction;
}

constexpr Op<exn_stablemax_params, StableMaxArgs> kForward{"exn_stablemax", check_forward,
                                                           &Backend::stablemax};
constexpr Op<exn_cross_entropy_params, CrossEntropyArgs> kCrossEntropy{
    "exn_cross_entropy", check_cross_entropy, &Backend::cross_entropy};

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(stablemax, exn::kForward)
EXN_DEFINE_OP(cross_entropy, exn::kCrossEntropy)
