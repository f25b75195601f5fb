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
void load_inputs(const Matrix& m, const Matrix& weight, int64_t stride, bool tiled, T* to) {
  with_float_type(m.dtype, [&](auto type) {
    using U = EXN_TYPE_OF(type);
    parallel_for(m.rows, 32768 / m.cols + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        T* x = to + row * stride;
        convert(row_of<U>(m, row), m.cols, x);
        for (int64_t i = m.cols; i < stride; ++i) from_float(x + i, 0);
        if constexpr (std::is_same_v<T, float>) {
          with_weight_type(weight, [&](auto w) { order_input<EXN_TYPE_OF(w)>(x, stride, tiled); });
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

template <class X, class V>
float dot(const X* x, const V* v, int64_t size) {
  f32v sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) {
      sums[k] = fma(load(x + i + k * kLanes), load(v + i + k * kLanes), sums[k]);
    }
  }
  for_vectors(size - i, [&](int64_t j, int n) EXN_FLAT {
    sums[0] = fma(load_part(x + i + j, n, 0.0f), load_part(v + i + j, n, 0.0f), sums[0]);
  });
  return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

// to[r,k] = scale[r,k] * <row r of the input, row k of adapter_down>
void reduce_inputs(const LinearArgs& a, float* to) {
  const int64_t rank = a.adapter_down.rows, cols = a.input.cols;
  with_float_type(a.input.dtype, [&](auto x) {
    with_float_type(a.adapter_down.dtype, [&](auto v) {
      parallel_for(a.input.rows * rank, 32768 / cols + 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = i / rank, k = i % rank;
          const float scale =
              a.adapter_scale.data != nullptr ? row_of<float>(a.adapter_scale, row)[k] : 1.0f;
          to[i] = scale == 0 ? 0.0f
                             : scale * dot(row_of<EXN_TYPE_OF(x)>(a.input, row),
                                           row_of<EXN_TYPE_OF(v)>(a.adapter_down, k), cols);
        }
      });
    });
  });
}

// Adds t U to the products `z` of an item.
template <class T>
void adapt(const LinearArgs& a, const float* t, const TileGrid::Item& item, float* z,
           int64_t stride) {
  const int64_t rank = a.adapter_up.rows;
  for (int64_t r = 0; r < item.rows; ++r, z += stride) {
    for (int64_t k = 0; k < rank; ++k) {
      const float factor = t[(item.row + r) * rank + k];
      if (factor == 0) continue;
      const T* const up = row_of<T>(a.adapter_up, k) + item.column;
      for_vectors(item.columns, [&](int64_t i, int n) EXN_FLAT {
        const f32v sum = load_part(z + i, n, 0.0f);
        store_part(z + i, fma(set1(factor), load_part(up + i, n, 0.0f), sum), n);
      });
    }
  }
}

// An item's outputs, of its products; `t` as reduce_inputs made it.
void finish_item(const LinearArgs& a, const float* t, const TileGrid::Item& item, float* z,
                 int64_t stride) {
  if (a.adapter_up.data != nullptr) {
    with_float_type(a.adapter_up.dtype,
                    [&](auto type) { adapt<EXN_TYPE_OF(type)>(a, t, item, z, stride); });
  }
  write_item(a, item, z, stride);
}

// `multiply(item, goes_on, tile)` makes the products of a tile.
template <class F>
EXN_SIMD void multiply_all(const LinearArgs& a, const float* t, bool tiles, TileProducts* own,
                           F&& multiply) {
  const TileGrid grid = {a.input.rows, a.weight.rows,
                         weight_tile(a.weight.rows, row_bytes(a.weight), tiles)};
  const auto run = [&](int64_t begin, int64_t end, TileProducts& tile) {
    for (int64_t i = begin; i < end; ++i) {
      const TileGrid::Item item = grid.item(i);
      multiply(item, i + 1 < end, &tile);
      finish_item(a, t, item, tile.z, kMaxTile);
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
  float* const t = ws.take<float>(product(rows, a.adapter_down.rows));
  PanelScratch* const scratch = ws.take<PanelScratch>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "linear"));
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
  if (a.adapter_down.data != nullptr) reduce_inputs(a, t);
  constexpr int64_t kWorthAThread = int64_t{1} << 17;  // multiplications
  const PanelGrid grid(a.weight, rows);
  const int64_t each = product(grid.block * grid.together * kPanelRows, cols);
  parallel_for(grid.items(), kWorthAThread / each + 1, scratch,
               [&](int64_t begin, int64_t end, PanelScratch& own_scratch) {
                 for (int64_t i = begin; i < end; ++i) {
                   const PanelGrid::Item item = grid.item(i);
                   panel_products(a.weight, item, x, stride, own_scratch);
                   finish_item(a, t, {item.input, item.inputs, item.output, item.outputs},
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
  const bool tiles = may_use_tiles(ws);
  in.stride = padded(a.input.cols, tiles);
  in.far = is_far(a.weight);
  const bool tiled = meet_in_tiles(tiles, a.weight.dtype, a.input.rows);
  const bool pairs = !tiled && in_pairs(ws, a.input.dtype, a.weight.dtype);
  const int terms = a.input.dtype == DType::kBF16 ? 1 : 3;
  float* wide = ws.take<float>(pairs ? 0 : a.input.rows * in.stride);
  bf16* narrow = ws.take<bf16>(pairs ? a.input.rows * in.stride : 0);
  bf16* arranged = ws.take<bf16>(tile_elements(tiled, a.input.rows, in.stride, terms));
  char* rounded = ws.take<char>(product(a.input.rows, rounded_bytes(a.weight)));
  float* t = ws.take<float>(product(a.input.rows, a.adapter_down.rows));
  TileProducts* own = ws.take<TileProducts>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "linear"));
  if (pairs) {
    load_inputs(a.input, a.weight, in.stride, tiled, narrow);
    in.bf = narrow;
  } else {
    load_inputs(a.input, a.weight, in.stride, tiled, wide);
    in.f32 = wide;
    in.int8 = a.int8_input;
    into_tiles_if(tiled, a.input.rows, terms, arranged, &in);
    into_blocks(a.weight, a.input.rows, rounded, &in);
  }
  if (a.adapter_down.data != nullptr) reduce_inputs(a, t);
  with_weight_type(a.weight, [&](auto type) {
    multiply_all(a, t, tiles, own,
                 [&](const TileGrid::Item& item, bool goes_on, TileProducts* tile) {
                   multiply<EXN_TYPE_OF(type)>(a.weight, in, item, goes_on, tile);
                 });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
