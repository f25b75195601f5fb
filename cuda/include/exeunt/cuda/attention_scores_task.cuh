// SPDX-License-Identifier: Apache-2.0
//
// What attention_scores is told, how its work and its memory are laid out, and what a block shares.
#pragma once

#include <cstdint>

#include "key_products.cuh"
#include "kv.cuh"
#include "select.cuh"
#include "storage.cuh"

namespace exn::cuda {

constexpr int kScoreThreads = 256;
constexpr int kScoreWarps = kScoreThreads / kWarp;
// Blocks on an SM, which registers and shared memory must allow.
template <int QUERIES>
constexpr int kScoreBlocks = QUERIES == 4 ? 4 : 2;
// Elements of queries that a thread loads together, as registers allow.
template <int QUERIES>
constexpr int kQueryLoads = QUERIES == 4 ? 1 : 4;
constexpr int kMostScoreSlots = kScoreWarps * kWarp;  // of a tile
constexpr int kMostScoreRows = 64;                    // of a window, in one launch
// Four queries are few: the launch has no more.
template <int QUERIES>
constexpr int kMostQueryGroups = QUERIES == 4 ? 1 : 4;
template <int QUERIES>
constexpr int kMostSeenRows = QUERIES == 4 ? QUERIES : kMostScoreRows;
// The rows of a window are summed in so many runs, and these in their order.
constexpr int kRowRuns = 4;
// How often a block looks whether those of its head have drawn.
constexpr int kScorePatience = 4;
constexpr int kMostPoolWidth = 255;
constexpr int kMostFusedColumns = 32 * kScoreThreads;  // that the launch may also choose from

enum class HeadSum : int { kEach, kSum, kMean, kGroup };
enum class Pooling : int { kNone, kAverage, kMax };

// How the work of a launch is cut. Everything follows from the parameters and the device.
struct ScoresShape {
  int queries;         // of a KV head
  int query_groups;    // 1, 2 or 4: groups of warps that take other queries
  int slot_shift;      // of a tile, a warp takes 2^slot_shift slots, up to 32
  int copy_shift;      // 2^copy_shift threads are side by side along a row of K
  bool vectors;        // rows of K are whole, aligned chunks of 16 bytes
  bool query_vectors;  // and so are those of queries
  bool keeps;          // products, in shared memory
  int64_t tiles;       // of a KV head
  int select_items;    // columns of a thread that selects; 0: no thread does
  int piece;           // columns of a row that a finishing block takes
  int64_t pieces;      // of a row
  int64_t score_blocks;
  int64_t finish_blocks;

