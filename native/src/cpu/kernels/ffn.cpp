// SPDX-License-Identifier: Apache-2.0
// ffn on the CPU: rows that run are compacted; for each block of up to 64 of them the three weights
// are read once, in two loops. The cosines come out of the second one: a tile adds up its share of
// the sums, and the shares are merged in order.
#include "base/args/ffn.h"
#include "normalise.h"
#include "tiles.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int kTerms = 3;  // of tiles: nothing here is rounded to bf16

// ---- activations --------------------------------------------------------------------------------

// erf by formula 7.1.26 of Abramowitz and Stegun, |error| < 1.5e-7.
f32v gelu(f32v z) {
  const f32v x = mul(abs(z), set1(0.70710678f));
  const f32v t = div(set1(1.0f), fma(x, set1(0.3275911f), set1(1.0f)));
  f32v p = fma(set1(1.061405429f), t, set1(-1.453152027f));
  p = fma(p, t, set1(1.421413741f));
  p = fma(p, t, set1(-0.284496736f));
  p = fma(p, t, set1(0.254829592f));
  const f32v tail = mul(mul(p, t), exp_negative(sub(zero(), mul(x, x))));  // 1 - erf x
  const f32v twice = select(less(z, zero()), tail, sub(set1(2.0f), tail));
  return mul(mul(z, set1(0.5f)), twice);
}

f32v gelu_tanh(f32v z) {
  const f32v cubic = mul(mul(z, z), mul(z, set1(0.044715f)));
  const f32v inner = mul(add(z, cubic), set1(0.79788456f));
  return mul(mul(z, set1(0.5f)), add(set1(1.0f), tanh(inner)));
}

template <class F>
EXN_SIMD void with_activation(int32_t activation, F&& f) {
  switch (activation) {
    case EXN_ACT_SILU:
      f([](f32v z) EXN_FLAT { return silu(z); });
      break;
    case EXN_ACT_GELU:
      f([](f32v z) EXN_FLAT { return gelu(z); });
      break;
    default:
      f([](f32v z) EXN_FLAT { return gelu_tanh(z); });
  }
}

// ---- the two loops ------------------------------------------------------------------------------

// Rows in the order in which they are computed.
struct Active {
  const int64_t* rows;
  int64_t count;
};

// Weight rows that are walked together: a tile of gate_weight, the same of up_weight, then the next
// tile.
template <class T>
struct GateAndUp {
  Matrix gate, up;
  TileGrid::Item item;

  EXN_SIMD bool gated() const { return gate.data != nullptr; }
  EXN_SIMD int64_t count() const { return gated() ? 2 * item.columns : item.columns; }
  EXN_SIMD int64_t after() const { return up.rows - item.column - item.columns; }
  EXN_SIMD const T* operator()(int64_t w) const {
    if (!gated()) return row_of<T>(up, item.column + w);
    if (w < item.columns) return row_of<T>(gate, item.column + w);
    return row_of<T>(w < count() ? up : gate, item.column + w - item.columns);
  }
};

// a[r, first ...] = act(gate + bias) * (up + bias), or act(up + bias). A row of the tile holds
// gate, then up.
void activate_tile(const FfnArgs& f, const TileGrid::Item& item, TileProducts& tile, float* a,
                   int64_t stride) {
  const bool gated = f.gate_weight.data != nullptr;
  const float* gate_bias = f.gate_bias != nullptr ? f.gate_bias + item.column : nullptr;
  const float* up_bias = f.up_bias != nullptr ? f.up_bias + item.column : nullptr;
  with_activation(f.activation, [&](auto act) EXN_FLAT {
    for (int64_t r = 0; r < item.rows; ++r) {
      const float* gate = tile.row(r);
      const float* up = gated ? gate + item.columns : gate;
      float* to = a + (item.row + r) * stride + item.column;
      for_vectors(item.columns, [&](int64_t i, int n) EXN_FLAT {
        f32v v = load_part(up + i, n, 0.0f);
        if (up_bias != nullptr) v = add(v, load_part(up_bias + i, n, 0.0f));
        if (gated) {
          f32v z = load_part(gate + i, n, 0.0f);
          if (gate_bias != nullptr) z = add(z, load_part(gate_bias + i, n, 0.0f));
          v = mul(act(z), v);
        } else {
          v = act(v);
        }
        store_part(to + i, v, n);
      });
    }
  });
}

