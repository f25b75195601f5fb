// SPDX-License-Identifier: Apache-2.0
// row_stats on the CPU: reads each logit from memory once (twice from L1 or L2), R *
// V * sizeof(element) bytes.
#include "base/args/row_stats.h"
#include "draw.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {

EXN_SUMS_UP(, float)
EXN_SUMS_UP(, f16)
EXN_SUMS_UP(, bf16)

exn_status row_stats(const RowStatsArgs& a, Workspace& ws) {
  const int64_t rows = a.logits.rows, columns = a.logits.cols;
  const int64_t tiles = (columns + kStatsTile - 1) / kStatsTile;
  const LogitMap map = logit_map(a.normalizer, a.temperature, a.softcap);
  TileStats* stats = ws.take<TileStats>(rows * tiles);
  float* label = ws.take<float>(a.out.labels != nullptr ? rows : 0);  // its raw logit
  RowDraw* draws = ws.take<RowDraw>(a.out.draw != nullptr ? rows : 0);
  MappedTile* own = ws.take<MappedTile>(map.identity ? 0 : 1);
  if (ws.counting()) return EXN_OK;
  exn_status status = check_labels("exn_row_stats", a.out, rows, columns);
  if (status == EXN_OK) status = check_draws("exn_row_stats", a.out, rows);
  if (status != EXN_OK) return status;
  ran(EXN_CPU_PATH(ws, "row_stats"));
  const bool full = needs_full(a.out);
  const int32_t* const labels = a.out.labels;
  for (int64_t row = 0; row < rows && a.out.draw != nullptr; ++row)
    draws[row] = row_draw(a.out, row);

  with_float_type(a.logits.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    const auto tile_at = [&](int64_t item) {
      const int64_t offset = item % tiles * kStatsTile;
      return Span<T>{row_of<T>(a.logits, item / tiles) + offset,
                     columns - offset < kStatsTile ? columns - offset : kStatsTile};
    };
    const int64_t chunk =
        tiles_per_piece(rows * tiles, columns < kStatsTile ? columns : kStatsTile);
    parallel_for(rows * tiles, chunk, own, [&](int64_t begin, int64_t end, MappedTile& mapped) {
      Peaks peaks;
      find_peaks(tile_at(begin), 0, &peaks);
      for (int64_t item = begin; item < end; ++item) {
        const Span<T> tile = tile_at(item), next = item + 1 < end ? tile_at(item + 1) : Span<T>{};
        stats[item] =
            summarise(tile.z, tile.n, item % tiles * kStatsTile, map, full, next, &peaks, mapped);
        if (a.out.draw != nullptr)
          draw_tile(tile.z, tile.n, item % tiles * kStatsTile, map, draws + item / tiles);
        if (labels == nullptr) continue;
        const int64_t place = labels[item / tiles] - item % tiles * kStatsTile;
        if (place >= 0 && place < tile.n) label[item / tiles] = to_float(tile.z[place]);
      }
    });
  });
  // Afterwards, row upon row: in between, each would wait for its own logarithms.
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int32_t argmax = write_row(stats + row * tiles, tiles, columns, map, a.out, row,
                                       labels != nullptr && labels[row] >= 0 ? label[row] : NAN);
      if (a.out.draw != nullptr) a.out.draw[row] = draw_of(draws[row], argmax);
    }
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
