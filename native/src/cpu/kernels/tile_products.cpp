// SPDX-License-Identifier: Apache-2.0
// Products of bf16 weights with prompts, more than kRowBlock inputs, made of tiles (AMX): 16 weight
// rows x 32 columns meet 16 inputs in one instruction, sixteen times as many in a cycle as vectors
// multiply. Fewer inputs leave that to vectors, which read memory faster: a tile takes 16 rows side
// by side, and no core reads ahead of so many.
//
// An input of f32 is the sum of three bf16, its terms, to the last bit; each term meets the weights
// in a column of its own, and the three products are added in the end: h + (m + l). Of inputs that
// are bf16 themselves the first term is all. A product has the same bits whatever stands beside it,
// see tiles.h. Subnormal weights count as zero. Where a product is not finite it is made again by
// vectors: infinity has no such terms, and with a term that is zero it makes a NaN.
//
// Bytes: the weights once per block of inputs; the tiles of the inputs, 2 for each term of an
// element, once per 32 weight rows, from L2.
#include <cmath>

#include "products.h"

#if defined(EXN_HAS_TILES)

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int kTileRows = 16, kDepth = 32;  // of a tile of weights
constexpr int kTiledRows = 2 * kTileRows;
constexpr int kTileInputs = 16;  // most inputs that share a tile
constexpr int kMostTerms = 3;
constexpr int kMostColumns = kMostTerms * kRowBlock / kTileInputs;  // of tiles, of a row block

// How the inputs of a block share tiles: groups of as many each, the last ones not full.
struct Groups {
  int64_t count, inputs;
  explicit Groups(int64_t all)
      : count((all + kTileInputs - 1) / kTileInputs), inputs((all + count - 1) / count) {}
};

// Steps of 32 columns.
int64_t steps_of(int64_t dim) { return (dim + kDepth - 1) / kDepth; }

// ---- inputs -------------------------------------------------------------------------------------

// kTerms vectors of bf16 whose sum is x, of 32 elements.
template <int kTerms>
EXN_SIMD void split(const float* x, f32v (&terms)[kTerms]) {
  f32v low = load(x), high = load(x + kLanes);
  for (int p = 0; p < kTerms; ++p) {
    const __m256i low_term = narrow_bf16(low), high_term = narrow_bf16(high);
    terms[p] = join_pairs(low_term, high_term);
    low = sub(low, widen(low_term));
    high = sub(high, widen(high_term));
  }
}

// Whether a row has terms that would be lost, being subnormal. It is arranged as NaN then, so that
// vectors make its products.
bool vanishes(const float* x, int64_t dim) {
  constexpr float kLeast = 0x1p-90f;
  f32v top = zero();
  for (int64_t i = 0; i < dim; i += kLanes) top = max(top, abs(load(x + i)));
  const float largest = reduce_max(top);
  return largest > 0 && largest < kLeast;
}

// to: [groups][terms][steps][16 pairs of columns][inputs of the group], of pairs.
template <int kTerms>
void arrange(const Inputs& in, int64_t inputs, bf16* to) {
  const Groups groups(inputs);
  const int64_t steps = steps_of(in.stride), tile = 2 * kTileRows * groups.inputs;
  const int lanes = static_cast<int>(groups.inputs);
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t first = g * groups.inputs;
    const int64_t count = inputs - first < groups.inputs ? inputs - first : groups.inputs;
    bool lost[kTileInputs] = {};
    for (int64_t i = 0; i < count; ++i) {
      lost[i] = vanishes(in.f32 + (first + i) * in.stride, in.stride);
    }
    for (int64_t step = 0; step < steps; ++step) {
      f32v v[kTerms][kTileInputs];
      for (int i = 0; i < kTileInputs; ++i) {
        f32v terms[kTerms];
        for (f32v& term : terms) term = lost[i] ? set1(NAN) : zero();
        if (i < count && !lost[i]) {
          split(in.f32 + (first + i) * in.stride + step * kDepth, terms);
        }
        for (int p = 0; p < kTerms; ++p) v[p][i] = terms[p];
      }
      for (int p = 0; p < kTerms; ++p) {
        transpose_lanes(v[p]);
        bf16* const at = to + ((g * kTerms + p) * steps + step) * tile;
        for (int i = 0; i < kTileRows; ++i) {
          store_n(reinterpret_cast<float*>(at + i * 2 * groups.inputs), v[p][i], lanes);
        }
      }
    }
  }
}

// ---- 32 weight rows -----------------------------------------------------------------------------

// Weights that do not lie in memory as a tile wants them: rows apart or missing, or the end of all.
struct Staged {
  alignas(64) bf16 at[kTiledRows * kDepth];

  void take(const bf16* const* rows, int64_t count, int64_t first, int64_t dim) {
    const int n = dim - first < kDepth ? static_cast<int>(dim - first) : kDepth;
    for (int64_t w = 0; w < kTiledRows; ++w) {
      const bf16v v = w < count ? load_pairs_n(rows[w] + first, n) : load_pairs_n(at, 0);
      store(reinterpret_cast<float*>(at + w * kDepth), _mm512_castsi512_ps(v));
    }
  }
};

