// SPDX-License-Identifier: Apache-2.0
//
// Rows of the vocabulary that may hold the largest logit, by their bounds; their logits, as the full
// head computes them; and the largest.
#pragma once

#include "screen_image.cuh"

namespace exn::cuda {

// ---- candidates ---------------------------------------------------------------------------------

constexpr int kScreenThreads = 512;  // of a block that looks through a row's bounds
constexpr int kScreenWarps = kScreenThreads / kWarp;

// The rows of the vocabulary whose upper bound reaches `least`, > -inf. A thread has neighbouring
// tiles, and of these only those that have such a row are looked at.
struct ScreenBounds {
  const ScreenExtremes* tile;
  const float* upper;
  int64_t begin;
  int64_t end;
  float least;

  __device__ __forceinline__ ScreenBounds(const ScreenTask& task, int r, float at_least)
      : tile(task.tile + r * task.tiles),
        upper(task.upper + r * task.upper_stride()),
        least(at_least) {
    const int64_t each = (task.tiles + kScreenThreads - 1) / kScreenThreads;
    begin = threadIdx.x * each;
    end = begin + each < task.tiles ? begin + each : task.tiles;
  }

  // Calls f(row, bound) in ascending order.
  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
#pragma unroll 1
    for (int64_t t = begin; t < end; ++t) {
      if (!(tile[t].high >= least)) continue;
#pragma unroll 1
      for (int i = 0; i < kBlockTile; i += 4) {
        const int64_t v = t * kBlockTile + i;
        const float4 four = *reinterpret_cast<const float4*>(upper + v);
        if (four.x >= least) f(v, four.x);
        if (four.y >= least) f(v + 1, four.y);
        if (four.z >= least) f(v + 2, four.z);
        if (four.w >= least) f(v + 3, four.w);
      }
    }
  }
};

// The counts of all threads before this one, and `total` of all. `sums` holds kScreenWarps numbers,
// and may be used again at once.
__device__ __forceinline__ int counts_before(int count, int* sums, int& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int sum = count;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kFullWarp, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == kWarp - 1) sums[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
#pragma unroll 4
  for (int i = 0; i < kScreenWarps; ++i) {
    if (i < warp) before += sums[i];
    total += sums[i];
  }
  __syncthreads();
  return before + sum - count;
}

constexpr int kScreenDigits = 256;

struct CutShared {
  int digits[kScreenDigits];
  int sums[kScreenWarps];
  unsigned key;
  int found;
};

// A key that at most `most` of the bounds reach, more than which there are, or that several share:
// the largest such, but for digits that are not looked at. `largest` is the largest bound.
__device__ __forceinline__ unsigned key_of_best(const ScreenBounds& bounds, float largest, int most,
                                                CutShared& shared) {
  unsigned least = order_key(bounds.least);
  for (;;) {
    const int bits = kKeyBits - __clz(static_cast<int>(order_key(largest) - least));
    const int shift = bits > 8 ? bits - 8 : 0;
    if (threadIdx.x < kScreenDigits) shared.digits[threadIdx.x] = 0;
    __syncthreads();
    bounds.each([&](int64_t, float bound) {
      const unsigned key = order_key(bound);
      if (key >= least) atomicAdd(&shared.digits[(key - least) >> shift], 1);
    });
    __syncthreads();
    // The largest digit comes first.
    const int digit = kScreenDigits - 1 - static_cast<int>(threadIdx.x);
    const int count = digit >= 0 ? shared.digits[digit] : 0;
    int total;
    const int before = counts_before(count, shared.sums, total);
    if (digit >= 0 && before <= most && before + count > most) {
      const bool above = before > 0;
      shared.key = least + (static_cast<unsigned>(digit + (above ? 1 : 0)) << shift);
      shared.found = above || shift == 0 ? 1 : 0;
    }
    __syncthreads();
    least = shared.key;
    if (shared.found != 0) return least;
  }
}

