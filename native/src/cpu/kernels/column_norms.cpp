// SPDX-License-Identifier: Apache-2.0
// column_norms on the CPU: tiles of rows are summed a few rows at a time, one after the other, into a
// strip of columns that stays in L1; tiles into chunks, chunks into the sums, in fixed order.
#include <cmath>
#include <cstring>

#include "../simd/prefetch.h"
#include "base/args/column_norms.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kStrip = 4096;  // columns
constexpr int64_t kTile = 64;     // rows
constexpr int kGroup = 4;         // rows that are added at once
constexpr int64_t kMostChunks = 64;
constexpr int64_t kMerged = 1024;  // columns whose chunks a thread adds up at once

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

// How the rows are cut; by their number alone.
struct Chunks {
  explicit Chunks(int64_t rows)
      : size(pieces(pieces(rows, kTile), kMostChunks) * kTile),
        count(rows == 0 ? 0 : pieces(rows, size)) {}
  int64_t size;  // rows of each but the last
  int64_t count;
};

struct Scratch {
  alignas(64) float sums[kStrip];
};

// Sums stay in registers while the rows of a group are added, one after the other. `ahead` is the
// prefetch distance in elements: the rows of the next group.
template <class T, int Rows>
EXN_SIMD void add_squares(const T* const* x, int64_t n, int64_t ahead, float* sums) {
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    f32v sum = load_part(sums + i, lanes, 0.0f);
    for (int row = 0; row < Rows; ++row) {
      prefetch_l2(x[row] + i + ahead);
      const f32v v = load_part(x[row] + i, lanes, 0.0f);
      sum = fma(v, v, sum);
    }
    store_part(sums + i, sum, lanes);
  });
}

// The active rows of [begin, end), in groups.
template <class T>
EXN_SIMD void add_tile(const ColumnNormsArgs& a, int64_t begin, int64_t end, int64_t first,
                       int64_t n, float* sums) {
  const T* group[kGroup];
  const int64_t ahead = end - begin > kGroup ? kGroup * a.x.stride : 0;
  int count = 0;
  for (int64_t row = begin; row < end; ++row) {
    if (a.active != nullptr && a.active[row] == 0) continue;
    group[count++] = row_of<T>(a.x, row) + first;
    if (count < kGroup) continue;
    add_squares<T, kGroup>(group, n, ahead, sums);
    count = 0;
  }
  for (int i = 0; i < count; ++i) add_squares<T, 1>(group + i, n, ahead, sums);
}

EXN_SIMD void add_up(const float* from, int64_t n, float* to) {
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    store_part(to + i, add(load_part(to + i, lanes, 0.0f), load_part(from + i, lanes, 0.0f)),
               lanes);
  });
}

// The sums of rows [begin, end) and columns [first, first + n).
template <class T>
void sum_chunk(const ColumnNormsArgs& a, int64_t begin, int64_t end, int64_t first, int64_t n,
               float* sums, Scratch& s) {
  const size_t bytes = static_cast<size_t>(n) * sizeof(float);
  std::memset(sums, 0, bytes);
  for (int64_t tile = begin; tile < end; tile += kTile) {
    const int64_t last = end - tile < kTile ? end : tile + kTile;
    std::memset(s.sums, 0, bytes);
    add_tile<T>(a, tile, last, first, n, s.sums);
    add_up(s.sums, n, sums);
  }
}

void merge(const ColumnNormsArgs& a, const float* chunks, int64_t count, int64_t first, int64_t n) {
  float* sums = a.sums + first;
  if (a.given.accumulate == 0) std::memset(sums, 0, static_cast<size_t>(n) * sizeof(float));
  alignas(64) float added[kMerged] = {};
  for (int64_t chunk = 0; chunk < count; ++chunk)
    add_up(chunks + chunk * a.x.cols + first, n, added);
  add_up(added, n, sums);
  if (a.norms == nullptr) return;
  const float root = a.root;
  for (int64_t i = 0; i < n; ++i) a.norms[first + i] = root * ::sqrtf(sums[i]);
}

}  // namespace

exn_status column_norms(const ColumnNormsArgs& a, Workspace& ws) {
  const int64_t columns = a.x.cols, strips = pieces(columns, kStrip);
  const Chunks chunks(a.x.rows);
  float* const sums = ws.take<float>(chunks.count * columns);
  Scratch* const own = ws.take<Scratch>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "column_norms"));
  with_float_type(a.x.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(chunks.count * strips, 1, own, [&](int64_t begin, int64_t end, Scratch& s) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i / strips, row = chunk * chunks.size, first = i % strips * kStrip;
        const int64_t last = a.x.rows - row < chunks.size ? a.x.rows : row + chunks.size;
        sum_chunk<T>(a, row, last, first, columns - first < kStrip ? columns - first : kStrip,
                     sums + chunk * columns + first, s);
      }
    });
  });
  parallel_for(pieces(columns, kMerged), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kMerged;
      merge(a, sums, chunks.count, first, columns - first < kMerged ? columns - first : kMerged);
    }
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
