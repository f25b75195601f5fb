// SPDX-License-Identifier: Apache-2.0
// select on the CPU: a row at a time, in L1 or L2. Heads are summed up where the selection has room
// for a row's scores, which it then finds in place.
#include "../ids.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {
namespace {

exn_status check_contents(const SelectArgs& a) {
  constexpr const char* kOp = "exn_select";
  exn_status status = check_ids(kOp, "limit", a.limit, a.rows(), 0, a.scores.cols);
  if (status == EXN_OK) status = check_selection(kOp, a.selection, a.rows(), a.scores.cols);
  return status;
}

// sum = from + the first kRows of `rows`, in this order; `from` may be `sum`.
template <int kRows, class From, class T>
void add_rows(const From* from, const T* rows, int64_t stride, int64_t n, float* sum) {
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v v = load_part(from + i, lanes, 0);
    for (int r = 0; r < kRows; ++r) v = add(v, load_part(rows + r * stride + i, lanes, 0));
    store_part(sum + i, v, lanes);
  });
}

// The sums of the first n columns of `count` rows, two or more. Rows are read in pieces so short
// that their sums stay in L1, and so long that the hardware sees where they go on.
template <class T>
void sum_rows(const T* rows, int64_t stride, int64_t count, int64_t n, float* sum) {
  constexpr int64_t kPiece = 4096;
  constexpr int kBeside = 4;
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t size = n - begin < kPiece ? n - begin : kPiece;
    const T* row = rows + begin;
    float* to = sum + begin;
    add_rows<1>(row, row + stride, stride, size, to);
    int64_t r = 2;
    for (; r + kBeside <= count; r += kBeside)
      add_rows<kBeside>(to, row + r * stride, stride, size, to);
    for (; r < count; ++r) add_rows<1>(to, row + r * stride, stride, size, to);
  }
}

template <class T>
void run_rows(const SelectArgs& a, const SelectionRooms& rooms) {
  const Selector selector(a.selection, a.scores.cols);
  const int64_t rows = a.rows();
  // Fewer scores than this do not pay for waking a thread.
  constexpr int64_t kWorthSharing = 16384;
  const int64_t of_room = (rows + rooms.count - 1) / rooms.count;
  const int64_t chunk = kWorthSharing / (of_room * a.heads * a.scores.cols + 1) + 1;
  parallel_for(rooms.count, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SelectionRoom room = rooms.room(i);
      for (int64_t row = i; row < rows; row += rooms.count) {
        const int64_t limit = a.limit != nullptr ? a.limit[row] : a.scores.cols;
        const T* scores = row_of<T>(a.scores, row * a.heads);
        if (a.heads == 1) {
          selector.run(scores, row, limit, room);
        } else {
          sum_rows(scores, a.scores.stride, a.heads, limit, room.score);
          selector.run<float>(room.score, row, limit, room);
        }
      }
    }
  });
}

}  // namespace

exn_status select(const SelectArgs& a, Workspace& ws) {
  SelectionRooms rooms;
  rooms.take(ws, a.rows(), a.scores.cols);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH("select"));
  if (a.rows() == 0 || !a.selection.writes()) return EXN_OK;
  with_float_type(a.scores.dtype, [&](auto type) { run_rows<EXN_TYPE_OF(type)>(a, rooms); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