// Finds the candidates, and lists the best of them, in the order of the vocabulary. One block per
// row. Bytes: 8 for each tile, and the bounds of tiles that have candidates, from the L2 cache.
__global__ __launch_bounds__(kScreenThreads) void screen_choose_kernel(ScreenTask task) {
  __shared__ CutShared shared;
  __shared__ float extremes[2 * kScreenWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  float ends[2] = {-INFINITY, -INFINITY};
  for (int64_t t = threadIdx.x; t < task.tiles; t += kScreenThreads) {
    const ScreenExtremes one = task.tile[r * task.tiles + t];
    ends[0] = fmaxf(ends[0], one.low);
    ends[1] = fmaxf(ends[1], one.high);
  }
  block_reduce<Max, kScreenWarps, 2>(ends, extremes);
  if (!(ends[0] > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  const ScreenBounds bounds(task, r, ends[0]);
  const int most = static_cast<int>(task.budget < kScreenBestRows ? task.budget : kScreenBestRows);
  int count = 0, candidates, best;
  bounds.each([&](int64_t, float) { ++count; });
  counts_before(count, shared.sums, candidates);
  const unsigned cut =
      candidates > most ? key_of_best(bounds, ends[1], most, shared) : order_key(ends[0]);
  count = 0;
  bounds.each([&](int64_t, float bound) { count += order_key(bound) >= cut ? 1 : 0; });
  int at = counts_before(count, shared.sums, best);
  if (best > most) best = most;
  bounds.each([&](int64_t v, float bound) {
    if (order_key(bound) < cut) return;
    if (at < best) task.ids[r * task.budget + at] = static_cast<int32_t>(v);
    if (at == best - 1) row.last = static_cast<int32_t>(v);
    ++at;
  });
  if (threadIdx.x != 0) return;
  row.least = ends[0];
  row.cut = cut;
  row.candidates = candidates;
  row.first = row.read = best;
}

// The largest of some logits; `usual` is false if one is NaN or +inf.
struct ScreenTop {
  float logit;
  bool usual;
};

template <int WARPS>
__device__ __forceinline__ ScreenTop top_of(const float* logits, int count, float* tops, int* odd) {
  float top = -INFINITY;
  int is_odd = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += WARPS * kWarp) {
    if (!(logits[i] < INFINITY)) is_odd = 1;
    top = fmaxf(top, logits[i]);
  }
  top = block_reduce<Max, WARPS>(top, tops);
  return {top, block_reduce<Max, WARPS>(is_odd, odd) == 0};
}

// Lists the candidates that may still be the largest, after those that were read. One block per
// row.
__global__ __launch_bounds__(kScreenThreads) void screen_prune_kernel(ScreenTask task) {
  __shared__ int sums[kScreenWarps];
  __shared__ float tops[kScreenWarps];
  __shared__ int odd[kScreenWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  const int first = row.first, left = static_cast<int>(task.budget) - first;
  const ScreenTop top = top_of<kScreenWarps>(task.exact + r * task.budget, first, tops, odd);
  if (!top.usual || !(top.logit > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  if (row.candidates == first) return;
  const ScreenBounds bounds(task, r, fmaxf(row.least, top.logit));
  const unsigned cut = row.cut;
  const int last = row.last;
  const auto was_read = [&](int64_t v, float bound) {
    return order_key(bound) >= cut && v <= last;
  };
  int count = 0, more;
  bounds.each([&](int64_t v, float bound) { count += was_read(v, bound) ? 0 : 1; });
  int at = counts_before(count, sums, more);
  if (more > left) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  bounds.each([&](int64_t v, float bound) {
    if (!was_read(v, bound)) task.ids[r * task.budget + first + at++] = static_cast<int32_t>(v);
  });
  if (threadIdx.x == 0) row.read = first + more;
}

// ---- rows of the head ---------------------------------------------------------------------------

// Which of a row's list a block reads.
struct ScreenSpan {
  int64_t begin;  // in ids and exact
  int count;
};

// Those of the first list, or the ones after them; none where they are not wanted.
__device__ __forceinline__ ScreenSpan span_of(const ScreenTask& task, bool second, int tile) {
  const int r = static_cast<int>(blockIdx.y);
  if (task.full[r] != 0) return {0, 0};
  const ScreenRow& row = task.row[r];
  const int64_t begin = (second ? row.first : 0) + static_cast<int64_t>(blockIdx.x) * tile;
  const int64_t end = second ? row.read : row.first;
  return {r * task.budget + begin, begin < end ? tile_count(begin, end, tile) : 0};
}

// Rounded as the full head rounds it, where no bias is added as a zero.
__device__ __forceinline__ void store_exact(const ScreenTask& task, const ScreenSpan& span, int i,
                                            float product) {
  const float bias = task.bias != nullptr ? task.bias[task.ids[span.begin + i]] : 0.0f;
  task.exact[span.begin + i] = product + bias;
}

// Logits as exit_head_kernel computes them, by the same function. Bytes: those of the rows of W.
// Grid: x counts 128 of a list, y rows of hidden.
template <class W>
__global__ void EXN_LINEAR_BOUNDS(W, kFewestRows<W>)
    screen_exact_kernel(LinearInput<W> input, ScreenTask task, bool second) {
  constexpr int kRows = kFewestRows<W>;
  using Shape = LinearShape<W, kRows>;
  EXN_DYN_SMEM(shared);
  __shared__ const W* rows_of_w[kLinearOutputs];
  const ScreenSpan span = span_of(task, second, kLinearOutputs);
  if (span.count == 0) return;
  const int i = static_cast<int>(threadIdx.x);
  static_assert(Shape::kThreads == kLinearOutputs, "a thread for each");
  rows_of_w[i] =
      i < span.count ? input.weight + task.ids[span.begin + i] * input.weight_stride : nullptr;
  __syncthreads();
  typename Shape::Results results;
  const int64_t row = blockIdx.y;
  linear_tile<W, kRows>(input, rows_of_w, whole_depth<W, kRows>(input, row, row + 1), shared,
                        results);
  const float* const products = share_results<W, kRows>(results, shared);
  if (i < span.count) store_exact(task, span, i, products[i]);
}

// The same as exit_head_blocks_kernel does. Grid: x counts 64 of a list.
template <Blocks FORMAT>
__global__ void EXN_BLOCK_BOUNDS screen_exact_blocks_kernel(LinearInput<uint8_t> input,
                                                            ScreenTask task, bool second) {
  EXN_DYN_SMEM(shared);
  __shared__ const uint8_t* rows_of_w[kBlockTile];
  const ScreenSpan span = span_of(task, second, kBlockTile);
  if (span.count == 0) return;
  const int i = static_cast<int>(threadIdx.x);
  if (i < kBlockTile) {
    rows_of_w[i] =
        i < span.count ? input.weight + task.ids[span.begin + i] * input.weight_stride : nullptr;
  }
  __syncthreads();
  BlockResults results;
  const TileRange range = split_of_block_depth(input, blockIdx.y, blockIdx.y + 1, 0);
  linear_blocks_tile<FORMAT>(input, rows_of_w, range, shared, results);
  const float* const products = share_block_results(results, shared);
  if (i < span.count) store_exact(task, span, i, products[i]);
}

constexpr int kLeaderThreads = 128;

// The largest of all that were read, whose logits take the place of what was known of them. One
// block per row.
__global__ __launch_bounds__(kLeaderThreads) void screen_leader_kernel(ScreenTask task) {
  constexpr int kWarps = kLeaderThreads / kWarp;
  __shared__ float tops[kWarps];
  __shared__ int odd[kWarps];
  __shared__ int leaders[kWarps];
  const int r = static_cast<int>(blockIdx.x);
  ScreenRow& row = task.row[r];
  if (task.full[r] != 0) return;
  const int32_t* const ids = task.ids + r * task.budget;
  const float* const exact = task.exact + r * task.budget;
  const ScreenTop top = top_of<kWarps>(exact, row.read, tops, odd);
  if (!top.usual || !(top.logit > -INFINITY)) {
    if (threadIdx.x == 0) task.full[r] = 1;
    return;
  }
  int leader = INT_MAX;
  for (int i = static_cast<int>(threadIdx.x); i < row.read; i += kLeaderThreads) {
    if (exact[i] == top.logit) leader = Min::apply(leader, ids[i]);
    task.upper[r * task.upper_stride() + ids[i]] = exact[i];
    if (task.logits != nullptr) task.logits[r * task.upper_stride() + ids[i]] = exact[i];
  }
  leader = block_reduce<Min, kWarps>(leader, leaders);
  if (threadIdx.x != 0) return;
  row.top = top.logit;
  row.leader = leader;
}

}  // namespace exn::cuda