  __host__ __device__ int warp_slots() const { return 1 << slot_shift; }
};

// Where a block's dynamic shared memory holds what, in bytes; queries come first.
struct ScoresLayout {
  int query_pitch;  // elements
  int k_chunks;     // of a row
  int k_pitch;      // odd in chunks: lanes that read one chunk of eight rows meet in no bank
  int tile_slots;
  int keys;
  int products;  // [queries, tile_slots], if they are kept, and the weights of their softmax
  int weights;
  int total;
};

// Finishing blocks hold columns to pool there, and the last of a row what a selection needs.
constexpr int kPooledColumns = kScoreThreads + kMostPoolWidth - 1;

template <class C, int QUERIES>
ScoresLayout scores_layout(int dim, const ScoresShape& shape) {
  constexpr int kFloat = static_cast<int>(sizeof(float));
  ScoresLayout layout;
  layout.k_chunks = (dim + kVector<C> - 1) / kVector<C>;
  layout.query_pitch = layout.k_chunks * kVector<C>;
  layout.k_pitch = (layout.k_chunks | 1) * kChunkBytes;
  layout.tile_slots = kScoreWarps / shape.query_groups * shape.warp_slots();
  layout.keys = shape.query_groups * QUERIES * layout.query_pitch * kFloat;
  layout.products = layout.keys + layout.tile_slots * layout.k_pitch;
  layout.weights = layout.products;
  layout.total = layout.products;
  if (shape.keeps) {
    layout.weights += shape.queries * layout.tile_slots * kFloat;
    layout.total = layout.weights + shape.queries * 2 * kFloat;
  }
  const int pooled = kPooledColumns * kFloat;
  const int keys = shape.select_items * kScoreThreads * static_cast<int>(sizeof(unsigned));
  const int selection = keys > 0 ? static_cast<int>(sizeof(SelectShared<kScoreThreads>)) + keys : 0;
  layout.total = layout.total > pooled ? layout.total : pooled;
  layout.total = layout.total > selection ? layout.total : selection;
  return layout;
}

// All zero before a launch.
struct ScoresCounters {
  unsigned* drawn;     // [1]: blocks that have drawn their work
  unsigned* arrived;   // [prompts, kv_heads]: tiles that are scored, and 1 if they are merged
  unsigned* ready;     // [prompts]: tiles whose products are there; KV heads, if a softmax's are
                       // not kept
  unsigned* missing;   // [prompts]: 1 if a slot lies in a sequence or page that does not exist
  unsigned* finished;  // [prompts, score_heads]: pieces of a row that are written
};

// Rows [first_row, first_row + rows) of each prompt's window; further rows are another launch's.
template <class C>
struct ScoresTask {
  const void* query;  // [prompts * window, kv_heads * group, dim], heads compact
  Storage query_type;
  int64_t query_stride;  // elements between rows
  const C* keys;
  KvLayout at;
  const int32_t* sequence;  // [prompts], optional
  const int32_t* visible;   // [prompts, window]
  const int32_t* limit;     // [prompts], optional
  int64_t prompts;
  int64_t window;
  int64_t first_row;
  int rows;
  int64_t kv_heads;
  int group;  // query heads of a KV head
  int dim;
  int64_t columns;
  int64_t first;  // slot of column 0
  float scale;
  bool softmax;
  HeadSum heads;
  int64_t score_heads;
  Pooling pool;
  int pool_width;  // 1 without pooling
  bool starts;     // the first launch of the run
  bool ends;       // the last one
  bool accumulate;
  // A row for each query or, if `summed`, for each QUERIES of them, which are summed.
  float* products;  // [prompts, kv_heads, product_rows, pitch]
  int product_rows;
  int64_t pitch;
  bool summed;
  float2* states;   // [prompts, kv_heads, queries, tiles]: maximum and sum
  float2* weights;  // [prompts, kv_heads, queries]: what exponents are relative to, 1 / sum
  int32_t* kept;    // [prompts, kv_heads, tiles]: 1 if there are sums in place of products
  // [prompts, kv_heads, group or 1, pitch], as score rows have heads of their own.
  float* kept_sums;
  float* sums;      // [prompts, score_heads, columns], between launches
  float* scores;    // [prompts, score_heads, columns]
  int32_t* scored;  // [prompts, score_heads], optional: leading columns that have a score
  bool selects;     // in this launch
  SelectionTask selection;
  ScoresCounters counters;
  ScoresShape shape;
  ScoresLayout layout;
};

// What a scoring block works on. It multiplies slots [begin, end) with queries that see less than
// `seen`.
struct ScorePlace {
  int64_t prompt;
  int64_t kv_head;
  int64_t tile;
  int64_t begin;
  int64_t end;
  int64_t seen;
  int32_t sequence;
};

// What a finishing block works on: a row of scores, the sum over KV heads [kv_begin, kv_end) and
// the rows of the window. Of a KV head's products, window row i has `stride` rows, of
// which the score's are [begin, end). Where queries are summed already, each sum
// counts as a row of the window.
struct ScoreRow {
  int64_t index;
  int64_t prompt;
  int64_t seen;    // by the launch's rows
  int64_t scored;  // columns
  int kv_begin;
  int kv_end;
  int rows;
  int stride;
  int begin;
  int end;
};

// Static shared memory of a block.
template <int QUERIES>
struct ScoresShared {
  ScorePlace place;
  ScoreRow row;
  int64_t offsets[kMostScoreSlots];  // of the tile's slots
  float2 states[kScoreWarps][QUERIES];
  int seen[kMostQueryGroups<QUERIES> * QUERIES];  // slots that a query sees
  int row_seen[kMostSeenRows<QUERIES>];           // and all queries of a row
  int most[2][kScoreWarps];
  unsigned drawn;
  bool is_last;
  bool is_kept;
};

}  // namespace exn::cuda
