// SPDX-License-Identifier: Apache-2.0
// The registers and instructions of native/src/cpu/simd/tiles.h in plain C++, from Intel's
// description of each instruction, beside the emulated AVX-512.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace exn::cpu::EXN_ISA::emulated {

struct Tiles {
  TileShapes shapes;
  alignas(64) uint8_t data[8][16][64];
};
inline thread_local Tiles tiles;

inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? 0.0f : x; }

inline float from_bf16(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return flushed(x);
}

inline void zero_tile(int t) { std::memset(tiles.data[t], 0, sizeof tiles.data[t]); }

inline void load_tile(int t, const void* p, int64_t pitch) {
  zero_tile(t);
  for (int r = 0; r < tiles.shapes.rows[t]; ++r) {
    std::memcpy(tiles.data[t][r], static_cast<const char*>(p) + r * pitch,
                tiles.shapes.row_bytes[t]);
  }
}

inline void store_tile(int t, void* p, int64_t pitch) {
  for (int r = 0; r < tiles.shapes.rows[t]; ++r) {
    std::memcpy(static_cast<char*>(p) + r * pitch, tiles.data[t][r], tiles.shapes.row_bytes[t]);
  }
}

inline void dot_tiles(int c, int a, int b) {
  for (int m = 0; m < tiles.shapes.rows[c]; ++m) {
    for (int n = 0; n < tiles.shapes.row_bytes[c] / 4; ++n) {
      float sums[2] = {0, 0};
      for (int k = 0; k < tiles.shapes.row_bytes[a] / 4; ++k) {
        for (int i = 0; i < 2; ++i) {
          const float x = from_bf16(tiles.data[a][m] + 4 * k + 2 * i);
          const float y = from_bf16(tiles.data[b][k] + 4 * n + 2 * i);
          sums[i] = flushed(std::fma(x, y, sums[i]));
        }
      }
      float sum;
      std::memcpy(&sum, tiles.data[c][m] + 4 * n, sizeof sum);
      sum = flushed(sum + flushed(sums[0] + sums[1]));
      std::memcpy(tiles.data[c][m] + 4 * n, &sum, sizeof sum);
    }
  }
}

}  // namespace exn::cpu::EXN_ISA::emulated

namespace exn::cpu::EXN_ISA {

static EXN_SIMD void shape_tiles(const TileShapes& shapes) {
  std::memset(&emulated::tiles, 0, sizeof emulated::tiles);
  emulated::tiles.shapes = shapes;
}
static EXN_SIMD void release_tiles() { shape_tiles(TileShapes()); }

}  // namespace exn::cpu::EXN_ISA

#define EXN_TILE_ZERO(t) emulated::zero_tile(t)
#define EXN_TILE_LOAD(t, p, pitch) emulated::load_tile(t, p, pitch)
#define EXN_TILE_STORE(t, p, pitch) emulated::store_tile(t, p, pitch)
#define EXN_TILE_DOT(c, a, b) emulated::dot_tiles(c, a, b)
