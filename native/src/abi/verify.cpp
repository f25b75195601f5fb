// SPDX-License-Identifier: Apache-2.0
#include <exeunt/verify.h>

#include "backends.h"
#include "base/args/verify.h"

namespace exn {
namespace {

// Compact, [S,K+1].
template <class T>
T* per_row_of(const VerifyArgs& a, Check& check, const char* name, const DLTensor* t,
              DTypes allowed, Role role, Need need = Need::kRequired) {
  if (t == nullptr && need == Need::kOptional) return nullptr;
  const Matrix m = check.matrix(name, t, allowed, role);
  check.same(name, "rows", m.rows, "drafted", a.sequences);
  check.same(name, "columns", m.cols, "K + 1 of drafted", a.most + 1);
  if (m.rows > 1) check.same(name, "elements between rows", m.stride, "a compact one", m.cols);
  return static_cast<T*>(m.data);
}

void check_greedy(const exn_verify_params& p, Check& check, VerifyArgs* a) {
  check.absent("draft", p.draft, "argmax leaves nothing to chance");
  check.absent("uniform", p.uniform, "argmax leaves nothing to chance");
  a->argmax = check.per_row<const int32_t>("argmax", p.argmax, kI32Only, Role::kIn,
                                           "S (K + 1) of drafted", a->rows);
  a->vocabulary = p.vocabulary;
}

void check_sampled(const exn_verify_params& p, Check& check, VerifyArgs* a) {
  a->logits = check.matrix("logits", p.logits, kFloats, Role::kIn);
  check.same("logits", "rows", a->logits.rows, "S (K + 1) of drafted", a->rows);
  check.at_least("V (columns of logits)", a->logits.cols, 1);
  check.at_most("V (columns of logits)", a->logits.cols, INT32_MAX);
  if (p.vocabulary != 0) {
    check.same("logits", "columns", a->logits.cols, "vocabulary", p.vocabulary);
  }
  a->vocabulary = a->logits.cols;
  check.positive("temperature", static_cast<double>(p.temperature));
  a->temperature = p.temperature;
  a->uniform = per_row_of<const float>(*a, check, "uniform", p.uniform, kF32Only, Role::kIn);
  if (p.draft == nullptr) return;
  a->draft = check.matrix("draft", p.draft, kFloats, Role::kIn);
  check.same("draft", "rows", a->draft.rows, "S K of drafted", a->sequences * a->most);
  check.same("draft", "columns", a->draft.cols, "logits", a->logits.cols);
  a->probabilities = p.draft_kind == EXN_DRAFT_PROBABILITIES;
  if (a->probabilities) return;
  check.positive("draft_temperature", static_cast<double>(p.draft_temperature));
  a->draft_temperature = p.draft_temperature;
}

void check_counters(const exn_verify_params& p, Check& check, VerifyArgs* a) {
  const auto counter = [&](const char* name, const DLTensor* t, Role role, Need need) {
    return check.per_row<int32_t>(name, t, kI32Only, role, "the rows of drafted", a->sequences,
                                  need);
  };
  a->accepted = counter("accepted", p.accepted, Role::kOut, Need::kRequired);
  a->token = counter("token", p.token, Role::kInOut, Need::kRequired);
  a->out = per_row_of<int32_t>(*a, check, "out", p.out, kI32Only, Role::kOut, Need::kOptional);
  a->out_count = counter("out_count", p.out_count, Role::kOut, Need::kOptional);
  a->last_row = counter("last_row", p.last_row, Role::kOut, Need::kOptional);
  a->outcome = counter("outcome", p.outcome, Role::kOut, Need::kOptional);
  a->length = counter("length", p.length, Role::kInOut, Need::kOptional);
  a->position = counter("position", p.position, Role::kInOut, Need::kOptional);
  a->active = check.per_row<uint8_t>("active", p.active, kU8Only, Role::kInOut,
                                     "the rows of drafted", a->sequences, Need::kOptional);
  if (p.capacity == 0) return;
  check.at_least("capacity", p.capacity, a->most + 1);
  check.at_most("capacity", p.capacity, INT32_MAX);
  if (p.length == nullptr) {
    check.fail_argument("length is null, but capacity is %lld", static_cast<long long>(p.capacity));
  }
  a->capacity = p.capacity;
}

void check_args(const exn_verify_params& p, Check& check, VerifyArgs* a) {
  check.reserved(p.reserved);
  check.one_of("draft_kind", p.draft_kind, EXN_DRAFT_LOGITS, EXN_DRAFT_PROBABILITIES);
  check.at_least("vocabulary", p.vocabulary, 0);
  check.at_most("vocabulary", p.vocabulary, INT32_MAX);
  const Matrix drafted = check.matrix("drafted", p.drafted, kI32Only, Role::kIn);
  if (drafted.rows > 1) {
    check.same("drafted", "elements between rows", drafted.stride, "a compact one", drafted.cols);
  }
  check.at_most("K (columns of drafted)", drafted.cols, INT32_MAX - 1);
  a->drafted = static_cast<const int32_t*>(drafted.data);
  a->sequences = drafted.rows;
  a->most = drafted.cols;
  a->rows = product(drafted.rows, drafted.cols + 1);
  check.at_most("S (K + 1) of drafted", a->rows, INT32_MAX);  // last_row is i32
  if (!check.ok()) return;
  if ((p.argmax == nullptr) == (p.logits == nullptr)) {
    check.fail_argument("argmax and logits are %s, expected one of them",
                        p.argmax == nullptr ? "null" : "both given");
    return;
  }
  p.argmax != nullptr ? check_greedy(p, check, a) : check_sampled(p, check, a);
  a->draft_length =
      check.per_row<const int32_t>("draft_length", p.draft_length, kI32Only, Role::kIn,
                                   "the rows of drafted", a->sequences, Need::kOptional);
  const Vector stop = check.vector("stop", p.stop, kI32Only, Role::kIn, Need::kOptional);
  a->stop = static_cast<const int32_t*>(stop.data);
  a->stops = stop.size;
  check_counters(p, check, a);
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(verify, VerifyArgs, check_args)
