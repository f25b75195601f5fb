// SPDX-License-Identifier: Apache-2.0
// exit_head on the CPU: for each block of up to 64 rows, reads the weights once, V * D *
// sizeof(element) bytes or V rows of blocks; the logits of a few hundred vocabulary rows at a time
// stay in cache and are summarised there.
#include "matrix_products.h"
#include "normalise.h"
#include "stats.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kMaxVocabTile = 512;
static_assert(kMaxVocabTile <= WeightRows<float>::kMost);

// A thread's scratch memory.
struct HeadScratch {
  alignas(64) float z[kRowBlock * kMaxVocabTile];
  ProductScratch products;
  MappedTile mapped;
};

// Vocabulary rows per tile: about 512 KiB of weights, so that a tile is worth handing to another
// thread and its statistics, during which the memory idles, weigh little. A function of the shape
// alone, like all that decides the order of sums.
int64_t vocab_tile(int64_t row_bytes) {
  const int64_t rows = (int64_t{512} << 10) / row_bytes / 64 * 64;
  return rows < 64 ? 64 : rows > kMaxVocabTile ? kMaxVocabTile : rows;
}

void load_row(const Matrix& m, int64_t row, float* x, int64_t stride) {
  with_float_type(m.dtype,
                  [&](auto type) { convert(row_of<EXN_TYPE_OF(type)>(m, row), m.cols, x); });
  for (int64_t i = m.cols; i < stride; ++i) x[i] = 0;
}

// to[r] = translator * from[r] + bias for all rows; `from` is left in the order
// of the translator's pairs.
void translate(const ExitHeadArgs& a, float* from, float* to, int64_t stride, char* rounded,
               HeadScratch* own) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  with_weight_type(a.translator, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows; ++row) order_pairs<T>(from + row * stride, stride);
    Inputs in;
    in.f32 = from;
    in.stride = stride;
    into_blocks(a.translator, rows, rounded, &in);
    matrix_products<T>(a.translator, in, rows, 64, to, stride, &own->products);
  });
  for (int64_t row = 0; row < rows; ++row) {
    float* x = to + row * stride;
    for (int64_t i = dim; i < stride; ++i) x[i] = 0;
    if (a.translator_bias == nullptr) continue;
    for_vectors(dim, [&](int64_t i, int n) {
      store_part(x + i, add(load_part(x + i, n, 0.0f), load_part(a.translator_bias + i, n, 0.0f)),
                 n);
    });
  }
}

// The place of an id outside the vocabulary in the shortlist, or -1.
int64_t bad_entry(const Vector& shortlist, int64_t vocab) {
  const int32_t* ids = static_cast<const int32_t*>(shortlist.data);
  for (int64_t i = 0; i < shortlist.size; ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) return i;
  }
  return -1;
}

// From places in the shortlist to vocabulary ids; among equal logits of the
// tile the smallest id wins.
void place_to_id(TileStats* tile, const float* z, int64_t n, const int32_t* ids) {
  if (tile->index < 0) return;
  int32_t best = ids[tile->index];
  for (int64_t i = 0; i < n; ++i) {
    if (z[i] == tile->top1 && ids[i] < best) best = ids[i];
  }
  tile->index = best;
}

template <class T>
void head(const ExitHeadArgs& a, const Inputs& inputs, const LogitMap& map, int64_t tile_rows,
          int64_t tiles, TileStats* stats, HeadScratch* own) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  const int32_t* ids = static_cast<const int32_t*>(a.shortlist.data);
  const int64_t entries = ids != nullptr ? a.shortlist.size : a.weight.rows;
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const bool full = needs_full(a.out);
  const auto run = [&](int64_t begin, int64_t end, HeadScratch& scratch) {
    float* const z = scratch.z;
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first_row = item / tiles * kRowBlock, tile = item % tiles;
      const int64_t count = rows - first_row < kRowBlock ? rows - first_row : kRowBlock;
      const int64_t first = tile * tile_rows;
      const int64_t n = entries - first < tile_rows ? entries - first : tile_rows;
      const auto id = [=](int64_t w) EXN_FLAT {
        return ids != nullptr ? ids[first + w] : first + w;
      };
      const Matrix from = a.weight;
      const WeightRows<T> weight(n, entries - first - n,
                                 [=](int64_t w) { return row_of<T>(from, id(w)); });
      row_products(weight, inputs_from(inputs, first_row), count, dim, z, tile_rows,
                   scratch.products);
      for (int64_t r = 0; r < count; ++r) {
        float* logits = z + r * tile_rows;
        if (a.bias != nullptr) {
          for (int64_t w = 0; w < n; ++w) logits[w] += a.bias[id(w)];
        }
        TileStats* out = stats + (first_row + r) * tiles + tile;
        *out = summarise(logits, n, first, map, full, scratch.mapped);
        if (ids != nullptr) {
          out->index -= static_cast<int32_t>(first);
          place_to_id(out, logits, n, ids + first);
        }
      }
    }
  };
  parallel_for(blocks * tiles, share(blocks * tiles, rows), own, run);
}

}  // namespace