// What the weights of gate and up are multiplied with.
struct GateAndUpInputs {
  Inputs up, gate;

  EXN_SIMD bool agree() const { return up.blocks == gate.blocks; }
};

template <class T>
void gate_and_up(const FfnArgs& f, const GateAndUpInputs& x, const Active& active, float* a,
                 int64_t stride, bool tiles, TileProducts* own) {
  const bool gated = f.gate_weight.data != nullptr;
  const int64_t dim = f.up_weight.cols, matrices = gated ? 2 : 1;
  const int passes = gated && !x.agree() ? 2 : 1;  // first the gate alone, then up alone
  const int64_t bytes = row_bytes(f.up_weight) + (gated ? row_bytes(f.gate_weight) : 0);
  const TileGrid grid = {active.count, f.up_weight.rows,
                         weight_tile(f.up_weight.rows, bytes, tiles, kMaxTile / matrices)};
  const auto run = [&](int64_t begin, int64_t end, TileProducts& tile) {
    for (int64_t i = begin; i < end; ++i) {
      const TileGrid::Item item = grid.item(i);
      const GateAndUp<T> row_at = {f.gate_weight, f.up_weight, item};
      const int64_t count = row_at.count() / passes;
      const int64_t after = passes == 1 && i + 1 < end ? row_at.after() : 0;
      for (int pass = 0; pass < passes; ++pass) {
        const int64_t first = pass * count;
        const WeightRows<T> rows(count, after, [=](int64_t w) { return row_at(first + w); });
        const Inputs in = inputs_from(pass + 1 == passes ? x.up : x.gate, item.row);
        row_products(rows, in, item.rows, dim, tile.z + first, kMaxTile, tile.scratch);
      }
      activate_tile(f, item, tile, a, stride);
    }
  };
  parallel_for(grid.items(), share(grid.items(), grid.rows), own, run);
}

// What the cosines are made of, with h = hidden, o = out before it is rounded, f = the branch.
struct CosineSums {
  double hh, ho, oo, hf, ff;
};

// Squares of f32 overflow above 2^64 and vanish below 2^-75; such tiles are added up again in f64.
bool in_range(float square) { return square > 1e-30f && square < 1e30f; }

template <class T>
CosineSums careful_sums(const T* hidden, const float* branch, int64_t columns) {
  CosineSums s = {};
  for (int64_t i = 0; i < columns; ++i) {
    const float narrow = to_float(hidden[i]) + branch[i];
    const double h = static_cast<double>(to_float(hidden[i])), f = static_cast<double>(branch[i]);
    const double o = static_cast<double>(narrow);
    s.hh += h * h;
    s.ho += h * o;
    s.oo += o * o;
    s.hf += h * f;
    s.ff += f * f;
  }
  return s;
}

template <class T>
CosineSums sums_of(const T* hidden, const float* branch, int64_t columns) {
  f32v hh = zero(), ho = zero(), oo = zero(), hf = zero(), ff = zero();
  for_vectors(columns, [&](int64_t i, int n) EXN_FLAT {
    const f32v h = load_part(hidden + i, n, 0.0f), f = load_part(branch + i, n, 0.0f),
               o = add(h, f);
    hh = fma(h, h, hh);
    ho = fma(h, o, ho);
    oo = fma(o, o, oo);
    hf = fma(h, f, hf);
    ff = fma(f, f, ff);
  });
  const f32v vectors[5] = {hh, ho, oo, hf, ff};
  float s[5];
  reduce_add_all(vectors, s);
  if (!in_range(s[0]) || !in_range(s[2]) || !in_range(s[4])) {
    return careful_sums(hidden, branch, columns);
  }
  return {static_cast<double>(s[0]), static_cast<double>(s[1]), static_cast<double>(s[2]),
          static_cast<double>(s[3]), static_cast<double>(s[4])};
}

