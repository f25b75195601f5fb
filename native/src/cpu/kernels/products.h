// SPDX-License-Identifier: Apache-2.0
// Products of weight rows that come from memory with the rows of a batch, for linear, ffn,
// kv_propagate, exit_head and gate.
//
// A product adds up the pairs of columns that load_pair gives in ascending order: the first and the
// second vectors in one accumulator each, or, where vectors are long, both in one; folded as
// reduce_add folds. So it has the same bits whatever block it is computed in, and a row's result
// does not depend on its batch. Prompts are an exception: linear and ffn have products of more than
// kRowBlock rows with bf16 made of tiles where the set has them (tile_products.cpp), in an order of
// their own.
#pragma once

#include "../simd/prefetch.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Whether chains are computed one after the other, see chain_blocks.
#if defined(EXN_HAS_ODD_LOADS)
constexpr bool kChainwise = true;
#else
constexpr bool kChainwise = false;
#endif

// Elements of an input row with its padding: zeros, up to whole vectors of f32 pairs and of bf16.
static EXN_SIMD int64_t padded(int64_t dim, bool tiles) {
  const int64_t whole = (dim + 31) / 32 * 32;
  if (tiles || (!kChainwise && kLanes != 16) || whole < 896) return whole;
  // Rows that lie (nearly) a multiple of 4 KiB apart would compete for the same places in L1.
  const int64_t beyond = whole % 1024;
  return beyond < 128 ? whole - beyond + 128 : beyond > 896 ? whole - beyond + 1152 : whole;
}

// Input rows that share one reading of the weights.
constexpr int64_t kRowBlock = 64;

// Whether so many inputs of linear or ffn are multiplied by such weights in tiles, where the call
// may use these.
static EXN_SIMD bool meet_in_tiles(bool tiles, DType weight, int64_t inputs) {
  return tiles && weight == DType::kBF16 && inputs > kRowBlock;
}

// Input rows in the form the products read: f32, or bf16 where both sides are bf16 and the set
// multiplies it natively.
struct Inputs {
  const float* f32 = nullptr;
  const bf16* bf = nullptr;     // takes precedence
  const bf16* tiles = nullptr;  // takes precedence too, and stands beside f32; see into_tiles
  int terms = 0;                // numbers in `tiles` that an element is the sum of
  int64_t stride = 0;           // elements between rows, padded
  // As they meet blocks, in whose place they stand beside f32; see into_blocks.
  const char* rounded = nullptr;
  int64_t rounded_stride = 0;  // bytes
  Blocks blocks = Blocks::kNone;
  bool int8 = false;           // rounded to 8 bits, so that upper halves are zeros
  bool adjacent_rows = false;  // of blocks: WeightRows lie one after the other
  bool far = false;            // the weights are more than caches keep
};

// Whether no cache has kept what a call reads of so many such matrices.
static EXN_SIMD bool is_far(const Matrix& weight, int64_t matrices = 1) {
  return matrices * weight.rows * row_bytes(weight) >= tuning().far_bytes();
}

// Tiles of weights, of all that lie one after another, which a thread takes at least. Where all
// rows share one reading of the weights it is memory that is waited for, and a thread reads on
// faster than it begins elsewhere, above all where it asks far ahead, for several rows; but not so
// many that another one waits for it in the end.
static EXN_SIMD int64_t share(int64_t tiles, int64_t rows) {
  constexpr int64_t kMost = 4;
  if (rows > kRowBlock) return 1;
  const int64_t fair = tiles / ((rows == 1 ? 4 : 2) * threads());
  return fair < 1 ? 1 : fair < kMost ? fair : kMost;
}

static EXN_SIMD Inputs inputs_from(Inputs in, int64_t row) {
  if (in.f32 != nullptr) in.f32 += row * in.stride;
  if (in.bf != nullptr) in.bf += row * in.stride;
  if (in.tiles != nullptr) in.tiles += row * in.terms * in.stride;
  if (in.rounded != nullptr) in.rounded += row * in.rounded_stride;
  return in;
}

// Brings an input row, padded with zeros, into the order of columns that pairs of T have.
template <class T>
static EXN_SIMD void order_pairs(float* x, int64_t padded_dim) {
  if constexpr (std::is_same_v<T, bf16>) {
    for (int64_t k = 0; k < padded_dim; k += kPair) {
      float plain[kPair];
      std::memcpy(plain, x + k, sizeof plain);
      for (int i = 0; i < kLanes; ++i) {
        x[k + i] = plain[2 * i];
        x[k + kLanes + i] = plain[2 * i + 1];
      }
    }
  }
}

// And back.
template <class T>
static EXN_SIMD void reorder_pairs(float* x, int64_t padded_dim) {
  if constexpr (std::is_same_v<T, bf16>) {
    for (int64_t k = 0; k < padded_dim; k += kPair) {
      float pairs[kPair];
      std::memcpy(pairs, x + k, sizeof pairs);
      for (int i = 0; i < kLanes; ++i) {
        x[k + 2 * i] = pairs[i];
        x[k + 2 * i + 1] = pairs[kLanes + i];
      }
    }
  }
}

