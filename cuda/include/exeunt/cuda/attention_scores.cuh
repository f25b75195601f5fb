// SPDX-License-Identifier: Apache-2.0
//
// attention_scores: how much attention a few queries pay to each token of a prompt, and which
// tokens to keep for it.
//
// One launch does three kinds of work:
//   score   A block copies a tile of slots of one KV head to shared memory and multiplies it with
//           all queries of that head, so that K is read once for all of them. The products go to
//           the workspace, and of a softmax the tile's maximum and sum for each query; the head's
//           last block merges these, in the order of the tiles. Of many queries the products would
//           be more than K: they stay in shared memory until the head's softmax is known, and their
//           sums go to the workspace.
//   finish  A block sums some columns of a row of scores over queries and heads, in their order,
//           and pools them.
//   select  The row's last block chooses among its columns.
// Blocks draw their work in this order, so a block that waits for others waits for blocks that run
// already, whatever order the device starts them in. A block that keeps its products waits only if
// all of the head's blocks have drawn; else the products go to the workspace after all. The sums
// have the same bits.
//
// In a tile, a lane is a slot, or one of the parts of a slot's elements. Fused multiply-adds only,
// no tensor cores: up to eight queries of a KV head the kernel is bound by the bytes of K, beyond
// that by the FMA pipe.
#pragma once

#include "attention_scores_task.cuh"

namespace exn::cuda {

// What a softmax's exponents are relative to; finite even if all is -inf.
__device__ __forceinline__ float exponent_base(float largest) {
  return largest == -INFINITY ? 0.0f : largest;
}

template <class C, int QUERIES>
class ScoresBlock {
 public:
  __device__ __forceinline__ ScoresBlock(const ScoresTask<C>& task, unsigned char* dynamic,
                                         ScoresShared<QUERIES>* fixed)
      : task_(task),
        dynamic_(dynamic),
        fixed_(*fixed),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        warp_(static_cast<int>(threadIdx.x) / kWarp) {}

  __device__ __forceinline__ void run() {
    if (threadIdx.x == 0) fixed_.drawn = atomicAdd(task_.counters.drawn, 1u);
    __syncthreads();
    const int64_t item = fixed_.drawn;
    if (item < task_.shape.score_blocks) {
      score(item);
    } else {
      finish(item - task_.shape.score_blocks);
    }
  }

 private:
  // Slots that a row of a prompt sees.
  __device__ __forceinline__ int seen_by(int64_t prompt, int64_t row) const {
    const int32_t visible = task_.visible[prompt * task_.window + row];
    return static_cast<int>(clamped(visible, 0, task_.at.slots));
  }

  __device__ __forceinline__ int64_t limit_of(int64_t prompt) const {
    return task_.limit != nullptr ? clamped(task_.limit[prompt], 0, task_.columns) : task_.columns;
  }

  // ---- score ------------------------------------------------------------------------------------

  __device__ __forceinline__ const ScorePlace& place() const { return fixed_.place; }
  __device__ __forceinline__ int slot_groups() const {
    return kScoreWarps / task_.shape.query_groups;
  }
  __device__ __forceinline__ int step() const { return task_.shape.query_groups * QUERIES; }
  // Of the queries that the block has loaded, and of the tile's slots.
  __device__ __forceinline__ int warp_query() const { return warp_ / slot_groups() * QUERIES; }
  __device__ __forceinline__ int warp_slot() const {
    return warp_ % slot_groups() * task_.shape.warp_slots();
  }

  __device__ __forceinline__ void score(int64_t item) {
    if (warp_ == 0) locate(item);
    __syncthreads();
    if (place().begin < place().end) {
      find_slots();
      __syncthreads();
      copy_keys();
      multiply_tile();
    }
    arrive();
  }

