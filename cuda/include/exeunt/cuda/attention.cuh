// SPDX-License-Identifier: Apache-2.0
//
// attention: grouped-query attention of query rows over a KV cache.
//
// A block takes up to 32 queries (a query is one head of one row) that share a KV head: the heads
// of a row, and several rows where they are of one sequence. It walks its split of their slots in
// tiles that it copies to shared memory, so that K and V are read once for all its queries, keeps a
// running maximum and sum for each, and leaves either the result or a partial one that a second
// kernel merges. Tile t belongs to split t % splits: whatever a row sees is spread over all of
// them.
//
// Of the block's warps, `query_groups` take other queries and the rest other slots of the tile.
// Scores: a lane is a slot, or one of the parts of a slot's elements. Sums over V: a lane is WIDTH
// neighbouring elements. Fused multiply-adds only, no tensor cores: up to eight queries in a block
// the kernel is bound by the bytes of the cache, beyond that by the FMA pipe.
#pragma once

#include "elements.cuh"
#include "key_products.cuh"
#include "kv.cuh"
#include "normalizer.cuh"
#include "reduce.cuh"
#include "storage.cuh"

namespace exn::cuda {

constexpr int kAttentionThreads = 128;
constexpr int kAttentionWarps = kAttentionThreads / kWarp;
// Blocks on an SM that registers must allow; shared memory may allow fewer.
template <int WIDTH, int QUERIES>
constexpr int kAttentionBlocks = QUERIES == 4 ? 4
                                 : WIDTH <= 4 ? 3
                                              : 2;
constexpr int kMostQueries = 32;  // of a block
constexpr int kMostTileSlots = kAttentionWarps * kWarp;

// [rows, heads, dim] with compact heads.
struct HeadRows {
  void* data;
  Storage type;
  int64_t stride;  // elements between rows
};

// How the work is cut. Everything follows from the parameters and the device.
struct AttentionShape {
  int row_block;     // rows of a block
  int head_block;    // query heads of a row in a block
  int head_blocks;   // of a KV head
  int query_groups;  // 1, 2 or 4
  int slot_shift;    // of a tile, a warp takes 2^slot_shift slots, up to 32
  int slices;        // of 32 * WIDTH elements of V, each in a block of its own
  int splits;        // parts of the slots
  int copy_shift;    // 2^copy_shift threads are side by side along a row of K or V
  bool vectors;      // rows of K and V are whole, aligned chunks of 16 bytes

