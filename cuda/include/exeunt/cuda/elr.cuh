// SPDX-License-Identifier: Apache-2.0
//
// elr: cross-entropy with early-learning regularisation, its gradient and its moving targets.
#pragma once

#include "stablemax.cuh"

namespace exn::cuda {

// Classes are few: tiles are small, and a row of several is read from the caches in each pass.
constexpr int kElrItems = 8;
constexpr int kElrTile = kTileThreads * kElrItems;
constexpr float kElrLeast = 1e-4f;
constexpr float kElrMost = 1.0f - 1e-4f;

template <class T>
struct ElrTask {
  const T* logits;
  int64_t rows;
  int64_t columns;
  int64_t stride;
  const void* labels;  // i32 or i64
  int wide_labels;
  int64_t ignore_index;
  const int32_t* index;  // [rows]
  float* targets;        // [samples, columns]
  int64_t targets_stride;
  int64_t samples;
  float beta;
  float lambda;
  float* row_loss;  // [rows], null if neither losses nor their mean are asked for
  T* grad;          // null if not asked for
  int64_t grad_stride;
  const LabelCount<float>* count;  // null: no mean
};

__device__ __forceinline__ float elr_clamp(float p) { return fminf(fmaxf(p, kElrLeast), kElrMost); }

// `t` where the clamp does not hold p, else 0.
__device__ __forceinline__ float where_free(float p, float t) {
  return p >= kElrLeast && p <= kElrMost ? t : 0.0f;
}

// Targets that belong to a tile's logits.
template <class T>
__device__ __forceinline__ void load_targets(const float* tile, int count,
                                             float (&values)[kElrItems]) {
  const bool aligned = is_vector_aligned(tile);
#pragma unroll
  for (int i = 0; i < kElrItems; i += 4) {
    const int place = tile_place<T>(i);
    if (aligned && place + 4 <= count) {
      unpack<float>(*reinterpret_cast<const uint4*>(tile + place), &values[i]);
      continue;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) values[i + k] = place + k < count ? tile[place + k] : 0.0f;
  }
}

template <class T>
__device__ __forceinline__ void store_targets(float* tile, int count,
                                              const float (&values)[kElrItems]) {
  const bool aligned = is_vector_aligned(tile);
#pragma unroll
  for (int i = 0; i < kElrItems; i += 4) {
    const int place = tile_place<T>(i);
    if (aligned && place + 4 <= count) {
      store_vector(tile + place, pack<float>(&values[i]));
      continue;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (place + k < count) tile[place + k] = values[i + k];
    }
  }
}

// Calls f(tile, count, z) for a row's tiles; places from `count` on are -inf.
template <class T, class F>
__device__ __forceinline__ void for_elr_tiles(const T* row, int64_t columns, F&& f) {
#pragma unroll 1
  for (int64_t begin = 0; begin < columns; begin += kElrTile) {
    const int count = tile_count(begin, columns, kElrTile);
    float z[kElrItems];
    load_tile(row + begin, count, -infinity<float>(), z);
    f(begin, count, z);
  }
}

// Writes one value to the whole of a row's gradient.
template <class T>
__device__ __forceinline__ void fill_gradient(const ElrTask<T>& task, int64_t row, float value) {
  if (task.grad == nullptr) return;
  for (int64_t i = threadIdx.x; i < task.columns; i += kTileThreads) {
    task.grad[row * task.grad_stride + i] = narrow<T>(value);
  }
}

// Largest logit and sum of weights, of a row's tiles one after the other.
template <class T>
__device__ __forceinline__ RowState<float> elr_state(const T* row, int64_t columns,
                                                     float* scratch) {
  constexpr int kWarps = kTileThreads / kWarp;
  PartState<float> all{-infinity<float>(), 0.0f};
  for_elr_tiles(row, columns, [&](int64_t, int, const float (&z)[kElrItems]) {
#pragma unroll
    for (const float x : z) all.largest = fmaxf(all.largest, x);
  });
  all.largest = block_reduce<Max, kWarps>(all.largest, scratch);
  const Softmax<float> softmax(all.largest);
  float sums[2] = {};
  for_elr_tiles(row, columns, [&](int64_t, int, const float (&z)[kElrItems]) {
#pragma unroll
    for (int i = 0; i < kElrItems; ++i) sums[i % 2] += softmax.weight(z[i]);
  });
  all.sum = block_reduce<Sum, kWarps>(sums[0] + sums[1], scratch + kWarps);
  return finish_row(all);
}

// A block for each row, whose threads hold the same places in every pass: so the gradient may be the
// logits.
//
// Bytes: every logit once, every target once in and once out, every gradient element once; a label,
// its logit and a loss per row; the indices of the rows before it from the caches. Rows of more than
// a tile are read five times, from the caches, and their targets twice.
template <class T>
__global__ __launch_bounds__(kTileThreads, 6) void elr_kernel(ElrTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  __shared__ float scratch[3 * kWarps];
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    const int64_t label = label_of(task.labels, task.wide_labels, row);
    const int32_t sample = task.index[row];
    if (label == task.ignore_index) {
      fill_gradient(task, row, 0.0f);
      if (threadIdx.x == 0 && task.row_loss != nullptr) task.row_loss[row] = 0.0f;
      continue;
    }
    bool came_before = false;
    for (int64_t i = threadIdx.x; i < row; i += kTileThreads)
      came_before |= task.index[i] == sample;
    const bool known = label >= 0 && label < task.columns && sample >= 0 && sample < task.samples &&
                       !__syncthreads_or(came_before);
    const T* const z_row = task.logits + row * task.stride;
    const RowState<float> state = known ? elr_state(z_row, task.columns, scratch)
                                        : RowState<float>{0.0f, quiet_nan<float>(), 0.0f};
    __syncthreads();  // what follows writes `scratch` again
    if (state.inverse_sum != state.inverse_sum) {
      fill_gradient(task, row, quiet_nan<float>());
      if (threadIdx.x == 0 && task.row_loss != nullptr) task.row_loss[row] = quiet_nan<float>();
      continue;
    }
    const float label_logit = widen(z_row[label]);
    const Softmax<float> softmax(state.largest);
    float clamped = 0.0f;
    for_elr_tiles(z_row, task.columns, [&](int64_t, int count, const float (&z)[kElrItems]) {
#pragma unroll
      for (int i = 0; i < kElrItems; ++i) {
        const float c = elr_clamp(softmax.weight(z[i]) * state.inverse_sum);
        if (tile_place<T>(i) < count) clamped += c;
      }
    });
    clamped = block_reduce<Sum, kWarps>(clamped, scratch);
    const float takes = (1.0f - task.beta) / clamped;
    float* const target = task.targets + sample * task.targets_stride;
    float seen[2] = {};  // <t, c>; the sum over free p of t p
    for_elr_tiles(z_row, task.columns, [&](int64_t begin, int count, const float (&z)[kElrItems]) {
      float t[kElrItems];
      load_targets<T>(target + begin, count, t);
#pragma unroll
      for (int i = 0; i < kElrItems; ++i) {
        const float p = softmax.weight(z[i]) * state.inverse_sum;
        const float c = elr_clamp(p);
        t[i] = fmaf(takes, c, task.beta * t[i]);
        if (tile_place<T>(i) >= count) continue;
        seen[0] = fmaf(t[i], c, seen[0]);
        seen[1] = fmaf(where_free(p, t[i]), p, seen[1]);
      }
      store_targets<T>(target + begin, count, t);
    });
    block_reduce<Sum, kWarps>(seen, scratch + kWarps);
    const float rest = 1.0f - seen[0];
    if (task.grad != nullptr) {
      const float scale = task.count == nullptr ? 1.0f : task.count->inverse;
      const float pull = task.lambda / rest;
      for_elr_tiles(z_row, task.columns,
                    [&](int64_t begin, int count, const float (&z)[kElrItems]) {
                      float t[kElrItems], g[kElrItems];
                      load_targets<T>(target + begin, count, t);
#pragma unroll
                      for (int i = 0; i < kElrItems; ++i) {
                        const float p = softmax.weight(z[i]) * state.inverse_sum;
                        const float hit = begin + tile_place<T>(i) == label ? 1.0f : 0.0f;
                        g[i] = scale * ((p - hit) + pull * p * (seen[1] - where_free(p, t[i])));
                      }
                      store_tile(task.grad + row * task.grad_stride + begin, count, g);
                    });
    }
    if (threadIdx.x == 0 && task.row_loss != nullptr) {
      const float loss = state.log_sum - (label_logit - state.largest);
      task.row_loss[row] = fmaf(task.lambda, logf(rest), loss);
    }
    __syncthreads();  // the next row writes `scratch` again
  }
}

}  // namespace exn::cuda
