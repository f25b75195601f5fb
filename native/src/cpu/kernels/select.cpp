// SPDX-License-Identifier: Apache-2.0
// select on the CPU: a row at a time, in L1 or L2.
#include "../ids.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

exn_status check_contents(const SelectArgs& a) {
  constexpr const char* kOp = "exn_select";
  exn_status status = check_ids(kOp, "limit", a.limit, a.scores.rows, 0, a.scores.cols);
  if (status == EXN_OK) status = check_selection(kOp, a.selection, a.scores.rows, a.scores.cols);
  return status;
}

template <class T>
void run_rows(const SelectArgs& a, const SelectionRooms& rooms) {
  const Selector selector(a.selection, a.scores.cols);
  const int64_t rows = a.scores.rows;
  // Fewer scores than this do not pay for waking a thread.
  constexpr int64_t kWorthSharing = 16384;
  const int64_t of_room = (rows + rooms.count - 1) / rooms.count;
  const int64_t chunk = kWorthSharing / (of_room * a.scores.cols + 1) + 1;
  parallel_for(rooms.count, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SelectionRoom room = rooms.room(i);
      for (int64_t row = i; row < rows; row += rooms.count) {
        const int64_t limit = a.limit != nullptr ? a.limit[row] : a.scores.cols;
        selector.run(row_of<T>(a.scores, row), row, limit, room);
      }
    }
  });
}

}  // namespace

exn_status select(const SelectArgs& a, Workspace& ws) {
  SelectionRooms rooms;
  rooms.take(ws, a.scores.rows, a.scores.cols);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("select"));
  if (a.scores.rows == 0 || !a.selection.writes()) return EXN_OK;
  with_float_type(a.scores.dtype, [&](auto type) { run_rows<EXN_TYPE_OF(type)>(a, rooms); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