  __host__ __device__ int warp_slots() const { return 1 << slot_shift; }
};

// Where a block's dynamic shared memory holds what, in bytes; queries come first.
struct AttentionLayout {
  int query_pitch;  // elements
  int k_chunks;     // of a row
  int v_chunks;     // of a row's slice
  int k_pitch;      // odd in chunks: lanes that read one chunk of eight rows meet in no bank
  int v_pitch;
  int tile_slots;
  int weights;
  int k;
  int v;
  int total;
};

// Elements of V that a block sums.
template <int WIDTH>
constexpr int kSlice = kWarp * WIDTH;

template <class C, int WIDTH, int QUERIES>
AttentionLayout attention_layout(int dim, const AttentionShape& shape) {
  constexpr int kFloat = static_cast<int>(sizeof(float));
  constexpr int kPadded = kVector<C> > WIDTH ? kVector<C> : WIDTH;
  const int slice = dim < kSlice<WIDTH> ? dim : kSlice<WIDTH>;
  AttentionLayout layout;
  layout.k_chunks = (dim + kVector<C> - 1) / kVector<C>;
  layout.v_chunks = (slice + kPadded - 1) / kPadded * (kPadded / kVector<C>);
  layout.query_pitch = layout.k_chunks * kVector<C>;
  layout.k_pitch = (layout.k_chunks | 1) * kChunkBytes;
  layout.v_pitch = layout.v_chunks * kChunkBytes;
  layout.tile_slots = kAttentionWarps / shape.query_groups * shape.warp_slots();
  layout.weights = shape.query_groups * QUERIES * layout.query_pitch * kFloat;
  layout.k = layout.weights + kAttentionWarps * shape.warp_slots() * QUERIES * kFloat;
  layout.v = layout.k + layout.tile_slots * layout.k_pitch;
  const int tiles = layout.v + layout.tile_slots * layout.v_pitch;
  // The sums of all warps take the place of the tiles in the end.
  const int sums = kAttentionThreads * WIDTH * QUERIES * kFloat;
  layout.total = tiles > sums ? tiles : sums;
  return layout;
}

template <class C>
struct AttentionTask {
  HeadRows query;
  KvView<C> cache;
  const int32_t* sequence;  // [rows], optional
  const int32_t* visible;   // [rows]
  HeadRows out;
  float* scores;  // [rows, heads, score_slots], optional
  int64_t score_slots;
  int64_t rows;
  int64_t kv_heads;
  int group;  // query heads of a KV head
  int dim;
  float scale;
  float softcap;    // 0: none
  float2* states;   // [rows, heads, splits]: maximum and sum, if there is more than one split
  float* parts;     // [rows, heads, splits, split_pitch]: sums over V
  int split_pitch;  // dim, up to a multiple of 4
  AttentionShape shape;
  AttentionLayout layout;
};

// A query of a block; not present if the block has fewer, or if its row is not of the run.
struct AttentionQuery {
  int64_t row;
  int64_t head;
  bool present;
};

// What a block works on: rows from first_row on, heads of one KV head; of those, [begin, end) are
// of one sequence.
struct AttentionPlace {
  int64_t first_row;
  int64_t kv_head;
  int64_t first_head;
  int rows;
  int heads;
  int slice;
  int split;
  int begin;
  int end;
  int32_t sequence;
};

// Static shared memory of a block.
template <int QUERIES>
struct AttentionShared {
  AttentionPlace place;
  int64_t offsets[2][kMostTileSlots];  // of the tile's slots, and of the next one's
  int64_t query[kMostQueries];         // row * heads + head; kNoQuery: not present
  int32_t seen[kMostQueries];          // slots a query sees; -1: no valid row
  float largest[kAttentionWarps][QUERIES];
  float sums[kAttentionWarps][QUERIES];
};

constexpr int32_t kInvalidRow = -1;
constexpr int64_t kNoQuery = -1;

// What a row's weights are relative to; finite even if all it saw is -inf.
__device__ __forceinline__ float reference_of(float largest) {
  return largest == -INFINITY ? 0.0f : largest;
}

// Slots that a row sees, or kInvalidRow. Where it sees none (-1: it is off), its sequence does not
// matter.
__device__ __forceinline__ int32_t slots_seen(const KvLayout& at, int32_t sequence,
                                              int32_t visible) {
  if (visible == 0 || visible == -1) return 0;
  const bool valid = in_range(sequence, at.sequences) && visible > 0 && visible <= at.slots;
  return valid ? visible : kInvalidRow;
}

// The result of a query from its sum over V and its sum of weights.
__device__ __forceinline__ float attended(float value, float sum, int32_t seen) {
  if (seen == kInvalidRow) return NAN;
  return seen == 0 ? 0.0f : value / sum;
}

template <class C, int WIDTH>
__device__ __forceinline__ void load_values(const unsigned char* from, float (&values)[WIDTH]) {
  constexpr int kWords = WIDTH * static_cast<int>(sizeof(C)) / 4;
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(C));
  unsigned words[kWords];
  if constexpr (kWords == 1) {
    words[0] = *reinterpret_cast<const unsigned*>(from);
  } else if constexpr (kWords == 2) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    words[0] = two.x;
    words[1] = two.y;
  } else {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(from + 4 * i);
      words[i] = four.x;
      words[i + 1] = four.y;
      words[i + 2] = four.z;
      words[i + 3] = four.w;
    }
  }