exn_status exit_head(const ExitHeadArgs& a, Workspace& ws) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols, stride = padded(dim);
  const bool translated = a.translator.data != nullptr;
  const bool narrows = a.hidden.dtype == a.weight.dtype && a.hidden.dtype != DType::kF32;
  const bool pairs = in_pairs(a.hidden.dtype, a.weight.dtype);
  const int64_t entries = a.shortlist.data != nullptr ? a.shortlist.size : a.weight.rows;
  const int64_t tile_rows = vocab_tile(row_bytes(a.weight));
  const int64_t tiles = (entries + tile_rows - 1) / tile_rows;
  float* x = ws.take<float>(rows * stride);
  float* raw = ws.take<float>(translated ? rows * stride : 0);
  bf16* narrowed = ws.take<bf16>(pairs ? rows * stride : 0);
  char* rounded = ws.take<char>(product(rows, rounded_bytes(a.weight, a.translator)));
  TileStats* stats = ws.take<TileStats>(rows * tiles);
  HeadScratch* own = ws.take<HeadScratch>(1);
  if (ws.counting()) return EXN_OK;

  if (a.shortlist.data != nullptr) {
    const int64_t bad = bad_entry(a.shortlist, a.weight.rows);
    if (bad >= 0) {
      return fail(EXN_INVALID_ARGUMENT, "exn_exit_head: shortlist[%lld] is %d, expected 0..%lld",
                  static_cast<long long>(bad), static_cast<const int32_t*>(a.shortlist.data)[bad],
                  static_cast<long long>(a.weight.rows - 1));
    }
  }
  ran(EXN_CPU_PATH("exit_head"));
  float* loaded = translated ? raw : x;
  for (int64_t row = 0; row < rows; ++row) {
    float* to = loaded + row * stride;
    load_row(a.hidden, row, to, stride);
    if (translated && a.translate == EXN_TRANSLATE_RMS) {
      const f32v scale = set1(moments_of(to, dim, EXN_NORM_RMS, a.norm_eps).scale);
      for_vectors(dim, [&](int64_t i, int n) {
        store_part(to + i, mul(load_part(to + i, n, 0.0f), scale), n);
      });
    }
  }
  if (translated) translate(a, raw, x, stride, rounded, own);
  for (int64_t row = 0; row < rows; ++row) {
    float* to = x + row * stride;
    if (a.norm != EXN_NORM_NONE) {
      normalise_row(to, dim, moments_of(to, dim, a.norm, a.norm_eps), a.norm_weight, a.norm_bias,
                    to);
    }
    if (pairs) {
      convert(to, stride, narrowed + row * stride);
    } else if (narrows) {
      round_row(a.hidden.dtype, to, dim);
    }
  }

  Inputs inputs;
  inputs.f32 = x;
  inputs.bf = pairs ? narrowed : nullptr;
  inputs.stride = stride;
  inputs.far = is_far(a.weight);
  const LogitMap map = logit_map(a.normalizer, a.temperature, a.softcap);
  into_blocks(a.weight, rows, rounded, &inputs);
  with_weight_type(a.weight, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows && !pairs; ++row) order_pairs<T>(x + row * stride, stride);
    head<T>(a, inputs, map, tile_rows, tiles, stats, own);
  });
  for (int64_t row = 0; row < rows; ++row) {
    write_row(stats + row * tiles, tiles, entries, map, a.out, row);
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
