// SPDX-License-Identifier: Apache-2.0
//
// Merges the partial results that the splits of attention.cuh leave.
#pragma once

#include "attention.cuh"

namespace exn::cuda {

struct AttentionMerge {
  const float2* states;
  const float* parts;
  int split_pitch;
  int splits;
  int tile_slots;
  int64_t rows;
  int64_t heads;
  int dim;
  KvLayout at;
  const int32_t* sequence;
  const int32_t* visible;
  HeadRows out;
};

constexpr int kAttentionMergeThreads = 256;
constexpr int kMergeWarps = kAttentionMergeThreads / kWarp;
constexpr int kMergeColumns = 4 * kWarp;

// Sums of `live` parts from columns `column` on, four for each lane: a warp takes every eighth
// split, then the warps are added in order. The first 128 threads get one column each.
__device__ __forceinline__ float merge_columns(const AttentionMerge& task, int64_t query, int live,
                                               float reference, int column,
                                               float (&sums)[kMergeWarps][kMergeColumns]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int mine = column + 4 * lane;
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (mine < task.split_pitch) {
#pragma unroll 4
    for (int split = warp; split < live; split += kMergeWarps) {
      const int64_t at = query * task.splits + split;
      const float weight = __expf(task.states[at].x - reference);
      const uint4 raw = *reinterpret_cast<const uint4*>(task.parts + at * task.split_pitch + mine);
      sum.x = fmaf(__uint_as_float(raw.x), weight, sum.x);
      sum.y = fmaf(__uint_as_float(raw.y), weight, sum.y);
      sum.z = fmaf(__uint_as_float(raw.z), weight, sum.z);
      sum.w = fmaf(__uint_as_float(raw.w), weight, sum.w);
    }
  }
  *reinterpret_cast<float4*>(&sums[warp][4 * lane]) = sum;
  __syncthreads();
  float total = 0.0f;
  if (threadIdx.x < kMergeColumns) {
#pragma unroll
    for (int i = 0; i < kMergeWarps; ++i) total += sums[i][threadIdx.x];
  }
  __syncthreads();  // the next columns write `sums` again
  return total;
}

// One block per row and head. Bytes: 4 * dim + 8 for each split with slots that the row sees, from
// the L2 cache; out once.
static __global__ __launch_bounds__(kAttentionMergeThreads) void attention_merge_kernel(
    AttentionMerge task) {
  __shared__ __align__(16) float sums[kMergeWarps][kMergeColumns];
  __shared__ float scratch[2][kMergeWarps];
  for (int64_t query = blockIdx.x; query < task.rows * task.heads; query += gridDim.x) {
    const int64_t row = query / task.heads;
    const int32_t seen = slots_seen(task.at, sequence_of(task.sequence, row), task.visible[row]);
    const int tiles = seen > 0 ? (seen - 1) / task.tile_slots + 1 : 0;
    const int live = min(tiles, task.splits);  // others wrote nothing
    const float2* const states = task.states + query * task.splits;
    float largest = -INFINITY;
    for (int split = threadIdx.x; split < live; split += kAttentionMergeThreads) {
      largest = fmaxf(largest, states[split].x);
    }
    const float reference = reference_of(block_reduce<Max, kMergeWarps>(largest, scratch[0]));
    float sum = 0.0f;
    for (int split = threadIdx.x; split < live; split += kAttentionMergeThreads) {
      sum += states[split].y * __expf(states[split].x - reference);
    }
    sum = block_reduce<Sum, kMergeWarps>(sum, scratch[1]);
    const int64_t out = row * task.out.stride + query % task.heads * task.dim;
    for (int column = 0; column < task.dim; column += kMergeColumns) {
      const float value = merge_columns(task, query, live, reference, column, sums);
      const int mine = column + static_cast<int>(threadIdx.x);
      if (threadIdx.x < kMergeColumns && mine < task.dim) {
        store_as(task.out.type, task.out.data, out + mine, attended(value, sum, seen));
      }
    }
    __syncthreads();  // the next query writes `scratch` again
  }
}

}  // namespace exn::cuda