#pragma unroll
  for (int i = 0; i < kWords; ++i) unpack_pair(C(), words[i], values + i * kPerWord);
}

// What a block works on, the queries that it has loaded, and the tiles that it copies.
template <class C, int WIDTH, int QUERIES>
class AttentionTiles {
 protected:
  __device__ __forceinline__ AttentionTiles(const AttentionTask<C>& task, unsigned char* dynamic,
                                            AttentionShared<QUERIES>* fixed)
      : task_(task),
        dynamic_(dynamic),
        fixed_(*fixed),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        warp_(static_cast<int>(threadIdx.x) / kWarp) {}

  __device__ __forceinline__ const AttentionPlace& place() const { return fixed_.place; }

  // Parts run fastest, then slices, then heads.
  __device__ __forceinline__ void locate(int64_t item) const {
    const AttentionShape& shape = task_.shape;
    AttentionPlace& place = fixed_.place;
    place.split = static_cast<int>(item % shape.splits);
    item /= shape.splits;
    place.slice = static_cast<int>(item % shape.slices);
    item /= shape.slices;
    const int head_block = static_cast<int>(item % shape.head_blocks);
    item /= shape.head_blocks;
    place.kv_head = item % task_.kv_heads;
    place.first_row = item / task_.kv_heads * shape.row_block;
    const int first = head_block * shape.head_block;
    place.heads = min(shape.head_block, task_.group - first);
    place.first_head = place.kv_head * task_.group + first;
    place.rows =
        static_cast<int>(min(static_cast<int64_t>(shape.row_block), task_.rows - place.first_row));
  }

  __device__ __forceinline__ void find_run(int begin) const {
    AttentionPlace& place = fixed_.place;
    place.begin = begin;
    place.end = begin + 1;
    place.sequence = sequence_of(task_.sequence, place.first_row + begin);
    while (place.end < place.rows &&
           sequence_of(task_.sequence, place.first_row + place.end) == place.sequence) {
      ++place.end;
    }
  }

  __device__ __forceinline__ AttentionQuery query_at(int m) const {
    const int row = m / task_.shape.head_block;
    const int head = m % task_.shape.head_block;
    const bool present = row >= place().begin && row < place().end && head < place().heads;
    return {place().first_row + row, place().first_head + head, present};
  }

  __device__ __forceinline__ int64_t heads() const { return task_.kv_heads * task_.group; }

  __device__ __forceinline__ int queries() const { return task_.shape.query_groups * QUERIES; }

  // ---- queries ----------------------------------------------------------------------------------

  __device__ __forceinline__ float* query(int m) const {
    return reinterpret_cast<float*>(dynamic_) + m * task_.layout.query_pitch;
  }

  __device__ __forceinline__ void load_queries() {
    for (int m = warp_; m < queries(); m += kAttentionWarps) {
      const AttentionQuery q = query_at(m);
      const int64_t base = q.row * task_.query.stride + q.head * task_.dim;
      for (int i = lane_; i < task_.layout.query_pitch; i += kWarp) {
        query(m)[i] = q.present && i < task_.dim
                          ? load_as(task_.query.type, task_.query.data, base + i)
                          : 0.0f;
      }
      if (lane_ == 0) {
        fixed_.seen[m] =
            q.present ? slots_seen(task_.cache.at, place().sequence, task_.visible[q.row]) : 0;
        fixed_.query[m] = q.present ? q.row * heads() + q.head : kNoQuery;
      }
    }
  }

  // The most slots that any query sees, and the fewest.
  __device__ __forceinline__ void find_reach() {
    most_ = 0;
    least_ = task_.cache.at.slots;
    for (int row = place().begin; row < place().end; ++row) {
      const int32_t seen = fixed_.seen[row * task_.shape.head_block];
      most_ = max(most_, seen);
      least_ = min(least_, seen);
    }
  }

  // ---- tiles ------------------------------------------------------------------------------------

