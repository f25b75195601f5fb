// SPDX-License-Identifier: Apache-2.0
//
// hired_budget: what an image's partitions may keep, from the attention to the full image.
#pragma once

#include <cstdint>

#include "reduce.cuh"

namespace exn::cuda {

struct HiredBudgetTask {
  const float* attention;  // [images, patches], rows `stride` elements apart
  int64_t stride;
  int64_t images;
  int32_t* budget;  // [images, 1 + parts]
  uint8_t* marks;   // [images, patches], optional
  uint8_t* valid;   // [images], optional
  double* scores;   // workspace, [images, parts]
  float* shares;    // workspace, [images, parts]
  int32_t patches;  // Nv
  int32_t parts;    // k
  // Token r of region i lies in row r / width of the region, `pitch` tokens from row to row.
  int32_t region_size;
  int32_t region_width;
  int32_t pitch;
  int32_t grid_cols;    // regions in a row
  int32_t row_stride;   // tokens from the first region of a row to that of the next
  int32_t full_budget;  // B_full
  int64_t sub_budget;   // B_sub
  int32_t mark_count;   // tokens that are marked
  bool counts;          // regions are scored by marks, else by sums
  bool deals;           // what truncation leaves is dealt out
  bool stages;          // an image's attention fits into the dynamic shared memory
};

constexpr int kHiredThreads = 256;
constexpr int kHiredWarps = kHiredThreads / kWarp;

// What block_reduce writes. Counts have two, so that rounds may take turns with one barrier each.
struct HiredScratch {
  int32_t counts[2][kHiredWarps];
  int64_t amounts[kHiredWarps];
  double sums[kHiredWarps];
};

__device__ __forceinline__ int32_t first_token(const HiredBudgetTask& task, int32_t region) {
  return region / task.grid_cols * task.row_stride + region % task.grid_cols * task.region_width;
}

// ---- the m largest ------------------------------------------------------------------------------

// Ascends as the value does, -0 as +0, and where values are equal as the index falls: no two keys
// are the same, and none is 0.
__device__ __forceinline__ uint64_t rank_key(float value, int32_t index, int32_t count) {
  unsigned bits = __float_as_uint(value + 0.0f);
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(bits) << 32 | static_cast<unsigned>(count - 1 - index);
}

// The key from which on there are exactly `m` of the keys key_of(0) ... key_of(count - 1); m in
// 1 .. count. Found bit by bit from the top: at most 64 rounds, about 15 where the values differ.
template <class KeyOf>
__device__ __forceinline__ uint64_t lowest_of_largest(int32_t count, int32_t m,
                                                      HiredScratch& scratch, KeyOf key_of) {
  uint64_t lowest = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t tried = lowest | uint64_t{1} << bit;
    int32_t mine = 0;
    for (int32_t i = threadIdx.x; i < count; i += kHiredThreads) mine += key_of(i) >= tried;
    const int32_t reached = block_reduce<Sum, kHiredWarps>(mine, scratch.counts[bit % 2]);
    if (reached >= m) lowest = tried;
    if (reached == m) break;
  }
  __syncthreads();  // the next caller writes the scratch again
  return lowest;
}

// ---- scores -------------------------------------------------------------------------------------

__device__ __forceinline__ bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

// A warp for each region, its tokens always in the same order.
template <class ValueOf>
__device__ __forceinline__ void score_regions(const HiredBudgetTask& task, double* scores,
                                              ValueOf value_of) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int32_t region = static_cast<int>(threadIdx.x) / kWarp; region < task.parts;
       region += kHiredWarps) {
    const int32_t first = first_token(task, region);
    double sum = 0.0;
    for (int32_t i = lane; i < task.region_size; i += kWarp) {
      sum += value_of(first + i / task.region_width * task.pitch + i % task.region_width);
    }
    sum = warp_reduce<Sum>(sum);
    if (lane == 0) scores[region] = sum;
  }
}

// ---- budgets ------------------------------------------------------------------------------------

// A region's share of B_sub, from 0 to Nv. `sum` of all scores; not above 0: all regions count the
// same.
__device__ __forceinline__ float share_of(const HiredBudgetTask& task, double score, double sum) {
  const double fraction = sum > 0.0 ? score / sum : 1.0 / task.parts;
  const float share = __fmul_rn(static_cast<float>(fraction), static_cast<float>(task.sub_budget));
  return share > 0.0f ? fminf(share, static_cast<float>(task.patches)) : 0.0f;
}

// Whole tokens of a share; what is left is dealt out or lost.
__device__ __forceinline__ int32_t whole_of(const HiredBudgetTask& task, float share) {
  const auto whole = static_cast<int64_t>(share);  // Nv as a float may be above Nv
  return static_cast<int32_t>(whole < task.patches ? whole : task.patches);
}

// Tokens that `rounds` rounds take, in each of which every region below its limit gets one.
__device__ __forceinline__ int64_t dealt_in(const HiredBudgetTask& task, const float* shares,
                                            int32_t rounds, int64_t* scratch) {
  int64_t dealt = 0;
  for (int32_t i = threadIdx.x; i < task.parts; i += kHiredThreads) {
    dealt += min(rounds, task.patches - whole_of(task, shares[i]));
  }
  dealt = block_reduce<Sum, kHiredWarps>(dealt, scratch);
  __syncthreads();  // the next caller writes the scratch again
  return dealt;
}