  // By the first warp. Tiles run fastest, then KV heads.
  __device__ __forceinline__ void locate(int64_t item) {
    const int64_t head = item / task_.shape.tiles;
    const int64_t prompt = head / task_.kv_heads;
    int seen = 0;
    for (int row = lane_; row < task_.rows; row += kWarp) {
      const int of_row = seen_by(prompt, task_.first_row + row);
      fixed_.row_seen[row] = of_row;
      seen = max(seen, of_row);
    }
    seen = warp_reduce<Max>(seen);
    if (lane_ != 0) return;
    ScorePlace& place = fixed_.place;
    place.prompt = prompt;
    place.kv_head = head % task_.kv_heads;
    place.tile = item % task_.shape.tiles;
    place.seen = seen;
    place.sequence =
        task_.sequence != nullptr ? task_.sequence[prompt] : static_cast<int32_t>(prompt);
    // A softmax needs every slot that is seen, a raw score only those of the columns.
    const int64_t origin = task_.softmax ? 0 : task_.first;
    const int64_t reach = task_.softmax ? seen : task_.first + limit_of(prompt);
    place.begin = origin + place.tile * task_.layout.tile_slots;
    place.end = place.begin + task_.layout.tile_slots;
    if (place.end > reach) place.end = reach;
    if (place.end > seen) place.end = seen;
  }

  __device__ __forceinline__ void find_slots() const {
    const int64_t slot = place().begin + threadIdx.x;
    if (slot >= place().end) return;
    int64_t offset = kv_offset(task_.at, place().sequence, static_cast<int32_t>(slot));
    if (offset == kNoSlot) {
      atomicOr(&task_.counters.missing[place().prompt], 1u);
    } else {
      offset += place().kv_head * task_.at.head_stride;
    }
    fixed_.offsets[threadIdx.x] = offset;
  }

  // Begins to copy 16 bytes; zeros from `left` elements on. A slot that does not exist is zeros.
  __device__ __forceinline__ void copy_chunk(unsigned char* to, int64_t offset, int column,
                                             int left) const {
    if (offset == kNoSlot) {
      *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
    } else if (task_.shape.vectors) {
      __pipeline_memcpy_async(to, task_.keys + offset + column, kChunkBytes);
    } else {
#pragma unroll 1
      for (int i = 0; i < kVector<C>; ++i) {
        reinterpret_cast<C*>(to)[i] = i < left ? task_.keys[offset + column + i] : narrow<C>(0.0f);
      }
    }
  }

  __device__ __forceinline__ void copy_keys() const {
    const int shift = task_.shape.copy_shift;
    const int lanes = 1 << shift;
    const int thread = static_cast<int>(threadIdx.x);
    const int slots = static_cast<int>(place().end - place().begin);
#pragma unroll 1
    for (int slot = thread >> shift; slot < slots; slot += kScoreThreads >> shift) {
      const int64_t offset = fixed_.offsets[slot];
      unsigned char* const row = dynamic_ + task_.layout.keys + slot * task_.layout.k_pitch;
#pragma unroll 1
      for (int chunk = thread & (lanes - 1); chunk < task_.layout.k_chunks; chunk += lanes) {
        const int column = chunk * kVector<C>;
        copy_chunk(row + chunk * kChunkBytes, offset, column, task_.dim - column);
      }
    }
    __pipeline_commit();
  }

  __device__ __forceinline__ float* query(int m) const {
    return reinterpret_cast<float*>(dynamic_) + m * task_.layout.query_pitch;
  }

  // Where a query's elements begin. Queries are numbered row by row.
  __device__ __forceinline__ int64_t query_place(int query) const {
    const int row = query / task_.group;
    const int64_t head = place().kv_head * task_.group + query % task_.group;
    return (place().prompt * task_.window + task_.first_row + row) * task_.query_stride +
           head * task_.dim;
  }

  // Zeros beyond the last one.
  __device__ __forceinline__ void load_queries(int first) const {
    for (int m = static_cast<int>(threadIdx.x); m < step(); m += kScoreThreads) {
      const bool exists = first + m < task_.shape.queries;
      fixed_.seen[m] = exists ? fixed_.row_seen[(first + m) / task_.group] : 0;
    }
    if (task_.shape.query_vectors) {
      load_query_vectors(first);
      return;
    }
#pragma unroll 1
    for (int m = warp_; m < step(); m += kScoreWarps) {
      const bool exists = first + m < task_.shape.queries;
      const int64_t base = query_place(first + m);
#pragma unroll(kQueryLoads<QUERIES>)
      for (int i = lane_; i < task_.layout.query_pitch; i += kWarp) {
        query(m)[i] =
            exists && i < task_.dim ? load_as(task_.query_type, task_.query, base + i) : 0.0f;
      }
    }
  }

