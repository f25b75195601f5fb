// SPDX-License-Identifier: Apache-2.0
// row_stats on the CPU: reads each logit from memory once (twice from L1), R * V * sizeof(element) bytes.
#include "stats.h"

namespace exn::cpu::EXN_ISA {

exn_status row_stats(const RowStatsArgs& a, Workspace& ws) {
  const int64_t rows = a.logits.rows, columns = a.logits.cols;
  const int64_t tiles = (columns + kStatsTile - 1) / kStatsTile;
  TileStats* stats = ws.take<TileStats>(rows * tiles);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("row_stats"));
  const LogitMap map = logit_map(a.normalizer, a.temperature, a.softcap);
  const bool full = needs_full(a.out);

  with_float_type(a.logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    // About 64 KiB of logits a piece: enough to hide the hand-over, few enough to share a single long row.
    const int64_t chunk = columns >= kStatsTile ? 4 : 16384 / columns + 1;
    parallel_for(rows * tiles, chunk, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t row = item / tiles, offset = item % tiles * kStatsTile;
        const int64_t n = columns - offset < kStatsTile ? columns - offset : kStatsTile;
        stats[item] = summarise(row_of<T>(a.logits, row) + offset, n, offset, map, full);
      }
    });
  });
  for (int64_t row = 0; row < rows; ++row) write_row(stats + row * tiles, tiles, columns, map, a.out, row);
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