// Whether 16 rows lie evenly apart.
bool even(const bf16* const* rows) {
  const int64_t pitch = rows[1] - rows[0];
  for (int i = 2; i < kTileRows; ++i) {
    if (rows[i] - rows[i - 1] != pitch) return false;
  }
  return true;
}

struct Block {
  const bf16* const* rows;
  int64_t count;  // of weight rows, 1 to 32
  int64_t dim;
  bool as_it_lies;  // tiles are read where the weights are
  int64_t inputs;   // of a group
};

// Sums of a block with one column of tiles: [32 weight rows][inputs of the group].
using TileSums = float[kTiledRows * kTileInputs];

// Registers: 0 to 3 for sums, 4 and 5 for weights, 6 and 7 for inputs. The sums so far are in
// memory, or there are none.
template <int kWide>
EXN_SIMD void load_sums(const TileSums* sums, bool any, int64_t half, int64_t pitch) {
  if (!any) {
    EXN_TILE_ZERO(0);
    EXN_TILE_ZERO(1);
    EXN_TILE_ZERO(2);
    EXN_TILE_ZERO(3);
    return;
  }
  EXN_TILE_LOAD(0, sums[0], pitch);
  EXN_TILE_LOAD(1, sums[0] + half, pitch);
  if constexpr (kWide > 1) {
    EXN_TILE_LOAD(2, sums[1], pitch);
    EXN_TILE_LOAD(3, sums[1] + half, pitch);
  }
}
template <int kWide>
EXN_SIMD void store_sums(TileSums* sums, int64_t half, int64_t pitch) {
  EXN_TILE_STORE(0, sums[0], pitch);
  EXN_TILE_STORE(1, sums[0] + half, pitch);
  if constexpr (kWide > 1) {
    EXN_TILE_STORE(2, sums[1], pitch);
    EXN_TILE_STORE(3, sums[1] + half, pitch);
  }
}

// Steps [begin, end) of a block with one or two columns of tiles, whose sums so far are in memory
// where begin > 0.
template <int kWide>
__attribute__((noinline)) void multiply_block(const Block& block, const bf16* const (&columns)[2],
                                              int64_t begin, int64_t end, TileSums* sums,
                                              PrefetchRun* next) {
  const int64_t pitch = 4 * block.inputs, tile = 2 * kTileRows * block.inputs;
  const int64_t half = kTileRows * block.inputs;
  load_sums<kWide>(sums, begin > 0, half, pitch);
  const bf16 *b0 = columns[0] + begin * tile, *b1 = columns[1] + begin * tile;
  PrefetchRun ahead = *next;
  const auto step = [&](const bf16* upper, int64_t upper_pitch, const bf16* lower,
                        int64_t lower_pitch) EXN_FLAT {
    EXN_TILE_LOAD(4, upper, upper_pitch);
    ahead.prefetch();
    EXN_TILE_LOAD(6, b0, pitch);
    ahead.prefetch();
    EXN_TILE_DOT(0, 4, 6);
    EXN_TILE_LOAD(5, lower, lower_pitch);
    ahead.prefetch();
    EXN_TILE_DOT(1, 5, 6);
    if constexpr (kWide > 1) {
      EXN_TILE_LOAD(7, b1, pitch);
      ahead.prefetch();
      EXN_TILE_DOT(2, 4, 7);
      ahead.prefetch();
      EXN_TILE_DOT(3, 5, 7);
    }
    ahead.prefetch();
    b0 += tile;
    b1 += tile;
  };
  const int64_t whole = !block.as_it_lies ? begin : end * kDepth <= block.dim ? end : end - 1;
  if (whole > begin) {
    const bf16 *upper = block.rows[0], *lower = block.rows[kTileRows];
    const int64_t upper_pitch = (block.rows[1] - upper) * 2;
    const int64_t lower_pitch = (block.rows[kTileRows + 1] - lower) * 2;
    for (int64_t i = begin; i < whole; ++i) {
      step(upper + i * kDepth, upper_pitch, lower + i * kDepth, lower_pitch);
    }
  }
  for (int64_t i = whole; i < end; ++i) {
    Staged staged;
    staged.take(block.rows, block.count, i * kDepth, block.dim);
    step(staged.at, kDepth * 2, staged.at + kTileRows * kDepth, kDepth * 2);
  }
  *next = ahead;
  store_sums<kWide>(sums, half, pitch);
}

// ---- results ------------------------------------------------------------------------------------

// <weight row, input row> without tiles.
float product(const bf16* weight, const float* x, int64_t dim) {
  f32v sum = zero();
  for_vectors(dim, [&](int64_t i, int n) EXN_FLAT {
    sum = fma(load_part(weight + i, n, 0.0f), load_part(x + i, n, 0.0f), sum);
  });
  return reduce_add(sum);
}