  __device__ __forceinline__ int64_t first_slot_of(int tile) const {
    return static_cast<int64_t>(tile) * task_.layout.tile_slots;
  }
  __device__ __forceinline__ int slots_of(int tile) const {
    return static_cast<int>(
        min(static_cast<int64_t>(task_.layout.tile_slots), most_ - first_slot_of(tile)));
  }

  __device__ __forceinline__ void find_slots(int tile, int buffer) {
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t slot = first_slot_of(tile) + thread;
    if (thread >= task_.layout.tile_slots || slot >= most_) return;
    int64_t offset = kv_offset(task_.cache.at, place().sequence, static_cast<int32_t>(slot));
    if (offset != kNoSlot) offset += place().kv_head * task_.cache.at.head_stride;
    fixed_.offsets[buffer][thread] = offset;
  }

  // Begins to copy 16 bytes. Zeros from `left` elements on; all ones, which is NaN in every type,
  // for a slot in a page that does not exist.
  __device__ __forceinline__ void copy_chunk(unsigned char* to, const C* side, int64_t offset,
                                             int column, int left) const {
    if (offset == kNoSlot) {
      *reinterpret_cast<uint4*>(to) = make_uint4(~0u, ~0u, ~0u, ~0u);
    } else if (task_.shape.vectors && left >= kVector<C>) {
      __pipeline_memcpy_async(to, side + offset + column, kChunkBytes);
    } else {
#pragma unroll 1
      for (int i = 0; i < kVector<C>; ++i) {
        reinterpret_cast<C*>(to)[i] = i < left ? side[offset + column + i] : narrow<C>(0.0f);
      }
    }
  }

  // Elements [column, end) of the tile's rows of K or V.
  __device__ __forceinline__ void copy_rows(const C* side, int tile, int buffer, unsigned char* to,
                                            int pitch, int chunks, int column, int end) const {
    const int shift = task_.shape.copy_shift;
    const int lanes = 1 << shift;
    const int thread = static_cast<int>(threadIdx.x);
    const int first = thread & (lanes - 1);
    const int step = kAttentionThreads >> shift;
    const int slots = slots_of(tile);
    for (int slot = thread >> shift; slot < slots; slot += step) {
      const int64_t offset = fixed_.offsets[buffer][slot];
      for (int chunk = first; chunk < chunks; chunk += lanes) {
        const int at = column + chunk * kVector<C>;
        copy_chunk(to + slot * pitch + chunk * kChunkBytes, side, offset, at, end - at);
      }
    }
  }

  __device__ __forceinline__ void begin_k(int tile, int buffer) const {
    copy_rows(task_.cache.k, tile, buffer, dynamic_ + task_.layout.k, task_.layout.k_pitch,
              task_.layout.k_chunks, 0, task_.dim);
    __pipeline_commit();
  }
  __device__ __forceinline__ void begin_v(int tile, int buffer) const {
    const int column = place().slice * kSlice<WIDTH>;
    copy_rows(task_.cache.v, tile, buffer, dynamic_ + task_.layout.v, task_.layout.v_pitch,
              task_.layout.v_chunks, column, task_.dim);
    __pipeline_commit();
  }

  const AttentionTask<C>& task_;
  unsigned char* const dynamic_;
  AttentionShared<QUERIES>& fixed_;
  const int lane_;
  const int warp_;
  int32_t most_;
  int32_t least_;
};

template <class C, int WIDTH, int QUERIES>
class AttentionBlock : AttentionTiles<C, WIDTH, QUERIES> {
 public:
  __device__ __forceinline__ AttentionBlock(const AttentionTask<C>& task, unsigned char* dynamic,
                                            AttentionShared<QUERIES>* fixed)
      : Tiles(task, dynamic, fixed),
        slot_groups_(kAttentionWarps / task.shape.query_groups),
        first_query_(warp_ / slot_groups_ * QUERIES),
        first_slot_(warp_ % slot_groups_ * task.shape.warp_slots()) {}

