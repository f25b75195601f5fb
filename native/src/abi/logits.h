// SPDX-License-Identifier: Apache-2.0
// What is checked alike wherever logits, and what takes their place, are arguments.
#pragma once

#include "check.h"

namespace exn {

inline Matrix check_logits(Check& check, const DLTensor* t, DTypes allowed) {
  const Matrix logits = check.matrix("logits", t, allowed, Role::kIn);
  check.at_least("V (columns of logits)", logits.cols, 1);
  check.at_most("V (columns of logits)", logits.cols, INT32_MAX);
  return logits;
}

// A matrix that takes the shape and dtype of the logits and may replace them in place.
inline Matrix check_twin(Check& check, const char* name, const DLTensor* t, const Matrix& logits,
                         DTypes allowed, Need need) {
  const Matrix twin = check.matrix(name, t, allowed, Role::kOut, need);
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

inline Vector check_labels(Check& check, const DLTensor* t, const Matrix& logits) {
  const Vector labels = check.vector("labels", t, kLabels, Role::kIn);
  check.same("labels", "elements", labels.size, "the rows of logits", logits.rows);
  return labels;
}

// Optional: of each row, or the mean.
inline Vector check_loss(Check& check, const DLTensor* t, DTypes allowed, int32_t reduction,
                         const Matrix& logits) {
  const Vector loss = check.vector("loss", t, allowed, Role::kOut, Need::kOptional);
  if (t == nullptr) return loss;
  const bool mean = reduction == EXN_REDUCE_MEAN;
  check.same("loss", "elements", loss.size, mean ? "the mean" : "the rows of logits",
             mean ? 1 : logits.rows);
  return loss;
}

}  // namespace exn
