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

#include "attention_scores_finish.cuh"

namespace exn::cuda {

// What a softmax's exponents are relative to; finite even if all is -inf.
__device__ __forceinline__ float exponent_base(float largest) {
  return largest == -INFINITY ? 0.0f : largest;
}

// The tile of a block that scores: which it is, its keys, and the queries that it loads.
template <class C, int QUERIES>
class ScoresKeys : protected ScoresWork<C, QUERIES> {
 public:
  using Work = ScoresWork<C, QUERIES>;
  using Work::Work;

 protected:
  using Work::dynamic_, Work::fixed_, Work::lane_, Work::limit_of, Work::seen_by, Work::task_,
      Work::warp_;
  __device__ __forceinline__ const ScorePlace& place() const { return fixed_.place; }
  __device__ __forceinline__ int step() const { return task_.shape.query_groups * QUERIES; }
  __device__ __forceinline__ int slot_groups() const {
    return kScoreWarps / task_.shape.query_groups;
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
};

// A block that scores a tile of slots of a KV head.
template <class C, int QUERIES>
class ScoresTile : ScoresKeys<C, QUERIES> {
 public:
  using Keys = ScoresKeys<C, QUERIES>;
  using Keys::Keys;

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

 private:
  using Keys::copy_keys, Keys::dynamic_, Keys::find_slots, Keys::fixed_, Keys::is_last,
      Keys::is_scored, Keys::kept, Keys::kept_sums, Keys::lane_, Keys::load_queries, Keys::locate,
      Keys::place, Keys::product_row, Keys::query, Keys::slot_groups, Keys::step, Keys::sum_run,
      Keys::task_, Keys::tell, Keys::warp_;

  // Of the queries that the block has loaded, and of the tile's slots.
  __device__ __forceinline__ int warp_query() const { return warp_ / slot_groups() * QUERIES; }
  __device__ __forceinline__ int warp_slot() const {
    return warp_ % slot_groups() * task_.shape.warp_slots();
  }

  __device__ __forceinline__ int64_t head_index() const {
    return place().prompt * task_.kv_heads + place().kv_head;
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
        const HeadProducts from{kept_row(head) + slot, slots, weights + head, heads, task_.group};
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
  if (threadIdx.x == 0) fixed.drawn = atomicAdd(task.counters.drawn, 1u);
  __syncthreads();
  const int64_t item = fixed.drawn;
  if (item < task.shape.score_blocks) {
    ScoresTile<C, QUERIES>(task, dynamic, &fixed).score(item);
  } else {
    ScoresFinish<C, QUERIES>(task, dynamic, &fixed).finish(item - task.shape.score_blocks);
  }
}

}  // namespace exn::cuda