  // 16 bytes at a time, two of them on their way.
  __device__ __forceinline__ void load_query_vectors(int first) const {
    constexpr int kTogether = 2;
    const bool wide = task_.query_type == Storage::kF32;
    const int elements = wide ? 4 : 8;
    const int vectors = task_.dim / elements;
#pragma unroll 1
    for (int begin = static_cast<int>(threadIdx.x); begin < step() * vectors;
         begin += kTogether * kScoreThreads) {
      uint4 raw[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int i = begin + j * kScoreThreads;
        raw[j] = make_uint4(0, 0, 0, 0);
        if (i >= step() * vectors || first + i / vectors >= task_.shape.queries) continue;
        const int64_t at = query_place(first + i / vectors) + i % vectors * elements;
        raw[j] = *reinterpret_cast<const uint4*>(static_cast<const unsigned char*>(task_.query) +
                                                 at * (kChunkBytes / elements));
      }
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int i = begin + j * kScoreThreads;
        if (i >= step() * vectors) continue;
        auto* const to = reinterpret_cast<float4*>(query(i / vectors) + i % vectors * elements);
        to[0] = widen_quad_as(task_.query_type, quad(raw[j].x, raw[j].y, raw[j].z, raw[j].w));
        if (!wide) to[1] = widen_quad_as(task_.query_type, quad(raw[j].z, raw[j].w, 0, 0));
      }
    }
  }
  static __device__ __forceinline__ float4 quad(unsigned x, unsigned y, unsigned z, unsigned w) {
    return make_float4(__uint_as_float(x), __uint_as_float(y), __uint_as_float(z),
                       __uint_as_float(w));
  }

  __device__ __forceinline__ void multiply_tile() {
#pragma unroll 1
    for (int first = 0; first < task_.shape.queries; first += step()) {
      load_queries(first);
      __pipeline_wait_prior(0);
      __syncthreads();  // queries and keys are there
      multiply_queries(first);
      __syncthreads();  // all have left the queries, the states are there
      if (task_.softmax) merge_warps(first);
    }
  }

