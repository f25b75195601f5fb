// SPDX-License-Identifier: Apache-2.0
// linear on the CPU: for each block of up to 64 rows, every weight is read once. The products of a
// tile stay in cache until bias and residual are added, so that `out` is written once and nothing
// is read again.
#include "base/args/linear.h"
#include "normalise.h"
#include "panel_products.h"
#include "tiles.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Input rows in the form that the products with `weight` take, padded with zeros.
template <class T>
void load_inputs(const Matrix& m, const Matrix& weight, int64_t stride, T* to) {
  with_float_type(m.dtype, [&](auto type) {
    using U = EXN_TYPE_OF(type);
    parallel_for(m.rows, 32768 / m.cols + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        T* x = to + row * stride;
        convert(row_of<U>(m, row), m.cols, x);
        for (int64_t i = m.cols; i < stride; ++i) from_float(x + i, 0);
        if constexpr (std::is_same_v<T, float>) {
          with_weight_type(weight, [&](auto w) { order_input<EXN_TYPE_OF(w)>(x, stride, m.rows); });
        }
      }
    });
  });
}

// The products `z` of an item, whose rows lie `stride` apart.
template <class T>
void write_tile(const LinearArgs& a, const TileGrid::Item& item, const float* z, int64_t stride) {
  for (int64_t r = 0; r < item.rows; ++r, z += stride) {
    const float* bias = a.bias != nullptr ? a.bias + item.column : nullptr;
    const T* residual =
        a.residual.data != nullptr ? row_of<T>(a.residual, item.row + r) + item.column : nullptr;
    T* out = out_row<T>(a.out, item.row + r) + item.column;
    for_vectors(item.columns, [&](int64_t i, int n) EXN_FLAT {
      f32v v = load_part(z + i, n, 0.0f);
      if (bias != nullptr) v = add(v, load_part(bias + i, n, 0.0f));
      if (residual != nullptr) v = add(v, load_part(residual + i, n, 0.0f));
      store_part(out + i, v, n);
    });
  }
}

void write_item(const LinearArgs& a, const TileGrid::Item& item, const float* z, int64_t stride) {
  with_float_type(a.out.dtype,
                  [&](auto type) { write_tile<EXN_TYPE_OF(type)>(a, item, z, stride); });
}

// `multiply(item, goes_on, tile)` makes the products of a tile.
template <class F>
EXN_SIMD void multiply_all(const LinearArgs& a, TileProducts* own, F&& multiply) {
  const TileGrid grid = {a.input.rows, a.weight.rows,
                         weight_tile(a.weight.rows, row_bytes(a.weight))};
  const auto run = [&](int64_t begin, int64_t end, TileProducts& tile) {
    for (int64_t i = begin; i < end; ++i) {
      const TileGrid::Item item = grid.item(i);
      multiply(item, i + 1 < end, &tile);
      write_item(a, item, tile.z, kMaxTile);
    }
  };
  parallel_for(grid.items(), share(grid.items(), grid.rows), own, run);
}

// Weights in panels. Inputs are f32, where they are if they can be.
exn_status linear_of_panels(const LinearArgs& a, Workspace& ws) {
  // Rows that lie a multiple of 4 KiB apart would compete for the same places in L1.
  constexpr int64_t kApart = 4096 / sizeof(float), kMore = 16;
  const int64_t rows = a.input.rows, cols = a.input.cols;
  const bool there = a.input.dtype == DType::kF32 && (rows == 1 || a.input.stride % kApart != 0);
  const int64_t stride = there ? a.input.stride : cols % kApart != 0 ? cols : cols + kMore;
  float* const own = ws.take<float>(there ? 0 : product(rows, stride));
  PanelScratch* const scratch = ws.take<PanelScratch>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("linear"));
  const float* x = static_cast<const float*>(a.input.data);
  if (!there) {
    with_float_type(a.input.dtype, [&](auto type) {
      using T = EXN_TYPE_OF(type);
      parallel_for(rows, 32768 / cols + 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          convert(row_of<T>(a.input, r), cols, own + r * stride);
        }
      });
    });
    x = own;
  }
  constexpr int64_t kWorthAThread = int64_t{1} << 17;  // multiplications
  const PanelGrid grid(a.weight, rows);
  const int64_t each = product(grid.block * grid.together * kPanelRows, cols);
  parallel_for(grid.items(), kWorthAThread / each + 1, scratch,
               [&](int64_t begin, int64_t end, PanelScratch& own_scratch) {
                 for (int64_t i = begin; i < end; ++i) {
                   const PanelGrid::Item item = grid.item(i);
                   panel_products(a.weight, item, x, stride, own_scratch);
                   write_item(a, {item.input, item.inputs, item.output, item.outputs},
                              own_scratch.sums,
                              (item.outputs + kPanelRows - 1) / kPanelRows * kPanelRows);
                 }
               });
  return EXN_OK;
}

}  // namespace

exn_status linear(const LinearArgs& a, Workspace& ws) {
  if (in_panels(a.weight.blocks)) return linear_of_panels(a, ws);
  Inputs in;
  in.stride = padded(a.input.cols);
  in.far = is_far(a.weight);
  const bool tiled = meet_in_tiles(a.weight.dtype, a.input.rows);
  const bool pairs = !tiled && in_pairs(a.input.dtype, a.weight.dtype);
  const int parts = a.input.dtype == DType::kBF16 ? 1 : 3;
  float* wide = ws.take<float>(pairs ? 0 : a.input.rows * in.stride);
  bf16* narrow = ws.take<bf16>(pairs ? a.input.rows * in.stride : 0);
  bf16* tiles = ws.take<bf16>(tile_room(a.weight.dtype, a.input.rows, in.stride, parts));
  char* rounded = ws.take<char>(product(a.input.rows, rounded_bytes(a.weight)));
  TileProducts* own = ws.take<TileProducts>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("linear"));
  if (pairs) {
    load_inputs(a.input, a.weight, in.stride, narrow);
    in.bf = narrow;
  } else {
    load_inputs(a.input, a.weight, in.stride, wide);
    in.f32 = wide;
    into_tiles(a.weight.dtype, a.input.rows, parts, tiles, &in);
    into_blocks(a.weight, a.input.rows, rounded, &in);
  }
  with_weight_type(a.weight, [&](auto type) {
    multiply_all(a, own, [&](const TileGrid::Item& item, bool goes_on, TileProducts* tile) {
      multiply<EXN_TYPE_OF(type)>(a.weight, in, item, goes_on, tile);
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
