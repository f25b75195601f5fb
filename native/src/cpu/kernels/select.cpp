// SPDX-License-Identifier: Apache-2.0
// select on the CPU: a row at a time, in L1 or L2; a long one by all threads where there are fewer
// rows than threads. Heads are summed up where the selection's scratch has space for a row's
// scores, which it then finds in place.
#include "../ids.h"
#include "base/args/select.h"
#include "selection.h"

namespace exn::cpu::EXN_ISA {

template void Selector::run(const float*, int64_t, int64_t, const SelectionScratch&, bool) const;

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

// Columns that are summed at a time: their sums stay in L1 while the heads are read, each in a run
// that the hardware sees coming.
constexpr int64_t kSumPiece = 512;

int64_t limit_of(const SelectArgs& a, int64_t row) {
  return a.limit != nullptr ? a.limit[row] : a.scores.cols;
}

// The sums of a row's heads, of which there are several, over the piece that begins at `first`.
template <class T>
void sum_piece(const SelectArgs& a, int64_t row, int64_t first, float* sums) {
  constexpr int kBeside = 4;
  const int64_t rest = limit_of(a, row) - first, n = rest < kSumPiece ? rest : kSumPiece;
  const int64_t stride = a.scores.stride;
  const T* head = row_of<T>(a.scores, row * a.heads) + first;
  float* to = sums + first;
  add_rows<1>(head, head + stride, stride, n, to);
  int64_t h = 2;
  for (; h + kBeside <= a.heads; h += kBeside)
    add_rows<kBeside>(to, head + h * stride, stride, n, to);
  for (; h < a.heads; ++h) add_rows<1>(to, head + h * stride, stride, n, to);
}

// Fewer scores than this do not pay for waking a thread; sums take a fraction of the time.
constexpr int64_t kWorthSharing = 16384;
constexpr int64_t kWorthSumming = 32768;

// The sums of all rows, where each has a scratch of its own. Threads share out the columns: of rows
// there may be one.
template <class T>
void sum_rows(const SelectArgs& a, const SelectionScratches& scratches) {
  const int64_t pieces = (a.scores.cols + kSumPiece - 1) / kSumPiece;
  const int64_t chunk = kWorthSumming / kSumPiece / a.heads + 1;
  parallel_for(a.rows() * pieces, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      sum_piece<T>(a, i / pieces, i % pieces * kSumPiece, scratches.at(i / pieces).score);
  });
}

template <class T>
void run_rows(const SelectArgs& a, const SelectionScratches& scratches) {
  const Selector selector(a.selection, a.scores.cols);
  const int64_t rows = a.rows();
  const bool summed = a.heads > 1 && rows == scratches.count;
  if (summed) sum_rows<T>(a, scratches);
  const int64_t of_scratch = (rows + scratches.count - 1) / scratches.count;
  const int64_t scores = (summed ? 1 : a.heads) * a.scores.cols;
  // Loops do not nest: threads share either the rows or what is in each.
  const bool shared = selector.shares(rows);
  const int64_t chunk = shared ? scratches.count : kWorthSharing / (of_scratch * scores + 1) + 1;
  parallel_for(scratches.count, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SelectionScratch scratch = scratches.at(i);
      for (int64_t row = i; row < rows; row += scratches.count) {
        const int64_t limit = limit_of(a, row);
        if (a.heads == 1) {
          selector.run(row_of<T>(a.scores, row), row, limit, scratch, shared);
          continue;
        }
        for (int64_t first = 0; !summed && first < limit; first += kSumPiece)
          sum_piece<T>(a, row, first, scratch.score);
        selector.run(static_cast<const float*>(scratch.score), row, limit, scratch, shared);
      }
    }
  });
}

}  // namespace

exn_status select(const SelectArgs& a, Workspace& ws) {
  SelectionScratches scratches;
  scratches.take(ws, a.rows(), a.scores.cols);
  if (ws.counting()) return EXN_OK;
  const exn_status status = check_contents(a);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "select"));
  if (a.rows() == 0 || !a.selection.writes()) return EXN_OK;
  with_float_type(a.scores.dtype, [&](auto type) { run_rows<EXN_TYPE_OF(type)>(a, scratches); });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