// The same of an input of linear or ffn; tiles take it as it is.
template <class T>
static EXN_SIMD void order_input(float* x, int64_t padded_dim, bool tiled) {
  if (!tiled) order_pairs<T>(x, padded_dim);
}

// Elements that into_tiles needs.
static EXN_SIMD int64_t tile_elements(bool tiled, int64_t inputs, int64_t stride, int terms) {
  constexpr int64_t kEmpty = 3;  // groups are filled up
  return tiled ? terms * stride * (inputs + kEmpty) : 0;
}

// Writes what up to kRowBlock inputs are in tiles.
void arrange_tiles(const Inputs& in, int64_t inputs, bf16* to);

// Brings inputs into tiles. Those that are exactly bf16 have one term, all else three.
static EXN_SIMD void into_tiles(int64_t inputs, int terms, bf16* buffer, Inputs* in) {
  in->tiles = buffer;
  in->terms = terms;
  parallel_for((inputs + kRowBlock - 1) / kRowBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kRowBlock, left = inputs - first;
      arrange_tiles(inputs_from(*in, first), left < kRowBlock ? left : kRowBlock,
                    buffer + first * terms * in->stride);
    }
  });
}

// Bytes of an input row of `weight` as it meets its blocks, a multiple of 64; 0 if it has none.
int64_t rounded_bytes(const Matrix& weight);

// The larger one of two such; of a weight that was left out it is 0.
static EXN_SIMD int64_t rounded_bytes(const Matrix& a, const Matrix& b) {
  const int64_t first = rounded_bytes(a), second = rounded_bytes(b);
  return first > second ? first : second;
}

// Brings an input into that form, of 16 bits or of 8.
void round_input(const Matrix& weight, const float* x, bool int8, char* to);

// Brings inputs, as they stand at in->f32, into that form, of 8 bits if in->int8; does nothing if
// there are no blocks.
void into_blocks(const Matrix& weight, int64_t inputs, char* buffer, Inputs* in);

// Calls f with the type of which WeightRows of such a matrix are: uint8_t for blocks.
template <class F>
static EXN_SIMD void with_weight_type(const Matrix& weight, F&& f) {
  if (weight.blocks != Blocks::kNone) {
    f(static_cast<const uint8_t*>(nullptr));
  } else {
    with_float_type(weight.dtype, static_cast<F&&>(f));
  }
}

// Sums of N vectors; a tree that is half empty is still cheaper than its vectors one by one.
template <int N>
static EXN_SIMD void fold_vectors(const f32v (&v)[N], float* out) {
  constexpr int kRest = N % kReduceTree;
  constexpr int kFill = 2 * kRest > kReduceTree - 4 && kRest > 0 ? kReduceTree - kRest : 0;
  if constexpr (kFill == 0) {
    reduce_add_all(v, out);
  } else {
    f32v filled[N + kFill];
    for (int i = 0; i < N; ++i) filled[i] = v[i];
    for (int i = N; i < N + kFill; ++i) filled[i] = zero();
    float sums[N + kFill];
    reduce_add_all(filled, sums);
    for (int i = 0; i < N; ++i) out[i] = sums[i];
  }
}

#if defined(EXN_HAS_ODD_LOADS)
// v[n] = the first or the second vector of the pair at(n). `step` tells the steps of a loop apart.
template <bool kSecond, class T, int kN, class At>
static EXN_SIMD void load_halves(At&& at, int64_t step, f32v (&v)[kN]) {
  if constexpr (kSecond && std::is_same_v<T, bf16>) {
    const auto mask = odd_mask(step);
    for (int n = 0; n < kN; ++n) v[n] = load_odd(at(n), mask);
  } else {
    for (int n = 0; n < kN; ++n) {
      f32v first, second;
      load_pair(at(n), first, second);
      v[n] = kSecond ? second : first;
    }
  }
}
#endif

// Weight rows, in the order in which they are multiplied.
template <class T>
struct WeightRows {
  static constexpr int64_t kMost = 512, kNext = 128;
  const T* at[kMost + kNext];
  int64_t count;  // at most kMost
  int64_t reach;  // rows after them, which exist too and are needed next

  // By value, so that nothing in row_at could change with an entry and is loaded again.
  template <class RowAt>
  EXN_SIMD WeightRows(int64_t size, int64_t after, RowAt row_at)
      : count(size), reach(after < kNext ? after : kNext) {
    const int64_t end = count + reach;
    for (int64_t w = 0; w < end; ++w) at[w] = row_at(w);
  }
};

// What products keep in between: sums that wait for their next columns, or rows that were widened.
struct ProductScratch {
  static constexpr int64_t kFloats = 16384;
  alignas(64) float at[kFloats];
  const float* rows[kFloats / 32];  // a row is padded to 32 at least
};

// out[x * out_stride + w] = <weight row w, input row x> for inputs [0, inputs), whose columns are
// in the order of pairs of T.
template <class T>
void row_products(const WeightRows<T>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch);

// The same of rows of blocks and inputs that into_blocks made.
template <>
void row_products(const WeightRows<uint8_t>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch);

// The same of inputs in tiles, up to kRowBlock of them.
void tile_products(const WeightRows<bf16>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                   float* out, int64_t out_stride, ProductScratch& scratch);

}  // namespace exn::cpu::EXN_ISA