// out[x * out_stride + w] for the weight rows [first, first + 16) of a block and `count` inputs of
// a group, of whose terms `sums` are.
void write(const Block& block, int64_t first, const TileSums* sums, const Inputs& in, int64_t count,
           float* out, int64_t out_stride) {
  const int64_t left = block.count - first;
  const int rows = left < kTileRows ? static_cast<int>(left) : kTileRows;
  f32v v[kTileRows];
  for (int w = 0; w < kTileRows; ++w) {
    // Lanes beyond the group belong to the row below, and are not used.
    const int64_t at = (first + w) * block.inputs;
    const int lanes = static_cast<int>(block.inputs);
    f32v sum = load_n(sums[0] + at, lanes, 0.0f);
    if (in.terms == kMostTerms) {
      sum = add(sum, add(load_n(sums[1] + at, lanes, 0.0f), load_n(sums[2] + at, lanes, 0.0f)));
    }
    v[w] = sum;
  }
  transpose_lanes(v);
  for (int64_t x = 0; x < count; ++x) {
    float* const to = out + x * out_stride;
    store_n(to, v[x], rows);
    const uint32_t finite = bits_of(less(abs(v[x]), set1(INFINITY)));
    if (__builtin_expect(finite == 0xffff, 1)) continue;
    for (int w = 0; w < rows; ++w) {
      if ((finite >> w & 1) == 0) {
        to[w] = product(block.rows[first + w], in.f32 + x * in.stride, block.dim);
      }
    }
  }
}

TileShapes shapes_of(int64_t inputs) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    const bool weights = i == 4 || i == 5;
    shapes.rows[i] = kTileRows;
    shapes.row_bytes[i] = static_cast<uint16_t>(weights ? 2 * kDepth : 4 * inputs);
  }
  return shapes;
}

// The block of weights after this one, if it lies in the order of memory.
PrefetchRun next_of(const WeightRows<bf16>& weight, int64_t first, int64_t dim) {
  const int64_t begin = first + kTiledRows, end = begin + kTiledRows;
  const bool there = end <= weight.count + weight.reach &&
                     weight.at[end - 1] - weight.at[begin] == (kTiledRows - 1) * dim;
  if (!there) return {nullptr, nullptr};
  const char* const at = reinterpret_cast<const char*>(weight.at[begin]);
  return {at, at + kTiledRows * dim * static_cast<int64_t>(sizeof(bf16))};
}

// Steps in which a block of weights stays in L1 while the columns of tiles pass by.
constexpr int64_t kNearSteps = 12;

}  // namespace

void arrange_tiles(const Inputs& in, int64_t inputs, bf16* to) {
  if (in.terms == 1) {
    arrange<1>(in, inputs, to);
  } else {
    arrange<kMostTerms>(in, inputs, to);
  }
}

void tile_products(const WeightRows<bf16>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                   float* out, int64_t out_stride, ProductScratch& scratch) {
  const Groups groups(inputs);
  const int64_t steps = steps_of(dim), columns = groups.count * in.terms;
  const int64_t column = steps * 2 * kTileRows * groups.inputs;  // elements of a column of tiles
  const int64_t turns = (steps + kNearSteps - 1) / kNearSteps;
  static_assert(sizeof(TileSums) * kMostColumns <= sizeof scratch.at);
  TileSums* const sums = reinterpret_cast<TileSums*>(scratch.at);
  shape_tiles(shapes_of(groups.inputs));
  for (int64_t first = 0; first < weight.count; first += kTiledRows) {
    Block block;
    block.rows = weight.at + first;
    block.count = weight.count - first < kTiledRows ? weight.count - first : kTiledRows;
    block.dim = dim;
    block.as_it_lies =
        block.count == kTiledRows && even(block.rows) && even(block.rows + kTileRows);
    block.inputs = groups.inputs;
    PrefetchRun next = next_of(weight, first, dim);
    for (int64_t turn = 0; turn < turns; ++turn) {
      const int64_t begin = steps * turn / turns, end = steps * (turn + 1) / turns;
      for (int64_t c = 0; c < columns; c += 2) {
        const bf16* const at = in.tiles + c * column;
        if (c + 1 < columns) {
          multiply_block<2>(block, {at, at + column}, begin, end, sums + c, &next);
        } else {
          multiply_block<1>(block, {at, at}, begin, end, sums + c, &next);
        }
      }
    }
    for (int64_t g = 0; g < groups.count; ++g) {
      const int64_t x = g * groups.inputs;
      const int64_t count = inputs - x < groups.inputs ? inputs - x : groups.inputs;
      for (int64_t w = 0; w < block.count; w += kTileRows) {
        write(block, w, sums + g * in.terms, inputs_from(in, x), count,
              out + x * out_stride + first + w, out_stride);
      }
    }
  }
  release_tiles();
}

}  // namespace exn::cpu::EXN_ISA

#endif
