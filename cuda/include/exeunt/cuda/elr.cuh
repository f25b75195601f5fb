// SPDX-License-Identifier: Apache-2.0
//
// elr: cross-entropy with early-learning regularisation, its gradient and its moving targets.
#pragma once

#include "distinct.cuh"
#include "stablemax.cuh"

namespace exn::cuda {

// What a thread holds of a row: of one of a tile, of a longer one that a block still holds, and of
// each tile of one that is longer yet.
constexpr int kElrItems = 8;
constexpr int kElrHeldItems = 16;
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
  const int32_t* index;    // [rows]
  const uint8_t* repeats;  // [rows], 1: an earlier row has the same index
  float* targets;          // [samples, columns]
  int64_t targets_stride;
  int64_t samples;
  float beta;
  float lambda;
  float* row_loss;  // [rows], null if neither losses nor their mean are asked for
  T* grad;          // null if not asked for
  int64_t grad_stride;
  const LabelCount<float>* count;  // null: no mean
};

// Which rows have an index that an earlier one has too, and how many labels are not ignored, where
// `count` is given. A block for each chunk of rows.
//
// Bytes: 4 per row read and 1 written, those of the rows before from the caches; 4 or 8 per label.
__global__ __launch_bounds__(kCountThreads) void elr_prepare_kernel(const int32_t* index,
                                                                    int64_t rows, uint8_t* repeats,
                                                                    const void* labels, int wide,
                                                                    int64_t ignore_index,
                                                                    LabelCount<float>* count) {
  __shared__ FirstEntries<kCountThreads> table;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kCountThreads;
  const int64_t left = rows - begin;
  const int here = left < kCountThreads ? static_cast<int>(left) : kCountThreads;
  find_first_entries<kCountThreads>(index, begin, here, table);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < here) {
    const int32_t sample = index[begin + thread];
    repeats[begin + thread] = sample >= 0 && !table.is_first(sample, thread);
  }
  if (count != nullptr && blockIdx.x == 0) count_labels(labels, wide, rows, ignore_index, count);
}

__device__ __forceinline__ float elr_clamp(float p) { return fminf(fmaxf(p, kElrLeast), kElrMost); }

// `t` where the clamp does not hold p, else 0.
__device__ __forceinline__ float where_free(float p, float t) {
  return p >= kElrLeast && p <= kElrMost ? t : 0.0f;
}

// Targets that belong to a tile's logits.
template <class T, int ITEMS>
__device__ __forceinline__ void load_targets(const float* tile, int count, float (&values)[ITEMS]) {
  const bool aligned = is_vector_aligned(tile);
#pragma unroll
  for (int i = 0; i < ITEMS; i += 4) {
    const int place = tile_place<T>(i);
    if (aligned && place + 4 <= count) {
      unpack<float>(*reinterpret_cast<const uint4*>(tile + place), &values[i]);
      continue;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) values[i + k] = place + k < count ? tile[place + k] : 0.0f;
  }
}

