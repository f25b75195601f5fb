// SPDX-License-Identifier: Apache-2.0
#include <exeunt/hidden_stack.h>

#include "backends.h"
#include "base/args/hidden_stack.h"

namespace exn {
namespace {

void check_tags(const exn_hidden_stack_params& p, Check& check, HiddenStackArgs* a) {
  const Role role = p.action == EXN_STACK_PUSH ? Role::kIn : Role::kOut;
  const Vector stacked = check.flat("stack_tags", p.stack_tags, {2, 2}, kI32Only, Role::kInOut);
  if (!check.ok()) return;
  a->tag_count = p.stack_tags->shape[0];
  check.at_least("M (rows of stack_tags)", a->tag_count, 1);
  check.shape("stack_tags", p.stack_tags, {a->tag_count, a->stack.rows});
  a->stack_tags = static_cast<int32_t*>(stacked.data);
  if (p.action == EXN_STACK_CLEAR) return;
  const Vector tags = check.flat("tags", p.tags, {2, 2}, kI32Only, role);
  check.shape("tags", p.tags, {a->tag_count, a->rows.rows});
  a->tags = static_cast<int32_t*>(tags.data);
}

void check_args(const exn_hidden_stack_params& p, Check& check, HiddenStackArgs* a) {
  check.reserved(p.reserved);
  check.one_of("action", p.action, EXN_STACK_PUSH, EXN_STACK_CLEAR);
  a->stack = check.matrix("stack", p.stack, kFloats, Role::kInOut);
  a->count = check.per_row<int32_t>("count", p.count, kI32Only, Role::kInOut, "a count", 1);
  a->overflow = check.per_row<int32_t>("overflow", p.overflow, kI32Only, Role::kOut, "a count", 1,
                                       Need::kOptional);
  check.at_most("C (rows of stack)", a->stack.rows, INT32_MAX);
  if (p.action == EXN_STACK_CLEAR) {
    check.absent("rows", p.rows, "action is EXN_STACK_CLEAR (2)");
  } else {
    a->rows =
        check.matrix("rows", p.rows, kFloats, p.action == EXN_STACK_PUSH ? Role::kIn : Role::kOut);
    check.same("rows", "columns", a->rows.cols, "stack", a->stack.cols);
    check.same_dtype("rows", a->rows.dtype, "stack", a->stack.dtype);
    check.at_most("R (rows of rows)", a->rows.rows, INT32_MAX);
  }
  if (p.action != EXN_STACK_PUSH) check.absent("mask", p.mask, "action is not EXN_STACK_PUSH (0)");
  a->mask = check.per_row<const uint8_t>("mask", p.mask, kU8Only, Role::kIn, "the rows of rows",
                                         a->rows.rows, Need::kOptional);
  if (p.stack_tags == nullptr) check.absent("tags", p.tags, "stack_tags is null");
  if (p.stack_tags != nullptr) check_tags(p, check, a);
  a->action = p.action;
}

}  // namespace
}  // namespace exn

EXN_DEFINE_OP(hidden_stack, HiddenStackArgs, check_args)
