// SPDX-License-Identifier: Apache-2.0
//
// exit_head with a screen: the full head's argmax from a form of it that is several times smaller,
// and those rows of it that may hold the largest logit. screen.h of the C ABI has the mathematics.
//
// Nothing is decided on the host, which does not see the image either. Kernels in order, for up to
// 8 rows of hidden that are ready to be multiplied:
//
//   screen_rotate_kernel   looks whether the image is sound; y = P (x - m)
//   screen_row_kernel      what a row makes of the norms that are stored
//   screen_scores_kernel   logits and bounds of all rows of the vocabulary
//   screen_choose_kernel   the best of those that may be the largest: up to 128
//   screen_exact_kernel    their logits, as the full head computes them
//   screen_prune_kernel    those of the others that still may be the largest
//   screen_exact_kernel    their logits
//   screen_leader_kernel   the largest
//   screen_mass_kernel     sums for its probability, if somebody asks
//   exit_head_kernel       for rows that none of this settled; else its blocks leave at once
//   screen_finish_kernel   writes what was found
//
// and screen_exact_blocks_kernel, exit_head_blocks_kernel where the head is quantised.
#pragma once

#include "screen_bounds.cuh"
#include "screen_candidates.cuh"

namespace exn::cuda {

// ---- probabilities ------------------------------------------------------------------------------

constexpr int kMassThreads = kTileThreads;
constexpr int kMassItems = 16;
constexpr int kMassTile = kMassThreads * kMassItems;

// Of a tile of a row, e^(z - its largest logit): the sum of what is known or estimated, and two
// that bound it. Bytes: 8 for each row of the vocabulary. Grid: x counts tiles of 2048, y rows.
__global__ __launch_bounds__(kMassThreads) void screen_mass_kernel(ScreenTask task) {
  __shared__ float scratch[3 * (kMassThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.y);
  if (task.full[r] != 0) return;
  const StatsOptions& options = task.options;
  const float level = treat_logit(task.row[r].top, options);
  // tanh of neighbours may be in the wrong order.
  const float wrong = __fmul_rn(options.softcap, options.inverse_temperature) * 0x1p-20f;
  const bool treats = treats_logits(options);
  const int64_t first = blockIdx.x * int64_t{kMassTile}, at = r * task.upper_stride() + first;
  const int count = tile_count(first, task.upper_stride(), kMassTile);
  // On their way before one is looked at.
  float logits[kMassItems], upper[kMassItems];
  load_tile<float>(task.logits + at, count, -INFINITY, logits);
  load_tile<float>(task.upper + at, count, -INFINITY, upper);
  float sums[3] = {};
#pragma unroll
  for (int i = 0; i < kMassItems; ++i) {
    // A mask has no bound.
    float z = logits[i], high = upper[i], low = z == -INFINITY ? z : z - (high - z);
    if (treats) {
      z = treat_logit(z, options);
      low = treat_logit(low, options) - wrong;
      high = treat_logit(high, options) + wrong;
    }
    sums[0] += expf(fminf(z - level, 0.0f));
    sums[1] += expf(fminf(low - level, 0.0f));
    sums[2] += expf(fminf(high - level, 0.0f));
  }
  block_reduce<Sum, kMassThreads / kWarp, 3>(sums, scratch);
  if (threadIdx.x == 0) {
    float* const to = task.sums + (r * task.sum_tiles + blockIdx.x) * 3;
#pragma unroll
    for (int k = 0; k < 3; ++k) to[k] = sums[k];
  }
}

// Writes a row's outputs: what was found, or what the full head says. One block per row.
__global__ __launch_bounds__(kMergeThreads) void screen_finish_kernel(ScreenTask task) {
  __shared__ MergeShared shared;
  __shared__ double scratch[3 * (kMergeThreads / kWarp)];
  const int r = static_cast<int>(blockIdx.x);
  const int64_t to = task.first_row + r;
  if (task.full[r] != 0) {
    const StatsState state = merge_row<Softmax<float>>(task.states + r * task.head_tiles,
                                                       task.head_tiles, task.options, shared);
    if (threadIdx.x != 0) return;
    const float p1 = write_stats<Softmax<float>>(task.out, to, state, task.options);
    put(task.certified, to, kCertifiedNot);
    put(task.rows_read, to, static_cast<int32_t>(task.vocabulary));
    put(task.p1_low, to, p1);
    put(task.p1_high, to, p1);
    return;
  }
  double sums[3] = {};
  if (task.logits != nullptr) {
    for (int64_t i = threadIdx.x; i < task.sum_tiles; i += kMergeThreads) {
      const float* const segment = task.sums + (r * task.sum_tiles + i) * 3;
#pragma unroll
      for (int k = 0; k < 3; ++k) sums[k] += static_cast<double>(segment[k]);
    }
  }
  block_reduce<Sum, kMergeThreads / kWarp, 3>(sums, scratch);
  if (threadIdx.x != 0) return;
  const ScreenRow& row = task.row[r];
  const float level = treat_logit(row.top, task.options);
  put(task.out.valid, to, uint8_t{1});
  put(task.out.argmax, to, row.leader);
  put(task.out.max_logit, to, level);
  put(task.certified, to, task.factor == 0.0f ? kCertifiedProven : kCertifiedCalibrated);
  put(task.rows_read, to, row.read);
  // What f32 loses of terms and sums is far below this share, and the full head's 1e-6 too.
  constexpr float kSlack = 1e-5f;
  const float sum = fmaxf(static_cast<float>(sums[0]), 1.0f);
  const float least = fmaxf(static_cast<float>(sums[1]), 1.0f);
  const float largest = fmaxf(static_cast<float>(sums[2]), 1.0f);
  put(task.out.lse, to, level + logf(sum));
  put(task.out.p1, to, 1.0f / sum);
  put(task.p1_low, to, (1.0f - kSlack) / largest);
  put(task.p1_high, to, fminf((1.0f + kSlack) / least, 1.0f));
}

}  // namespace exn::cuda