// A slice of a row: the branch gets its bias, `out` the sum of both. `out` may be `hidden`.
template <class T>
CosineSums write_row(const T* hidden, float* branch, const float* bias, int64_t columns, T* out) {
  if (bias != nullptr) {
    for_vectors(columns, [&](int64_t i, int n) EXN_FLAT {
      store_part(branch + i, add(load_part(branch + i, n, 0.0f), load_part(bias + i, n, 0.0f)), n);
    });
  }
  const CosineSums sums = sums_of(hidden, branch, columns);
  for_vectors(columns, [&](int64_t i, int n) EXN_FLAT {
    store_part(out + i, add(load_part(hidden + i, n, 0.0f), load_part(branch + i, n, 0.0f)), n);
  });
  return sums;
}

// sums: [active rows, tiles of the grid].
template <class T>
void down(const FfnArgs& f, const Inputs& a, const Active& active, const TileGrid& grid,
          CosineSums* sums, TileProducts* own) {
  const auto run = [&](int64_t begin, int64_t end, TileProducts& tile) {
    for (int64_t i = begin; i < end; ++i) {
      const TileGrid::Item item = grid.item(i);
      multiply<T>(f.down_weight, a, item, i + 1 < end, &tile);
      const float* bias = f.down_bias != nullptr ? f.down_bias + item.column : nullptr;
      with_float_type(f.hidden.dtype, [&](auto type) {
        using H = EXN_TYPE_OF(type);
        for (int64_t r = 0; r < item.rows; ++r) {
          const int64_t row = active.rows[item.row + r];
          sums[(item.row + r) * grid.tiles() + item.column / grid.tile] =
              write_row(row_of<H>(f.hidden, row) + item.column, tile.row(r), bias, item.columns,
                        out_row<H>(f.out, row) + item.column);
        }
      });
    }
  };
  parallel_for(grid.items(), share(grid.items(), grid.rows), own, run);
}

// ---- rows that skip, and the cosines ------------------------------------------------------------

void put(float* out, int64_t row, float value) {
  if (out != nullptr) out[row] = value;
}

void pass_row(const FfnArgs& f, int64_t row) {
  put(f.cosine, row, NAN);
  put(f.branch_cosine, row, NAN);
  if (f.out.data == f.hidden.data) return;
  const int64_t size = size_of(f.hidden.dtype);
  std::memcpy(static_cast<char*>(f.out.data) + row * f.out.stride * size,
              static_cast<const char*>(f.hidden.data) + row * f.hidden.stride * size,
              static_cast<size_t>(f.hidden.cols * size));
}

float cosine_from(double ab, double aa, double bb) {
  if (std::isnan(ab)) return NAN;
  if (aa == 0 || bb == 0) return 0;
  const double c = ab / (::sqrt(aa) * ::sqrt(bb));
  return static_cast<float>(c > 1 ? 1 : c < -1 ? -1 : c);
}

void write_cosines(const FfnArgs& f, int64_t row, const CosineSums* tiles, int64_t count) {
  CosineSums all = tiles[0];
  for (int64_t t = 1; t < count; ++t) {
    all.hh += tiles[t].hh;
    all.ho += tiles[t].ho;
    all.oo += tiles[t].oo;
    all.hf += tiles[t].hf;
    all.ff += tiles[t].ff;
  }
  put(f.cosine, row, cosine_from(all.ho, all.hh, all.oo));
  put(f.branch_cosine, row, cosine_from(all.hf, all.hh, all.ff));
}

void normalise_all(const FfnArgs& f, const Active& active, float* x, int64_t stride, bool tiled) {
  const int64_t dim = f.hidden.cols;
  with_float_type(f.hidden.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(active.count, 32768 / dim + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* from = row_of<T>(f.hidden, active.rows[i]);
        float* to = x + i * stride;
        normalise_row(from, dim, moments_of(from, dim, f.norm, f.norm_eps), f.norm_weight,
                      f.norm_bias, to);
        for (int64_t k = dim; k < stride; ++k) to[k] = 0;
        with_weight_type(f.up_weight,
                         [&](auto weight) { order_input<EXN_TYPE_OF(weight)>(to, stride, tiled); });
      }
    });
  });
}

