// SPDX-License-Identifier: Apache-2.0
// hidden_stack on the CPU.
#include "../ids.h"
#include "base/args/hidden_stack.h"
#include "rows.h"

namespace exn::cpu::EXN_ISA {
namespace {

long long wide(int64_t x) { return static_cast<long long>(x); }

// The tags of a row or an entry, `step` elements apart.
struct Tags {
  int32_t* first;
  int64_t step;
};

void copy_tags(Tags from, Tags to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to.first[i * to.step] = from.first[i * from.step];
}

Tags tags_of_row(const HiddenStackArgs& a, int64_t row) { return {a.tags + row, a.rows.rows}; }

Tags tags_of_entry(const HiddenStackArgs& a, int64_t entry) {
  return {a.stack_tags + entry, a.stack.rows};
}

exn_status push(const HiddenStackArgs& a, int32_t* pushed) {
  const int64_t held = *a.count;
  int64_t rows = 0;
  for (int64_t row = 0; row < a.rows.rows; ++row) {
    if (a.mask == nullptr || a.mask[row] != 0) pushed[rows++] = static_cast<int32_t>(row);
  }
  if (held + rows > a.stack.rows) {
    return fail(EXN_INVALID_ARGUMENT,
                "exn_hidden_stack: count is %lld and %lld rows are pushed, but stack has %lld rows",
                wide(held), wide(rows), wide(a.stack.rows));
  }
  for_rows(rows, a.stack.cols * size_of(a.stack.dtype), [&](int64_t i) {
    copy_row(a.rows, pushed[i], a.stack, held + i);
    if (a.tags != nullptr)
      copy_tags(tags_of_row(a, pushed[i]), tags_of_entry(a, held + i), a.tag_count);
  });
  *a.count = static_cast<int32_t>(held + rows);
  return EXN_OK;
}

exn_status gather(const HiddenStackArgs& a) {
  const int64_t held = *a.count;
  if (held > a.rows.rows) {
    return fail(EXN_INVALID_ARGUMENT, "exn_hidden_stack: count is %lld, but rows has %lld rows",
                wide(held), wide(a.rows.rows));
  }
  for_rows(held, a.stack.cols * size_of(a.stack.dtype), [&](int64_t i) {
    copy_row(a.stack, i, a.rows, i);
    if (a.tags != nullptr) copy_tags(tags_of_entry(a, i), tags_of_row(a, i), a.tag_count);
  });
  if (a.tags == nullptr || held == a.rows.rows) return EXN_OK;
  for (int64_t tag = 0; tag < a.tag_count; ++tag) {
    for (int64_t i = held; i < a.rows.rows; ++i) a.tags[tag * a.rows.rows + i] = -1;
  }
  return EXN_OK;
}

}  // namespace

exn_status hidden_stack(const HiddenStackArgs& a, Workspace& ws) {
  int32_t* pushed = ws.take<int32_t>(a.action == EXN_STACK_PUSH ? a.rows.rows : 0);
  if (ws.counting()) return EXN_OK;
  exn_status status = EXN_OK;
  if (a.action == EXN_STACK_CLEAR) {
    *a.count = 0;
  } else {
    status = check_ids("exn_hidden_stack", "count", a.count, 1, 0, a.stack.rows);
    if (status == EXN_OK) status = a.action == EXN_STACK_PUSH ? push(a, pushed) : gather(a);
  }
  if (status != EXN_OK) return status;
  if (a.overflow != nullptr) *a.overflow = 0;
  ran(EXN_CPU_PATH(ws, "hidden_stack"));
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
