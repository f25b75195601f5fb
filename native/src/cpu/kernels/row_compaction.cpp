// SPDX-License-Identifier: Apache-2.0
// row_compaction on the CPU.
#include "base/args/row_compaction.h"
#include "rows.h"

namespace exn::cpu::EXN_ISA {
namespace {

exn_status check_list(const RowCompactionArgs& a) {
  const bool gather = a.direction == EXN_ROWS_GATHER;
  const int64_t rows = gather ? a.input.rows : a.out.rows;
  for (int64_t i = 0; i < a.listed; ++i) {
    if (a.list[i] < rows) continue;
    return fail(EXN_INVALID_ARGUMENT, "exn_row_compaction: list[%lld] is %d, but %s has %lld rows",
                static_cast<long long>(i), a.list[i], gather ? "input" : "out",
                static_cast<long long>(rows));
  }
  return EXN_OK;
}

// The threads share the columns: each passes through the list in its order, so that of two entries
// with one row the last one stays.
void scatter(const RowCompactionArgs& a) {
  const int64_t bytes = a.input.cols * size_of(a.input.dtype);
  constexpr int64_t kSlice = 2048;
  const int64_t slices = (bytes + kSlice - 1) / kSlice;
  parallel_for(slices, kCopyPiece / (a.listed * kSlice + 1) + 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kSlice, last = end * kSlice < bytes ? end * kSlice : bytes;
    for (int64_t i = 0; i < a.listed; ++i) {
      if (a.list[i] < 0) continue;
      std::memcpy(row_bytes(a.out, a.list[i]) + first, row_bytes(a.input, i) + first,
                  static_cast<size_t>(last - first));
    }
  });
}

}  // namespace

exn_status row_compaction(const RowCompactionArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_list(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "row_compaction"));
  if (a.direction == EXN_ROWS_SCATTER) {
    scatter(a);
  } else {
    for_rows(a.listed, a.input.cols * size_of(a.input.dtype), [&](int64_t i) {
      if (a.list[i] >= 0) copy_row(a.input, a.list[i], a.out, i);
    });
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
