// SPDX-License-Identifier: Apache-2.0
#include <exeunt/prune.h>

#include "backends.h"
#include "base/args/prune.h"

namespace exn {

template <>
constexpr Noting kNoting<PruneMaskArgs> = Noting::kOutputs;
template <>
constexpr int kMostRanges<PruneMaskArgs> = EXN_PRUNE_MAX_TENSORS;
template <>
constexpr Noting kNoting<PruneApplyArgs> = Noting::kOutputs;
template <>
constexpr int kMostRanges<PruneApplyArgs> = kPruned * EXN_PRUNE_MAX_TENSORS;

namespace {

// How many of n elements are pruned.
int64_t wanted_of(const exn_prune_mask_params& p, int64_t n) {
  const auto all = static_cast<double>(n);
  double wanted = std::nearbyint(p.ratio * all);
  if (p.rounding == EXN_PRUNE_DOWN) {
    wanted = p.which == EXN_PRUNE_LARGEST ? all - std::floor((1 - p.ratio) * all)
                                          : std::floor(p.ratio * all);
  }
  return static_cast<int64_t>(wanted);
}

void same_shape(Check& check, const char* name, const Matrix& m, const char* because,
                const Matrix& expected) {
  check.same(name, "rows", m.rows, because, expected.rows);
  check.same(name, "columns", m.cols, because, expected.cols);
}

// Elements that lie in one run, whatever their rows.
bool is_compact(const Matrix& m) { return m.rows <= 1 || m.stride == m.cols; }

PruneTensor check_mask_tensor(const exn_prune_mask_params& p, int32_t which, Check& check) {
  const exn_prune_mask_tensor& from = p.tensors[which];
  check.enter("tensors", which);
  const Matrix weight = check.matrix("weight", from.weight, kFloats, Role::kIn);
  const Matrix mask = check.matrix("mask", from.mask, kU8Only, Role::kInOut);
  same_shape(check, "mask", mask, "weight", weight);
  PruneTensor to;
  to.norm = check.coefficients("norm", from.norm, "the columns of weight", weight.cols);
  check.leave();
  to.weight = weight.data;
  to.dtype = weight.dtype;
  to.mask = static_cast<uint8_t*>(mask.data);
  to.rows = weight.rows;
  to.cols = weight.cols;
  to.stride = weight.stride;
  to.mask_stride = mask.stride;
  to.wanted = wanted_of(p, p.scope == EXN_PRUNE_ROW ? to.cols : to.size());
  if (p.scope != EXN_PRUNE_ROW && to.norm == nullptr && is_compact(weight) && is_compact(mask)) {
    to.cols = to.size();
    to.rows = 1;
  }
  return to;
}

void check_count(Check& check, int32_t count, const void* tensors) {
  check.one_of("tensor_count", count, 1, EXN_PRUNE_MAX_TENSORS);
  if (check.ok() && tensors == nullptr) {
    check.fail_argument("tensors is null, %d tensors are expected", count);
  }
}

void check_mask_args(const exn_prune_mask_params& p, Check& check, PruneMaskArgs* a) {
  check.reserved(p.reserved);
  if (!(p.ratio >= 0 && p.ratio <= 1)) {
    check.fail_argument("ratio is %g, expected 0..1", p.ratio);
  }
  check.one_of("scope", p.scope, EXN_PRUNE_ROW, EXN_PRUNE_GLOBAL);
  check.one_of("which", p.which, EXN_PRUNE_SMALLEST, EXN_PRUNE_LARGEST);
  check.one_of("rounding", p.rounding, EXN_PRUNE_DOWN, EXN_PRUNE_NEAREST);
  check.one_of("first", p.first, 0, 1);
  check_count(check, p.tensor_count, p.tensors);
  int64_t all = 0, most = 0;
  for (int32_t i = 0; check.ok() && i < p.tensor_count; ++i) {
    const PruneTensor& tensor = a->tensors[i] = check_mask_tensor(p, i, check);
    const int64_t scope = p.scope == EXN_PRUNE_ROW ? tensor.cols : tensor.size();
    all += tensor.size();
    most = scope > most ? scope : most;
  }
  check.at_most("elements of a scope", p.scope == EXN_PRUNE_GLOBAL ? all : most, INT32_MAX);
  a->tensor_count = p.tensor_count;
  a->scope = p.scope;
  a->largest = p.which == EXN_PRUNE_LARGEST;
  a->first = p.first != 0;
  a->wanted = check.ok() ? wanted_of(p, all) : 0;
}

PruneApplyTensor check_apply_tensor(const exn_prune_apply_tensor& from, int32_t which,
                                    Check& check) {
  struct Named {
    const char* name;
    const DLTensor* tensor;
  };
  const Named pruned[kPruned] = {{"weight", from.weight},
                                 {"grad", from.grad},
                                 {"momentum", from.momentum},
                                 {"variance", from.variance}};
  check.enter("tensors", which);
  const Matrix mask = check.matrix("mask", from.mask, kU8Only, Role::kIn);
  bool compact = is_compact(mask);
  PruneApplyTensor to;
  for (const Named& given : pruned) {
    const Matrix m =
        check.matrix(given.name, given.tensor, kFloatsAndF64, Role::kInOut, Need::kOptional);
    if (given.tensor == nullptr) continue;
    same_shape(check, given.name, m, "mask", mask);
    compact = compact && is_compact(m);
    to.values[to.count++] = {m.data, m.stride, size_of(m.dtype)};
  }
  check.leave();
  to.mask = static_cast<const uint8_t*>(mask.data);
  to.mask_stride = mask.stride;
  to.rows = compact ? 1 : mask.rows;
  to.cols = compact ? mask.rows * mask.cols : mask.cols;
  return to;
}

void check_apply_args(const exn_prune_apply_params& p, Check& check, PruneApplyArgs* a) {
  check.reserved(p.reserved);
  check_count(check, p.tensor_count, p.tensors);
  for (int32_t i = 0; check.ok() && i < p.tensor_count; ++i) {
    a->tensors[i] = check_apply_tensor(p.tensors[i], i, check);
  }
  a->tensor_count = p.tensor_count;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(prune_mask, PruneMaskArgs, check_mask_args)
EXN_DEFINE_OP(prune_apply, PruneApplyArgs, check_apply_args)