  // products[m] = <query m of the warp, K of the lane's slot>, summed over the lanes that share the
  // slot.
  __device__ __forceinline__ void multiply(bool exists, float (&products)[QUERIES]) const {
    const int slot = warp_slot() + (lane_ & (task_.shape.warp_slots() - 1));
    multiply_key<C>(dynamic_ + task_.layout.keys + slot * task_.layout.k_pitch,
                    task_.layout.k_chunks, exists, query(warp_query()), task_.layout.query_pitch,
                    task_.shape.slot_shift, products);
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) products[m] *= task_.scale;
  }

  __device__ __forceinline__ float* product_row(int64_t head, int64_t row) const {
    return task_.products + (head * task_.product_rows + row) * task_.pitch;
  }
  __device__ __forceinline__ int64_t head_index() const {
    return place().prompt * task_.kv_heads + place().kv_head;
  }
  __device__ __forceinline__ bool is_scored(int64_t column) const {
    return column >= 0 && column < task_.columns;
  }

  // A KV head with few queries has few products.
  __device__ __forceinline__ bool kept() const { return QUERIES > 4 && task_.shape.keeps; }
  __device__ __forceinline__ float* kept_row(int64_t query) const {
    return reinterpret_cast<float*>(dynamic_ + task_.layout.products) +
           query * task_.layout.tile_slots;
  }
  __device__ __forceinline__ float2* kept_weights() const {
    return reinterpret_cast<float2*>(dynamic_ + task_.layout.weights);
  }

  __device__ __forceinline__ void multiply_queries(int first) {
    const int mine = first + warp_query();  // the warp's first query
    const int left = task_.shape.queries - mine;
    const int64_t slot = place().begin + warp_slot() + (lane_ & (task_.shape.warp_slots() - 1));
    const bool exists = slot < place().end;
    float products[QUERIES];
    multiply(exists, products);
    const bool writes = exists && lane_ < task_.shape.warp_slots();
    const int64_t column = slot - task_.first;
    if (task_.summed) {
      float sum = 0.0f;
#pragma unroll
      for (int m = 0; m < QUERIES; ++m) {
        if (slot < fixed_.seen[warp_query() + m]) sum += products[m];
      }
      if (writes && left > 0) product_row(head_index(), mine / QUERIES)[column] = sum;
      return;
    }
    const bool is_column = is_scored(column);
    float* product = product_row(head_index(), mine) + column;
    float* kept_product = kept_row(mine) + (slot - place().begin);
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) {
      const bool sees = writes && slot < fixed_.seen[warp_query() + m];
      if (kept()) {
        if (sees) *kept_product = products[m];
        kept_product += task_.layout.tile_slots;
      } else {
        if (sees && is_column) *product = products[m];
        product += task_.pitch;
      }
      if (!task_.softmax) continue;
      const float largest = warp_reduce<Max>(sees ? products[m] : -INFINITY);
      const float weight = sees ? expf(products[m] - exponent_base(largest)) : 0.0f;
      const float sum = warp_reduce<Sum>(weight);
      if (lane_ == 0) fixed_.states[warp_][m] = make_float2(largest, sum);
    }
  }

  __device__ __forceinline__ int64_t state_row(int query) const {
    return head_index() * task_.shape.queries + query;
  }

  // Of the warps that shared the queries, in order.
  __device__ __forceinline__ void merge_warps(int first) const {
    const int m = static_cast<int>(threadIdx.x);
    if (m >= step() || first + m >= task_.shape.queries) return;
    const int warp = m / QUERIES * slot_groups();
    float largest = -INFINITY;
    for (int i = 0; i < slot_groups(); ++i) {
      largest = fmaxf(largest, fixed_.states[warp + i][m % QUERIES].x);
    }
    float sum = 0.0f;
    for (int i = 0; i < slot_groups(); ++i) {
      const float2 state = fixed_.states[warp + i][m % QUERIES];
      sum += state.y * expf(state.x - exponent_base(largest));
    }
    task_.states[state_row(first + m) * task_.shape.tiles + place().tile] =
        make_float2(largest, sum);
  }

  // Takes a ticket for what the block has written; true for the one that takes the last of `count`.
  __device__ __forceinline__ bool is_last(unsigned* counter, int64_t count) {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      fixed_.is_last = atomicAdd(counter, 1u) == count - 1;
      __threadfence();
    }
    __syncthreads();
    return fixed_.is_last;
  }

  // Says that all threads have written what others wait for.
  __device__ __forceinline__ void tell(unsigned* counter) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(counter, 1u);
    }
  }

  __device__ __forceinline__ void arrive() {
    if (task_.softmax) {
      unsigned* const arrived = &task_.counters.arrived[head_index()];
      const bool merges = is_last(arrived, task_.shape.tiles);
      if (!merges && !kept()) return;
      if (merges) merge_tiles();
      if (kept()) {
        if (merges) tell(arrived);
        hand_over();
      }
    }
    tell(&task_.counters.ready[place().prompt]);
  }

  // ---- products that are kept -------------------------------------------------------------------

  __device__ __forceinline__ void hand_over() {
    if (place().begin >= place().end) return;
    if (threadIdx.x == 0) {
      fixed_.is_kept = softmax_is_coming();
      task_.kept[head_index() * task_.shape.tiles + place().tile] = fixed_.is_kept ? 1 : 0;
    }
    __syncthreads();
    if (fixed_.is_kept) {
      sum_kept();
    } else {
      write_kept();
    }
  }

  // Waits for it if no block of the head waits for an SM. By one thread.
  __device__ __forceinline__ bool softmax_is_coming() const {
    const auto last = static_cast<unsigned>((head_index() + 1) * task_.shape.tiles);
    int patience = kScorePatience;
    while (atomicAdd(task_.counters.drawn, 0u) < last) {
      if (--patience == 0) return false;
      __nanosleep(100);
    }
    unsigned* const arrived = &task_.counters.arrived[head_index()];
    while (atomicAdd(arrived, 0u) <= task_.shape.tiles) __nanosleep(100);
    __threadfence();
    return true;
  }

  // Of each slot, run by run; these lie where K was.
  __device__ __forceinline__ void sum_kept() const {
    const int slots = task_.layout.tile_slots;
    const int thread = static_cast<int>(threadIdx.x);
    float2* const weights = kept_weights();
    for (int i = thread; i < task_.shape.queries; i += kScoreThreads) {
      weights[i] = task_.weights[state_row(i)];
    }
    __syncthreads();
    float* const runs = reinterpret_cast<float*>(dynamic_ + task_.layout.keys);
    const bool each = task_.heads == HeadSum::kEach;
    const int heads = each ? 1 : task_.group;  // in a score
#pragma unroll 1
    for (int head = 0; head < task_.group; head += heads) {
      for (int i = thread; i < kRowRuns * slots; i += kScoreThreads) {
        const int slot = i % slots;
        if (place().begin + slot >= place().end) continue;
        const Products from{kept_row(head) + slot, slots, weights + head, heads, task_.group};
        runs[i] = sum_run(from, task_.rows, i / slots, place().begin + slot);
      }
      __syncthreads();
      const int64_t column = place().begin + thread - task_.first;
      if (thread < slots && place().begin + thread < place().end && is_scored(column)) {
        float sum = 0.0f;
        for (int run = 0; run < kRowRuns; ++run) sum += runs[run * slots + thread];
        kept_sums(head_index(), head)[column] = sum;
      }
      __syncthreads();  // the next sums take the place of these
    }
  }

  __device__ __forceinline__ float* kept_sums(int64_t index, int head) const {
    const int64_t rows = task_.heads == HeadSum::kEach ? task_.group : 1;
    return task_.kept_sums + (index * rows + head) * task_.pitch;
  }

  __device__ __forceinline__ void write_kept() const {
    const int slots = task_.layout.tile_slots;
    for (int i = static_cast<int>(threadIdx.x); i < task_.shape.queries * slots;
         i += kScoreThreads) {
      const int query = i / slots;
      const int64_t slot = place().begin + i % slots;
      const int64_t column = slot - task_.first;
      if (slot >= fixed_.row_seen[query / task_.group] || !is_scored(column)) continue;
      product_row(head_index(), query)[column] = kept_row(query)[i % slots];
    }
  }

  // Of all tiles that are seen, in a fixed order: lane by lane, then in a tree.
  __device__ __forceinline__ void merge_tiles() const {
    const int64_t tiles = (place().seen + task_.layout.tile_slots - 1) / task_.layout.tile_slots;
    for (int query = warp_; query < task_.shape.queries; query += kScoreWarps) {
      const float2* const states = task_.states + state_row(query) * task_.shape.tiles;
      float largest = -INFINITY;
      for (int64_t i = lane_; i < tiles; i += kWarp) largest = fmaxf(largest, states[i].x);
      const float base = exponent_base(warp_reduce<Max>(largest));
      float sum = 0.0f;
      for (int64_t i = lane_; i < tiles; i += kWarp) sum += states[i].y * expf(states[i].x - base);
      sum = warp_reduce<Sum>(sum);
      // Nothing but -inf: the sum is 0, and so would be every weight.
      const float inverse = sum == 0.0f ? NAN : 1.0f / sum;
      if (lane_ == 0) task_.weights[state_row(query)] = make_float2(base, inverse);
    }
  }

  // ---- finish -----------------------------------------------------------------------------------

  __device__ __forceinline__ const ScoreRow& row() const { return fixed_.row; }

  __device__ __forceinline__ void finish(int64_t item) {
    const int64_t piece = item % task_.shape.pieces;
    locate_row(item / task_.shape.pieces);
    wait_for_products();
    const bool missing = task_.counters.missing[row().prompt] != 0;
    const int64_t begin = piece * task_.shape.piece;
    const int64_t end = min(begin + task_.shape.piece, task_.columns);
#pragma unroll 1
    for (int64_t column = begin; column < end; column += kScoreThreads) {
      write_columns(column, missing);
    }
    if (!task_.ends) return;
    if (task_.scored != nullptr && piece == 0 && threadIdx.x == 0) {
      task_.scored[row().index] = static_cast<int32_t>(row().scored);
    }
    if (!task_.selects) return;
    if (!is_last(&task_.counters.finished[row().index], task_.shape.pieces)) return;
    auto* const shared = reinterpret_cast<SelectShared<kScoreThreads>*>(dynamic_);
    auto* const keys = reinterpret_cast<unsigned*>(dynamic_ + sizeof *shared);
    SelectRow<float, kScoreThreads> selection(task_.selection, shared, keys,
                                              task_.shape.select_items);
    selection.run(row().index, task_.scores + row().index * task_.columns, task_.columns,
                  row().scored);
  }

  // What the row sums, and how far: the most slots that a row of this launch sees, and any row.
  __device__ __forceinline__ void locate_row(int64_t index) {
    const int64_t prompt = index / task_.score_heads;
    int here = 0;
    int anywhere = 0;
    for (int64_t i = threadIdx.x; i < task_.window; i += kScoreThreads) {
      const int seen = seen_by(prompt, i);
      anywhere = max(anywhere, seen);
      if (i < task_.first_row || i >= task_.first_row + task_.rows) continue;
      fixed_.row_seen[i - task_.first_row] = seen;
      here = max(here, seen);
    }
    here = block_reduce<Max, kScoreWarps>(here, fixed_.most[0]);
    anywhere = block_reduce<Max, kScoreWarps>(anywhere, fixed_.most[1]);
    if (threadIdx.x != 0) return;
    const int head = static_cast<int>(index % task_.score_heads);
    ScoreRow& row = fixed_.row;
    row.index = index;
    row.prompt = prompt;
    row.seen = here;
    row.scored = clamped(anywhere - task_.first, 0, limit_of(prompt));
    row.kv_begin = 0;
    row.kv_end = static_cast<int>(task_.kv_heads);
    row.rows = task_.summed ? task_.product_rows : task_.rows;
    row.stride = task_.summed ? 1 : task_.group;
    row.begin = 0;
    row.end = row.stride;
    if (task_.heads == HeadSum::kEach) {
      row.kv_begin = head / task_.group;
      row.begin = head % task_.group;
      row.end = row.begin + 1;
    } else if (task_.heads == HeadSum::kGroup) {
      row.kv_begin = head;
    }
    if (task_.score_heads > 1) row.kv_end = row.kv_begin + 1;
  }

  // All products of the prompt are there, of a softmax the weights too; and the place is, for all
  // threads.
  __device__ __forceinline__ void wait_for_products() const {
    const int64_t count = task_.kv_heads * (task_.softmax && !kept() ? 1 : task_.shape.tiles);
    if (threadIdx.x == 0) {
      unsigned* const ready = &task_.counters.ready[row().prompt];
      while (atomicAdd(ready, 0u) != count) __nanosleep(100);
      __threadfence();
    }
    __syncthreads();
  }

  // Products of a slot with the queries of a KV head whose heads a score sums.
  struct Products {
    const float* first;
    int64_t pitch;  // between two queries
    const float2* weights;
    int heads;   // of a row
    int stride;  // queries between two rows
  };

  // What a row of the window adds to a slot's score.
  __device__ __forceinline__ float sum_heads(const Products& from, int window_row) const {
    const float* product = from.first + window_row * from.stride * from.pitch;
    const float2* weight = from.weights + window_row * from.stride;
    float sum = 0.0f;
#pragma unroll 4
    for (int i = 0; i < from.heads; ++i, product += from.pitch, ++weight) {
      sum = task_.softmax ? fmaf(expf(*product - weight->x), weight->y, sum) : sum + *product;
    }
    return sum;
  }

  // What every so-manyth row adds that sees the slot.
  __device__ __forceinline__ float sum_run(const Products& from, int rows, int run,
                                           int64_t slot) const {
    float sum = 0.0f;
#pragma unroll 1
    for (int i = run; i < rows; i += kRowRuns) {
      if (task_.summed || slot < fixed_.row_seen[i]) sum += sum_heads(from, i);
    }
    return sum;
  }

  // What all of them add.
  __device__ __forceinline__ float sum_head(int64_t head, int64_t column) const {
    const int64_t slot = task_.first + column;
    if (kept() && task_.kept[head * task_.shape.tiles + slot / task_.layout.tile_slots] != 0) {
      return kept_sums(head, task_.heads == HeadSum::kEach ? row().begin : 0)[column];
    }
    const Products from{product_row(head, row().begin) + column, task_.pitch,
                        task_.weights + head * task_.shape.queries + row().begin,
                        row().end - row().begin, row().stride};
    float sum = 0.0f;
#pragma unroll 1
    for (int run = 0; run < kRowRuns; ++run) sum += sum_run(from, row().rows, run, slot);
    return sum;
  }

  // What the launch's rows add to a column, KV head by KV head.
  __device__ __forceinline__ float sum_rows(int64_t column) const {
    float sum = 0.0f;
    if (task_.first + column >= row().seen) return sum;
#pragma unroll 1
    for (int kv_head = row().kv_begin; kv_head < row().kv_end; ++kv_head) {
      sum += sum_head(row().prompt * task_.kv_heads + kv_head, column);
    }
    return sum;
  }

  // The same and all launches before; in the last one, the score before it is pooled.
  __device__ __forceinline__ float value_of(int64_t column) const {
    float value = sum_rows(column);
    if (!task_.starts) value += task_.sums[row().index * task_.columns + column];
    const bool is_mean = task_.ends && task_.heads == HeadSum::kMean;
    return is_mean ? value / static_cast<float>(task_.kv_heads * task_.group) : value;
  }

  // Columns from `first` on, one for each thread. A column's value lies in shared memory for the
  // others whose pool it belongs to.
  __device__ __forceinline__ void write_columns(int64_t first, bool missing) const {
    const int half = task_.ends ? task_.pool_width / 2 : 0;
    float* const values = reinterpret_cast<float*>(dynamic_);
    const float outside = task_.pool == Pooling::kMax ? -INFINITY : 0.0f;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kScoreThreads + 2 * half; i += kScoreThreads) {
      const int64_t column = first - half + i;
      float value = outside;
      if (column >= 0 && column < row().scored) value = missing ? NAN : value_of(column);
      values[i] = value;
    }
    __syncthreads();
    const int64_t column = first + threadIdx.x;
    if (column < task_.columns) write(column, values + threadIdx.x);
    __syncthreads();  // the next columns take the place of these
  }

  __device__ __forceinline__ void write(int64_t column, const float* values) const {
    const int64_t at = row().index * task_.columns + column;
    if (column >= row().scored) {
      if (task_.ends && !task_.accumulate) task_.scores[at] = -INFINITY;
    } else if (!task_.ends) {
      task_.sums[at] = *values;
    } else if (task_.accumulate) {
      task_.scores[at] += *values;
    } else {
      task_.scores[at] = pooled(values);
    }
  }

  __device__ __forceinline__ float pooled(const float* values) const {
    if (task_.pool == Pooling::kNone) return *values;
    if (task_.pool == Pooling::kMax) {
      float largest = -INFINITY;
      for (int i = 0; i < task_.pool_width; ++i) {
        const float value = values[i];
        if (value > largest || value != value) largest = value;
        if (largest != largest) break;
      }
      return largest;
    }
    float sum = 0.0f;
    for (int i = 0; i < task_.pool_width; ++i) sum += values[i];
    return sum / static_cast<float>(task_.pool_width);
  }

  const ScoresTask<C>& task_;
  unsigned char* const dynamic_;
  ScoresShared<QUERIES>& fixed_;
  const int lane_;
  const int warp_;
};

// Bytes: K of the slots that are seen, once for all queries of the launch; the queries; 4 for each
// column of a row of scores. Through the workspace, and there from the L2 cache, 8 for each
// product, one for a column and query (without softmax, where heads are summed, for a column and
// QUERIES queries of a KV head; where products are kept, for a column and KV head or query head),
// and 16 for each query and tile; 4 for each score that is chosen from. Blocks whose tile begins
// beyond what is seen leave after reading `visible`.
template <class C, int QUERIES>
__global__ __launch_bounds__(kScoreThreads, (kScoreBlocks<QUERIES>)) void attention_scores_kernel(
    ScoresTask<C> task) {
  EXN_DYN_SMEM(dynamic);
  __shared__ ScoresShared<QUERIES> fixed;
  ScoresBlock<C, QUERIES> block(task, dynamic, &fixed);
  block.run();
}

}  // namespace exn::cuda