// 0 for a region that whole rounds fill up.
__device__ __forceinline__ uint64_t deal_key(const HiredBudgetTask& task, float share,
                                             int32_t rounds, int32_t region) {
  if (task.patches - whole_of(task, share) <= rounds) return 0;
  return rank_key(share - floorf(share), region, task.parts);
}

// What truncation leaves goes one by one to the largest fractions, round after round: whole rounds,
// of which there is seldom one, and some of another, for those with a key of `lowest` or more.
struct HiredDeal {
  int32_t rounds;
  uint64_t lowest;
};

__device__ __forceinline__ HiredDeal deal_out(const HiredBudgetTask& task, const float* shares,
                                              HiredScratch& scratch) {
  int64_t left = 0;
  for (int32_t i = threadIdx.x; i < task.parts; i += kHiredThreads) {
    left += whole_of(task, shares[i]);
  }
  left = task.sub_budget - block_reduce<Sum, kHiredWarps>(left, scratch.amounts);
  __syncthreads();  // dealt_in writes the scratch again
  HiredDeal deal = {0, ~uint64_t{0}};
  if (left <= 0) return deal;
  if (dealt_in(task, shares, 1, scratch.amounts) <= left) {
    for (int bit = 30; bit >= 0; --bit) {
      const int32_t tried = deal.rounds | 1 << bit;
      if (tried > task.patches) continue;
      if (dealt_in(task, shares, tried, scratch.amounts) <= left) deal.rounds = tried;
    }
    left -= dealt_in(task, shares, deal.rounds, scratch.amounts);
  }
  if (left > 0) {
    const int32_t rounds = deal.rounds;
    deal.lowest =
        lowest_of_largest(task.parts, static_cast<int32_t>(left), scratch,
                          [&](int32_t i) { return deal_key(task, shares[i], rounds, i); });
  }
  return deal;
}

__device__ __forceinline__ void write_budgets(const HiredBudgetTask& task, const float* shares,
                                              const HiredDeal& deal, int32_t* budget) {
  if (threadIdx.x == 0) budget[0] = task.full_budget;
  for (int32_t i = threadIdx.x; i < task.parts; i += kHiredThreads) {
    const int32_t kept = whole_of(task, shares[i]);
    budget[1 + i] = kept + min(deal.rounds, task.patches - kept) +
                    (deal_key(task, shares[i], deal.rounds, i) >= deal.lowest);
  }
}

// A block per image.
//
// Bytes: 4 * Nv read, 4 * P and, for marks, Nv written. The attention is looked at again, once for
// sums and about 20 times for marks: in shared memory, or in the caches if it is too long for that.
static __global__ __launch_bounds__(kHiredThreads,
                                    3) void hired_budget_kernel(HiredBudgetTask task) {
  __shared__ HiredScratch scratch;
  EXN_DYN_SMEM(stage);
  auto* const staged = reinterpret_cast<float*>(stage);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t image = blockIdx.x; image < task.images; image += gridDim.x) {
    const float* const read = task.attention + image * task.stride;
    const bool stages = task.stages;
    const auto attention = [=](int32_t t) { return stages ? staged[t] : read[t]; };
    int32_t* const budget = task.budget + image * (1 + task.parts);
    uint8_t* const marks = task.marks != nullptr ? task.marks + image * task.patches : nullptr;
    double* const scores = task.scores + image * task.parts;

    bool broken = false;
    for (int32_t t = thread; t < task.patches; t += kHiredThreads) {
      const float value = read[t];
      if (task.stages) staged[t] = value;
      broken |= !is_finite(value);
    }
    broken = __syncthreads_or(broken);
    if (task.valid != nullptr && thread == 0) task.valid[image] = !broken;
    if (broken) {
      for (int32_t i = thread; i <= task.parts; i += kHiredThreads) budget[i] = task.patches;
      for (int32_t t = thread; marks != nullptr && t < task.patches; t += kHiredThreads) {
        marks[t] = 0;
      }
      continue;
    }

    if (task.counts) {
      const int32_t patches = task.patches;
      const auto key_of = [=](int32_t t) { return rank_key(attention(t), t, patches); };
      uint64_t lowest = ~uint64_t{0};
      if (task.mark_count > 0)
        lowest = lowest_of_largest(task.patches, task.mark_count, scratch, key_of);
      for (int32_t t = thread; marks != nullptr && t < task.patches; t += kHiredThreads) {
        marks[t] = key_of(t) >= lowest;
      }
      score_regions(task, scores, [=](int32_t t) { return key_of(t) >= lowest ? 1.0 : 0.0; });
    } else {
      score_regions(task, scores, [=](int32_t t) { return static_cast<double>(attention(t)); });
    }
    __syncthreads();  // all scores are there

    double sum = 0.0;
    for (int32_t i = thread; i < task.parts; i += kHiredThreads) sum += scores[i];
    sum = block_reduce<Sum, kHiredWarps>(sum, scratch.sums);
    float* const shares = task.shares + image * task.parts;
    for (int32_t i = thread; i < task.parts; i += kHiredThreads) {
      shares[i] = share_of(task, scores[i], sum);
    }
    __syncthreads();  // all shares are there
    const HiredDeal deal =
        task.deals ? deal_out(task, shares, scratch) : HiredDeal{0, ~uint64_t{0}};
    write_budgets(task, shares, deal, budget);
    __syncthreads();  // the next image writes the scratch again
  }
}

}  // namespace exn::cuda