template <class T, int ITEMS>
__device__ __forceinline__ void store_targets(float* tile, int count,
                                              const float (&values)[ITEMS]) {
  const bool aligned = is_vector_aligned(tile);
#pragma unroll
  for (int i = 0; i < ITEMS; i += 4) {
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

// A row that the block holds: its logits, of which `weigh` makes probabilities, and its target.
template <class T, int ITEMS>
struct HeldElrRow {
  static constexpr int kItems = ITEMS;

  int count;
  float values[ITEMS];
  float target[ITEMS];

  __device__ __forceinline__ HeldElrRow(const T* row, int64_t columns)
      : count(static_cast<int>(columns)) {
    load_tile(row, count, -infinity<float>(), values);
  }

  __device__ __forceinline__ void take_target(float* from) { load_targets<T>(from, count, target); }

  // Calls f(begin, count, z) for the tile, whose places from `count` on are -inf.
  template <class F>
  __device__ __forceinline__ void for_logits(F&& f) const {
    f(int64_t{0}, count, values);
  }

  __device__ __forceinline__ void weigh(const RowState<float>& state) {
    const Softmax<float> softmax(state.largest);
#pragma unroll
    for (float& z : values) z = softmax.weight(z) * state.inverse_sum;
  }

  // The same of probabilities.
  template <class F>
  __device__ __forceinline__ void for_probabilities(F&& f) const {
    f(int64_t{0}, count, values);
  }

  // Calls f(begin, count, p, t), which may change the target.
  template <class F>
  __device__ __forceinline__ void for_targets(F&& f) {
    f(int64_t{0}, count, values, target);
  }
};

// A longer row, read from the caches in each pass.
template <class T, int ITEMS>
struct StreamedElrRow {
  static constexpr int kItems = ITEMS;
  static constexpr int kColumns = kTileThreads * ITEMS;  // of a tile

  const T* row;
  int64_t columns;
  float* target = nullptr;
  RowState<float> state{};

  __device__ __forceinline__ StreamedElrRow(const T* its_row, int64_t its_columns)
      : row(its_row), columns(its_columns) {}

  __device__ __forceinline__ void take_target(float* from) { target = from; }

  template <class F>
  __device__ __forceinline__ void for_logits(F&& f) const {
#pragma unroll 1
    for (int64_t begin = 0; begin < columns; begin += kColumns) {
      const int count = tile_count(begin, columns, kColumns);
      float z[ITEMS];
      load_tile(row + begin, count, -infinity<float>(), z);
      f(begin, count, z);
    }
  }

  __device__ __forceinline__ void weigh(const RowState<float>& its_state) { state = its_state; }

  template <class F>
  __device__ __forceinline__ void for_probabilities(F&& f) const {
    const Softmax<float> softmax(state.largest);
    for_logits([&](int64_t begin, int count, float (&z)[ITEMS]) {
#pragma unroll
      for (float& p : z) p = softmax.weight(p) * state.inverse_sum;
      f(begin, count, z);
    });
  }

  template <class F>
  __device__ __forceinline__ void for_targets(F&& f) const {
    for_probabilities([&](int64_t begin, int count, const float (&p)[ITEMS]) {
      float t[ITEMS];
      load_targets<T>(target + begin, count, t);
      f(begin, count, p, t);
    });
  }
};

// Writes one value to the whole of a row's gradient.
template <class T>
__device__ __forceinline__ void fill_gradient(const ElrTask<T>& task, int64_t row, float value) {
  if (task.grad == nullptr) return;
  for (int64_t i = threadIdx.x; i < task.columns; i += kTileThreads) {
    task.grad[row * task.grad_stride + i] = narrow<T>(value);
  }
}

// Largest logit and sum of weights.
template <class Row>
__device__ __forceinline__ RowState<float> elr_state(const Row& row, float* scratch) {
  constexpr int kWarps = kTileThreads / kWarp;
  PartialState<float> all{-infinity<float>(), 0.0f};
  row.for_logits([&](int64_t, int, const float (&z)[Row::kItems]) {
#pragma unroll
    for (const float x : z) all.largest = fmaxf(all.largest, x);
  });
  all.largest = block_reduce<Max, kWarps>(all.largest, scratch);
  const Softmax<float> softmax(all.largest);
  float sums[2] = {};
  row.for_logits([&](int64_t, int, const float (&z)[Row::kItems]) {
#pragma unroll
    for (int i = 0; i < Row::kItems; ++i) sums[i % 2] += softmax.weight(z[i]);
  });
  all.sum = block_reduce<Sum, kWarps>(sums[0] + sums[1], scratch + kWarps);
  return finish_row(all);
}

// What all threads of a row need beside its logits; one of them reads it.
struct ElrSample {
  int64_t label;
  float label_logit;
  float scale;  // of the gradient
  int32_t sample;
  bool known;  // label and sample exist, and no earlier row has the sample
  bool ignored;
};

template <class T>
__device__ __forceinline__ ElrSample elr_sample(const ElrTask<T>& task, int64_t row) {
  ElrSample it{};
  it.label = label_of(task.labels, task.wide_labels, row);
  it.ignored = it.label == task.ignore_index;
  it.sample = task.index[row];
  it.scale = task.grad == nullptr || task.count == nullptr ? 1.0f : task.count->inverse;
  it.known = it.label >= 0 && it.label < task.columns && it.sample >= 0 &&
             it.sample < task.samples && task.repeats[row] == 0;
  if (it.known && !it.ignored) it.label_logit = widen(task.logits[row * task.stride + it.label]);
  return it;
}

// A thread's share of the sum of a row's clamped probabilities.
template <class T, class Row>
__device__ __forceinline__ float clamped_sum(const Row& z_row) {
  float clamped = 0.0f;
  z_row.for_probabilities([&](int64_t, int count, const float (&p)[Row::kItems]) {
#pragma unroll
    for (int i = 0; i < Row::kItems; ++i) {
      const float c = elr_clamp(p[i]);
      if (tile_place<T>(i) < count) clamped += c;
    }
  });
  return clamped;
}

// The gradient of a row: of the cross-entropy and, times `pull`, of the regularisation, for which
// `seen` is the sum over free p of t p.
template <class T, class Row>
__device__ __forceinline__ void write_elr_gradient(const ElrTask<T>& task, int64_t row, Row& z_row,
                                                   const ElrSample& its, float pull, float seen) {
  z_row.for_targets(
      [&](int64_t begin, int count, const float (&p)[Row::kItems], const float (&t)[Row::kItems]) {
        float g[Row::kItems];
#pragma unroll
        for (int i = 0; i < Row::kItems; ++i) {
          const float hit = begin + tile_place<T>(i) == its.label ? 1.0f : 0.0f;
          g[i] = its.scale * ((p[i] - hit) + pull * p[i] * (seen - where_free(p[i], t[i])));
        }
        store_tile(task.grad + row * task.grad_stride + begin, count, g);
      });
}

// What a row without a result gets.
template <class T>
__device__ __forceinline__ void leave_elr_row(const ElrTask<T>& task, int64_t row, float value) {
  fill_gradient(task, row, value);
  if (threadIdx.x == 0 && task.row_loss != nullptr) task.row_loss[row] = value;
}

// A block for each row, whose threads hold the same places in every pass: so the gradient may be
// the logits.
//
// Bytes: every logit once, every target once in and once out, every gradient element once; a label,
// its logit, an index, a flag and a loss per row. A row that no block holds is read five times,
// from the caches, and its target twice.
template <class T, class Row>
__global__ __launch_bounds__(kTileThreads,
                             Row::kItems == kElrItems ? 6 : 4) void elr_kernel(ElrTask<T> task) {
  constexpr int kWarps = kTileThreads / kWarp;
  __shared__ float scratch[3 * kWarps];
  __shared__ ElrSample its;
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    Row z_row(task.logits + row * task.stride, task.columns);
    __syncthreads();  // the row before has read what is shared
    if (threadIdx.x == 0) its = elr_sample(task, row);
    __syncthreads();
    if (its.ignored) {
      leave_elr_row(task, row, 0.0f);
      continue;
    }
    float* const target = task.targets + (its.known ? its.sample : 0) * task.targets_stride;
    RowState<float> state{0.0f, quiet_nan<float>(), 0.0f};
    if (its.known) {
      z_row.take_target(target);
      state = elr_state(z_row, scratch);
      __syncthreads();  // what follows writes `scratch` again
    }
    if (state.inverse_sum != state.inverse_sum) {
      leave_elr_row(task, row, quiet_nan<float>());
      continue;
    }
    z_row.weigh(state);
    const float clamped = block_reduce<Sum, kWarps>(clamped_sum<T>(z_row), scratch);
    const float takes = (1.0f - task.beta) / clamped;
    float seen[2] = {};  // <t, c>; the sum over free p of t p
    z_row.for_targets(
        [&](int64_t begin, int count, const float (&p)[Row::kItems], float (&t)[Row::kItems]) {
#pragma unroll
          for (int i = 0; i < Row::kItems; ++i) {
            const float c = elr_clamp(p[i]);
            t[i] = fmaf(takes, c, task.beta * t[i]);
            if (tile_place<T>(i) >= count) continue;
            seen[0] = fmaf(t[i], c, seen[0]);
            seen[1] = fmaf(where_free(p[i], t[i]), p[i], seen[1]);
          }
          store_targets<T>(target + begin, count, t);
        });
    block_reduce<Sum, kWarps>(seen, scratch + kWarps);
    const float rest = 1.0f - seen[0];
    if (task.grad != nullptr) {
      write_elr_gradient(task, row, z_row, its, task.lambda / rest, seen[1]);
    }
    if (threadIdx.x == 0 && task.row_loss != nullptr) {
      const float loss = state.log_sum - (its.label_logit - state.largest);
      task.row_loss[row] = fmaf(task.lambda, logf(rest), loss);
    }
  }
}

}  // namespace exn::cuda
