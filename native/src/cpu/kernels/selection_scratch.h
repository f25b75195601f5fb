// SPDX-License-Identifier: Apache-2.0
// What a selection keeps of a row while it is made: candidates, what is taken, and of long rows what
// a pass over each piece has found.
#pragma once

#include "score_cut.h"

namespace exn::cpu::EXN_ISA {

// Scratch for one row at a time.
struct SelectionScratch {
  float* score = nullptr;  // the row; NaN where a column is no candidate
  float* near_cut = nullptr;
  ColumnSet open;  // candidates
  ColumnSet taken;
  // Of long rows, the scores between the bounds, those of a piece from its first column on, and
  // their columns, which count in those words alone that have a bit in `seen`.
  float* near = nullptr;
  ColumnSet between;
  ColumnSet seen;
  // Of each piece, how many scores are above the bounds and between them, where -1 stands for NaN;
  // later where its list begins, and how many columns it has or takes of those that equal the cut.
  int32_t* above = nullptr;
  int32_t* count = nullptr;
  // Where its near scores begin: after those of the piece before it, if a thread marked both.
  int64_t* near_at = nullptr;

  // How many rows have a scratch at a time: as many as can be of use to threads, within a few MiB.
  static EXN_SIMD int64_t count_for(int64_t rows, int64_t columns) {
    constexpr int64_t kMostBytes = int64_t{4} << 20, kMost = 64;
    const int64_t fit = kMostBytes / (padded(columns) * 4 + 1) + 1;
    const int64_t scratches = fit < kMost ? fit : kMost;
    return rows < scratches ? rows : scratches;
  }
  static EXN_SIMD int64_t padded(int64_t columns) { return ColumnSet::words(columns) * 64; }
  static EXN_SIMD int64_t pieces(int64_t columns) { return (columns + kPiece - 1) / kPiece; }

  EXN_SIMD void take(Workspace& ws, int64_t columns) {
    score = ws.take<float>(padded(columns));
    near_cut = ws.take<float>(columns / kFew + kLanes);
    open.word = ws.take<uint64_t>(ColumnSet::words(columns));
    taken.word = ws.take<uint64_t>(ColumnSet::words(columns) + 1);
    if (columns < kLong) return;
    near = ws.take<float>(pieces(columns) * kNearPiece);
    between.word = ws.take<uint64_t>(ColumnSet::words(columns));
    seen.word = ws.take<uint64_t>(pieces(columns) * kSeenWords);
    above = ws.take<int32_t>(pieces(columns) + 1);
    count = ws.take<int32_t>(pieces(columns));
    near_at = ws.take<int64_t>(pieces(columns));
  }
};

// The scratch memory of several rows, one after another.
struct SelectionScratches {
  SelectionScratch first;
  int64_t count = 0, columns = 0;

  EXN_SIMD void take(Workspace& ws, int64_t rows, int64_t of_columns) {
    columns = of_columns;
    count = SelectionScratch::count_for(rows, columns);
    for (int64_t i = 0; i < count; ++i) {
      SelectionScratch scratch;
      scratch.take(ws, columns);
      if (i == 0) first = scratch;
      if (i == 1) step_ = scratch.score - first.score;
    }
  }
  EXN_SIMD SelectionScratch at(int64_t i) const {
    SelectionScratch r = first;
    r.score += i * step_;
    r.near_cut += i * step_;
    r.open.word += i * step_ / 2;
    r.taken.word += i * step_ / 2;
    if (columns < kLong) return r;
    r.near += i * step_;
    r.between.word += i * step_ / 2;
    r.seen.word += i * step_ / 2;
    r.above += i * step_;
    r.count += i * step_;
    r.near_at += i * step_ / 2;
    return r;
  }

 private:
  int64_t step_ = 0;  // floats between scratches
};

// Columns of a row, or of a segment of it.
struct Columns {
  int64_t begin, end;
};

// Words of a piece, as far as the columns reach.
struct Words {
  int64_t first, last;
};
static EXN_SIMD Words words_of(const Columns& at, int64_t piece) {
  constexpr int64_t kWords = kPiece / 64;
  const int64_t begin = at.begin / 64, end = ColumnSet::words(at.end);
  return {begin > piece * kWords ? begin : piece * kWords,
          end < (piece + 1) * kWords ? end : (piece + 1) * kWords};
}

}  // namespace exn::cpu::EXN_ISA