// Splits the rows into those that run, listed in `run`, and those that pass by at once.
Active active_rows(const FfnArgs& f, int64_t* run) {
  Active active = {run, 0};
  for (int64_t row = 0; row < f.hidden.rows; ++row) {
    if (f.skip != nullptr && f.skip[row] != 0) {
      pass_row(f, row);
    } else {
      run[active.count++] = row;
    }
  }
  return active;
}

// What gate and up are multiplied with: the same numbers, in two forms where the blocks of both
// differ. `arranged` is null unless they meet in tiles.
GateAndUpInputs arrange_inputs(const FfnArgs& f, const Active& active, const float* x,
                               int64_t stride, bf16* arranged, char* rounded, bool two_forms) {
  Inputs in;
  in.stride = stride;
  in.f32 = x;
  in.far = is_far(f.up_weight);
  in.int8 = f.int8_input;
  into_tiles_if(arranged != nullptr, active.count, kTerms, arranged, &in);
  GateAndUpInputs both = {in, in};
  into_blocks(f.up_weight, active.count, rounded, &both.up);
  both.gate = both.up;
  if (two_forms) {
    into_blocks(f.gate_weight, active.count, rounded + f.hidden.rows * both.up.rounded_stride,
                &both.gate);
  }
  return both;
}

// Rows of `a` as the second loop reads them: zeros after the last column, in the order of pairs.
template <class T>
void order_middle(const Active& active, float* a, int64_t width, int64_t stride, bool tiled) {
  parallel_for(active.count, 65536 / stride + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = width; k < stride; ++k) a[i * stride + k] = 0;
      order_input<T>(a + i * stride, stride, tiled);
    }
  });
}

}  // namespace

exn_status ffn(const FfnArgs& f, Workspace& ws) {
  const int64_t rows = f.hidden.rows, dim = f.hidden.cols, width = f.up_weight.rows;
  const bool tiles = may_use_tiles(ws);
  const int64_t stride = padded(dim, tiles), wide = padded(width, tiles);
  TileGrid down_grid = {rows, dim, weight_tile(dim, row_bytes(f.down_weight), tiles)};
  const bool two_forms =
      f.gate_weight.data != nullptr && f.gate_weight.blocks != f.up_weight.blocks;
  const int64_t gate_bytes = two_forms ? rounded_bytes(f.gate_weight) : 0;
  int64_t* run = ws.take<int64_t>(rows);
  float *x = ws.take<float>(rows * stride), *a = ws.take<float>(rows * wide);
  bf16* arranged = ws.take<bf16>(tile_elements(meet_in_tiles(tiles, f.up_weight.dtype, rows), rows,
                                               stride > wide ? stride : wide, kTerms));
  const int64_t first_bytes = rounded_bytes(f.up_weight) + gate_bytes;
  const int64_t second_bytes = rounded_bytes(f.down_weight);
  char* rounded =
      ws.take<char>(product(rows, first_bytes > second_bytes ? first_bytes : second_bytes));
  CosineSums* sums = ws.take<CosineSums>(rows * down_grid.tiles());
  TileProducts* own = ws.take<TileProducts>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "ffn"));

  const Active active = active_rows(f, run);
  if (active.count == 0) return EXN_OK;
  const bool tiled = meet_in_tiles(tiles, f.up_weight.dtype, active.count);
  normalise_all(f, active, x, stride, tiled);
  const GateAndUpInputs both =
      arrange_inputs(f, active, x, stride, tiled ? arranged : nullptr, rounded, two_forms);
  Inputs middle;
  middle.stride = wide;
  middle.f32 = a;
  middle.far = both.up.far;
  middle.int8 = f.int8_input;
  down_grid.rows = active.count;
  with_weight_type(f.up_weight, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    gate_and_up<T>(f, both, active, a, wide, tiles, own);
    order_middle<T>(active, a, width, wide, tiled);
    into_tiles_if(tiled, active.count, kTerms, arranged, &middle);
    into_blocks(f.down_weight, active.count, rounded, &middle);
    down<T>(f, middle, active, down_grid, sums, own);
  });
  for (int64_t i = 0; i < active.count; ++i) {
    write_cosines(f, run[i], sums + i * down_grid.tiles(), down_grid.tiles());
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