  // The rows of an item, one run of one sequence after the other.
  __device__ __forceinline__ void run(int64_t item) {
    if (threadIdx.x == 0) locate(item);
    __syncthreads();
    const int rows = place().rows;
    for (int begin = 0; begin < rows; begin = place().end) {
      __syncthreads();  // all have left the run before, and know where it ended
      if (threadIdx.x == 0) find_run(begin);
      __syncthreads();
      run_sequence();
    }
    __syncthreads();  // the next item writes shared memory again
  }

 private:
  using Tiles = AttentionTiles<C, WIDTH, QUERIES>;
  using Tiles::begin_k, Tiles::begin_v, Tiles::dynamic_, Tiles::find_reach, Tiles::find_run,
      Tiles::find_slots, Tiles::first_slot_of, Tiles::fixed_, Tiles::lane_, Tiles::least_,
      Tiles::load_queries, Tiles::locate, Tiles::most_, Tiles::place, Tiles::queries, Tiles::query,
      Tiles::query_at, Tiles::slots_of, Tiles::task_, Tiles::warp_;

  __device__ __forceinline__ void run_sequence() {
    load_queries();
    __syncthreads();
    find_reach();
    const bool is_only_split = task_.shape.splits == 1;
    const int64_t first = first_slot_of(place().split);
    clear();
    if (first < most_) walk();
    if (hands_out_scores()) fill_scores();
    if (first < most_ || is_only_split) hand_over();
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) {
      largest_[m] = -INFINITY;
      sum_[m] = 0.0f;
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) values_[m][i] = 0.0f;
    }
  }

  // K of the next tile is on its way while V is summed, and V while scores are made.
  __device__ __forceinline__ void walk() {
    const int step = task_.shape.splits;
    int tile = place().split;
    int buffer = 0;
    find_slots(tile, buffer);
    __syncthreads();
    begin_k(tile, buffer);
    begin_v(tile, buffer);
    find_slots(tile + step, buffer ^ 1);
    __pipeline_wait_prior(1);
    __syncthreads();  // K is there for all
    for (;;) {
      weigh(tile);
      __pipeline_wait_prior(0);
      __syncthreads();  // V and the weights are there, all have left K
      const int next = tile + step;
      const bool goes_on = first_slot_of(next) < most_;
      if (goes_on) begin_k(next, buffer ^ 1);
      if (first_slot_of(tile) + slots_of(tile) <= least_) {
        add_values<false>(tile);
      } else {
        add_values<true>(tile);
      }
      __pipeline_wait_prior(0);
      __syncthreads();  // K of the next tile is there, all have left V
      if (!goes_on) break;
      begin_v(next, buffer ^ 1);
      find_slots(next + step, buffer);
      tile = next;
      buffer ^= 1;
    }
  }

  // ---- scores: a lane is a slot, or a piece of one ----------------------------------------------

  __device__ __forceinline__ float* weights() const {
    return reinterpret_cast<float*>(dynamic_ + task_.layout.weights) +
           warp_ * task_.shape.warp_slots() * QUERIES;
  }

  // scores[m] = <query m, K of the lane's slot>, summed over the lanes that share the slot.
  __device__ __forceinline__ void multiply(int slot, bool exists, float (&scores)[QUERIES]) const {
    multiply_key<C>(dynamic_ + task_.layout.k + slot * task_.layout.k_pitch, task_.layout.k_chunks,
                    exists, query(first_query_), task_.layout.query_pitch, task_.shape.slot_shift,
                    scores);
  }

  __device__ __forceinline__ bool hands_out_scores() const {
    return task_.scores != nullptr && place().slice == 0;
  }

  __device__ __forceinline__ void write_score(int m, int64_t slot, float score) const {
    if (slot >= task_.score_slots) return;
    const int64_t query = fixed_.query[m];
    if (query == kNoQuery) return;
    const int32_t seen = fixed_.seen[m];
    const float unseen = seen == kInvalidRow ? NAN : -INFINITY;
    task_.scores[query * task_.score_slots + slot] = slot < seen ? score : unseen;
  }

  // Slots beyond all that is seen, of this split's tiles.
  __device__ __forceinline__ void fill_scores() const {
    const int64_t step = static_cast<int64_t>(task_.shape.splits) * task_.layout.tile_slots;
    int64_t first = first_slot_of(place().split);
    if (first < most_) first += (most_ - first + step - 1) / step * step;
    for (; first < task_.score_slots; first += step) {
      for (int m = warp_; m < queries(); m += kAttentionWarps) {
        for (int i = lane_; i < task_.layout.tile_slots; i += kWarp)
          write_score(m, first + i, 0.0f);
      }
    }
  }

  // Soft-caps and hands out the scores of the lane's slot. By way of the place of its weights, so
  // that what few calls ask for is not spelled out for every register.
  __device__ __forceinline__ void finish_scores(int64_t slot, float* weight,
                                                float (&scores)[QUERIES]) const {
    if (lane_ < task_.shape.warp_slots()) {
#pragma unroll
      for (int m = 0; m < QUERIES; ++m) weight[m] = scores[m];
#pragma unroll 1
      for (int m = 0; m < QUERIES; ++m) {
        float score = weight[m];
        if (task_.softcap > 0.0f) score = task_.softcap * tanhf(score / task_.softcap);
        if (hands_out_scores()) write_score(first_query_ + m, slot, score);
        weight[m] = score;
      }
    }
    __syncwarp();
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) scores[m] = weight[m];
    __syncwarp();  // the lanes that share the slot have read
  }

  // Scores of the warp's slots, and their weights relative to the largest score so far. A slot that
  // a query does not see has weight -1.
  __device__ __forceinline__ void weigh(int tile) {
    const int mine = lane_ & (task_.shape.warp_slots() - 1);
    const bool is_first_split = lane_ < task_.shape.warp_slots();
    const int64_t slot = first_slot_of(tile) + first_slot_ + mine;
    float scores[QUERIES];
    multiply(first_slot_ + mine, slot < most_, scores);
    float* const weight = weights() + mine * QUERIES;
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) scores[m] *= task_.scale;
    if (task_.softcap > 0.0f || hands_out_scores()) finish_scores(slot, weight, scores);
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) {
      const bool sees = slot < fixed_.seen[first_query_ + m];
      const float largest = fmaxf(largest_[m], warp_reduce<Max>(sees ? scores[m] : -INFINITY));
      const float reference = reference_of(largest);
      const float shrinks = __expf(largest_[m] - reference);
      const float w = sees ? __expf(scores[m] - reference) : -1.0f;
      sum_[m] = fmaf(sum_[m], shrinks, sees && is_first_split ? w : 0.0f);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) values_[m][i] *= shrinks;
      largest_[m] = largest;
      if (is_first_split) weight[m] = w;
    }
  }

  // ---- sums over V: a lane is WIDTH elements ----------------------------------------------------

  template <bool MASKED>
  __device__ __forceinline__ void add_values(int tile) {
    const int slots = min(slots_of(tile) - first_slot_, task_.shape.warp_slots());
    const int column = lane_ * WIDTH * static_cast<int>(sizeof(C));
    // Lanes beyond the row read its beginning; their sums are not used.
    const unsigned char* v = dynamic_ + task_.layout.v + first_slot_ * task_.layout.v_pitch +
                             (column < task_.layout.v_pitch ? column : 0);
    const float* weight = weights();
#pragma unroll 1
    for (int slot = 0; slot < slots; ++slot) {
      float x[WIDTH];
      load_values<C, WIDTH>(v, x);
#pragma unroll
      for (int m = 0; m < QUERIES; m += 4) {
        const float4 four = *reinterpret_cast<const float4*>(weight + m);
        const float w[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (MASKED && w[k] < 0.0f) continue;  // also a NaN in V is not seen
#pragma unroll
          for (int i = 0; i < WIDTH; ++i) values_[m + k][i] = fmaf(w[k], x[i], values_[m + k][i]);
        }
      }
      v += task_.layout.v_pitch;
      weight += QUERIES;
    }
  }

  // ---- the end: the warps that shared the queries, in order -------------------------------------

  __device__ __forceinline__ float* warp_values(int warp, int m) const {
    return reinterpret_cast<float*>(dynamic_) + (warp * QUERIES + m) * kSlice<WIDTH>;
  }

  __device__ __forceinline__ void share_sums() {
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) {
      const float sum = warp_reduce<Sum>(sum_[m]);
      if (lane_ == 0) {
        fixed_.largest[warp_][m] = largest_[m];
        fixed_.sums[warp_][m] = sum;
      }
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) warp_values(warp_, m)[lane_ * WIDTH + i] = values_[m][i];
    }
    __syncthreads();
  }

  __device__ __forceinline__ void hand_over() {
    share_sums();
    const int columns = min(kSlice<WIDTH>, task_.dim - place().slice * kSlice<WIDTH>);
    for (int m = warp_; m < queries(); m += kAttentionWarps) {
      if (fixed_.query[m] != kNoQuery) merge_warps(m, columns);
    }
  }

  __device__ __forceinline__ void merge_warps(int m, int columns) const {
    const int first = m / QUERIES * slot_groups_;
    const int mine = m % QUERIES;
    float largest = -INFINITY;
    for (int g = 0; g < slot_groups_; ++g) {
      largest = fmaxf(largest, fixed_.largest[first + g][mine]);
    }
    const float reference = reference_of(largest);
    float sum = 0.0f;
    for (int g = 0; g < slot_groups_; ++g) {
      sum += fixed_.sums[first + g][mine] * __expf(fixed_.largest[first + g][mine] - reference);
    }
    for (int i = lane_; i < columns; i += kWarp) {
      float value = 0.0f;
      for (int g = 0; g < slot_groups_; ++g) {
        const float shrinks = __expf(fixed_.largest[first + g][mine] - reference);
        value = fmaf(warp_values(first + g, mine)[i], shrinks, value);
      }
      write(m, place().slice * kSlice<WIDTH> + i, value, sum);
    }
    if (task_.shape.splits > 1 && place().slice == 0 && lane_ == 0) {
      task_.states[split_of(m)] = make_float2(largest, sum);
    }
  }

  __device__ __forceinline__ int64_t split_of(int m) const {
    return fixed_.query[m] * task_.shape.splits + place().split;
  }

  __device__ __forceinline__ void write(int m, int column, float value, float sum) const {
    if (task_.shape.splits > 1) {
      task_.parts[split_of(m) * task_.split_pitch + column] = value;
    } else {
      const AttentionQuery q = query_at(m);
      store_as(task_.out.type, task_.out.data,
               q.row * task_.out.stride + q.head * task_.dim + column,
               attended(value, sum, fixed_.seen[m]));
    }
  }

  const int slot_groups_;
  const int first_query_;  // of this warp
  const int first_slot_;   // of this warp in a tile
  float largest_[QUERIES];
  float sum_[QUERIES];  // over this lane's slots
  float values_[QUERIES][WIDTH];
};

// Bytes: K and V of the slots that the block's queries see, once for all of them; the queries; the
// result, or for each split 4 * dim + 8 per query; the scores. Blocks whose split begins beyond
// what is seen leave after reading `visible`.
template <class C, int WIDTH, int QUERIES>
__global__ __launch_bounds__(
    kAttentionThreads,
    (kAttentionBlocks<WIDTH, QUERIES>)) void attention_kernel(AttentionTask<C> task,
                                                              int64_t items) {
  EXN_DYN_SMEM(dynamic);
  __shared__ AttentionShared<QUERIES> fixed;
  AttentionBlock<C, WIDTH, QUERIES> block(task, dynamic, &fixed);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) block.run(item);
}

}  // namespace exn::cuda
