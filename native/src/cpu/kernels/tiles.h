// SPDX-License-Identifier: Apache-2.0
// The tiles in which rows of activations meet a weight matrix.
#pragma once

#include "products.h"

namespace exn::cpu::EXN_ISA {

// Most weight rows of a tile, so that its products fit in L2 beside the inputs.
constexpr int64_t kMaxTile = 256;
static_assert(kMaxTile <= WeightRows<float>::kMost);

// Products of a row block with a tile of weights; a thread's scratch memory.
struct TileProducts {
  alignas(64) float z[kRowBlock * kMaxTile];
  ProductScratch scratch;
  EXN_SIMD float* row(int64_t r) { return z + r * kMaxTile; }
};

// Whether linear and ffn may multiply in tiles of AMX.
static EXN_SIMD bool may_use_tiles([[maybe_unused]] const Workspace& ws) {
#if defined(EXN_HAS_TILES)
  return ws.tiles();
#else
  return false;
#endif
}

// into_tiles if `tiled`; no code for it is made where a set has no tiles.
static EXN_SIMD void into_tiles_if([[maybe_unused]] bool tiled, [[maybe_unused]] int64_t inputs,
                                   [[maybe_unused]] int terms, [[maybe_unused]] bf16* buffer,
                                   [[maybe_unused]] Inputs* in) {
#if defined(EXN_HAS_TILES)
  if (tiled) into_tiles(inputs, terms, buffer, in);
#endif
}

// Weight rows of a tile, at most `most`: up to 256 KiB, so that there are some for every thread,
// but few pauses between them, and whole blocks of the products: of three rows too where that many
// fit, unless the call may multiply tiles of 32 rows. Several are about equal, and four or a
// multiple: of three, one of two threads would get two. A function of the shape and the set alone,
// like all that decides the order of sums.
static EXN_SIMD int64_t weight_tile(int64_t columns, int64_t row_bytes, bool in_tiles,
                                    int64_t most = kMaxTile) {
  constexpr int64_t kShares = 4, kBlock = 8, kTriples = 3 * kBlock;
  const int64_t fit = (int64_t{256} << 10) / row_bytes;
  const int64_t step = in_tiles || fit < kTriples ? kBlock : kTriples;
  const int64_t rows = fit < step ? step : (fit < most ? fit : most) / step * step;
  if (columns <= rows) return rows;
  const int64_t tiles = ((columns + rows - 1) / rows + kShares - 1) / kShares * kShares;
  return ((columns + tiles - 1) / tiles + step - 1) / step * step;
}

// A grid of row blocks and tiles, and its items in the order in which threads take them.
struct TileGrid {
  int64_t rows, columns, tile;

  EXN_SIMD int64_t tiles() const { return (columns + tile - 1) / tile; }
  EXN_SIMD int64_t items() const { return (rows + kRowBlock - 1) / kRowBlock * tiles(); }

  struct Item {
    int64_t row, rows, column, columns;
  };
  EXN_SIMD Item item(int64_t i) const {
    const int64_t row = i / tiles() * kRowBlock, column = i % tiles() * tile;
    return {row, rows - row < kRowBlock ? rows - row : kRowBlock, column,
            columns - column < tile ? columns - column : tile};
  }
};

// The products of an item's input rows, in the order of pairs of T, with its weight rows.
// `goes_on`: this thread takes the next item after it.
template <class T>
static EXN_SIMD void multiply(const Matrix& weight, const Inputs& in, const TileGrid::Item& item,
                              bool goes_on, TileProducts* out) {
  const int64_t after = weight.rows - item.column - item.columns;
  const T* const first = row_of<T>(weight, item.column);
  const WeightRows<T> rows(
      item.columns, goes_on ? after : 0,
      [first, stride = weight.stride](int64_t w) { return first + w * stride; });
  row_products(rows, inputs_from(in, item.row), item.rows, weight.cols, out->z, kMaxTile,
               out->scratch);
}

}  // namespace exn::cpu::EXN_ISA
