// SPDX-License-Identifier: Apache-2.0
//
// ssm_step: the convolution of a Mamba block's last inputs, and its scan, token by token.
//
// A block has channels of one sequence and takes that sequence's rows in ascending order, with the
// channels' states in registers from the first to the last.
#pragma once

#include <cstdint>

#include "reduce.cuh"
#include "storage.cuh"

namespace exn::cuda {

constexpr int kSsmThreads = 128;

// A matrix whose type is known at run time.
struct SsmRows {
  const void* data;  // null: left out
  int64_t stride;
  Storage storage;
};

struct SsmStepTask {
  int64_t rows;
  int64_t channels;
  int64_t states;  // sequences
  int width;       // values of a channel's state
  int lanes;       // of a channel in the scan: a power of two
  bool vectors;    // states and weights may be read four values at once
  SsmRows x;
  SsmRows dt;
  SsmRows b;
  SsmRows c;
  SsmRows z;
  void* out;  // optional in the scan
  int64_t out_stride;
  Storage out_storage;
  float* state;             // [states, channels, width]
  const float* weight;      // [channels, width]
  const float* bias;        // [channels], optional
  const float* skip;        // [channels], optional
  const int32_t* sequence;  // [rows], optional
  const uint8_t* active;    // [rows], optional
};

__device__ __forceinline__ float load_row(const SsmRows& rows, int64_t row, int64_t column) {
  return load_as(rows.storage, rows.data, row * rows.stride + column);
}

__device__ __forceinline__ float silu_of(float x) { return x / (1.0f + expf(-x)); }

// Calls f(row, active) for the rows of a sequence, in ascending order, in whole warps. Rows of
// sequences that there are not are inactive ones of the first.
template <class F>
__device__ __forceinline__ void for_rows_of(const SsmStepTask& task, int64_t sequence, F&& f) {
  for (int64_t base = 0; base < task.rows; base += kWarp) {
    const int64_t row = base + threadIdx.x % kWarp;
    bool is_mine = false, is_active = false;
    if (row < task.rows) {
      const int32_t id = task.sequence != nullptr ? task.sequence[row] : 0;
      const bool is_known = id >= 0 && id < task.states;
      is_mine = (is_known ? id : 0) == sequence;
      is_active = is_mine && is_known && (task.active == nullptr || task.active[row] != 0);
    }
    unsigned mine = __ballot_sync(kFullWarp, is_mine);
    const unsigned active = __ballot_sync(kFullWarp, is_active);
    for (; mine != 0; mine &= mine - 1) {
      const int bit = __popc((mine & (0u - mine)) - 1u);
      f(base + bit, (active >> bit & 1u) != 0);
    }
  }
}

// Four values at once: the compiler takes such a load apart where it finds their uses one by one.
__device__ __forceinline__ void load_four(const float* from, float (&values)[4]) {
  uint4 raw = *reinterpret_cast<const uint4*>(from);
  asm volatile("" : "+r"(raw.x), "+r"(raw.y), "+r"(raw.z), "+r"(raw.w));
  unpack<float>(raw, values);
}

// ---- convolution --------------------------------------------------------------------------------

// Of Mamba's width: the inputs of a channel are one vector.
//
// Bytes: states of sequences with active rows once in and once out, the weight and the bias once for
// each sequence; x and out of each row, and 5 per row for each block from the caches.
static __global__ __launch_bounds__(kSsmThreads, 8) void ssm_conv_kernel(SsmStepTask task) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kSsmThreads + threadIdx.x;
  const bool exists = channel < task.channels;
  const float bias = exists && task.bias != nullptr ? task.bias[channel] : 0.0f;
  float w[4] = {};
  if (exists) load_four(task.weight + channel * 4, w);
  for (int64_t sequence = blockIdx.y; sequence < task.states; sequence += gridDim.y) {
    float* const state = task.state + (sequence * task.channels + channel) * 4;
    float held[4] = {};
    bool is_held = false;
    for_rows_of(task, sequence, [&](int64_t row, bool active) {
      if (!exists) return;
      float y = 0.0f;
      if (active) {
        if (!is_held) load_four(state, held);
        is_held = true;
        held[0] = held[1];
        held[1] = held[2];
        held[2] = held[3];
        held[3] = load_row(task.x, row, channel);
        float sum = bias;
#pragma unroll
        for (int k = 0; k < 4; ++k) sum = fmaf(held[k], w[k], sum);
        y = silu_of(sum);
      }
      store_as(task.out_storage, task.out, row * task.out_stride + channel, y);
    });
    if (is_held) store_vector(state, pack<float>(held));
  }
}

// Of any width and alignment.
//
// Bytes: as above, but the states once for each active row.
static __global__ __launch_bounds__(kSsmThreads, 8) void ssm_conv_any_kernel(SsmStepTask task) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kSsmThreads + threadIdx.x;
  const bool exists = channel < task.channels;
  const float bias = exists && task.bias != nullptr ? task.bias[channel] : 0.0f;
  const float* const w = task.weight + channel * task.width;
  for (int64_t sequence = blockIdx.y; sequence < task.states; sequence += gridDim.y) {
    float* const state = task.state + (sequence * task.channels + channel) * task.width;
    for_rows_of(task, sequence, [&](int64_t row, bool active) {
      if (!exists) return;
      float y = 0.0f;
      if (active) {
        const float last = load_row(task.x, row, channel);
        float sum = bias;
        for (int k = 0; k < task.width; ++k) {
          const float value = k + 1 < task.width ? state[k + 1] : last;
          state[k] = value;
          sum = fmaf(value, w[k], sum);
        }
        y = silu_of(sum);
      }
      store_as(task.out_storage, task.out, row * task.out_stride + channel, y);
    });
  }
}

// ---- scan ---------------------------------------------------------------------------------------

// Where the quads of a thread begin in a channel's state.
__device__ __forceinline__ int quad_place(const SsmStepTask& task, int quad) {
  return 4 * (static_cast<int>(threadIdx.x) % task.lanes + quad * task.lanes);
}

// Four values from `place` on, 0 after the last.
__device__ __forceinline__ void load_state(const SsmStepTask& task, const float* from, int place,
                                           float (&values)[4]) {
  if (task.vectors) {
    if (place < task.width) load_four(from + place, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (place + i < task.width) values[i] = from[place + i];
  }
}

__device__ __forceinline__ void store_state(const SsmStepTask& task, float* to, int place,
                                            const float (&values)[4]) {
  if (task.vectors) {
    if (place < task.width) store_vector(to + place, pack<float>(values));
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (place + i < task.width) to[place + i] = values[i];
  }
}

__device__ __forceinline__ float softplus_of(float v) { return v > 20.0f ? v : log1pf(expf(v)); }

// h = h e^(dt a) + dt x b for a thread's part of a channel's state; returns its share of <h, c>.
template <int QUADS>
__device__ __forceinline__ float advance_state(const SsmStepTask& task, int64_t row, float dt,
                                               float dt_x, const float (&a)[QUADS][4],
                                               float (&h)[QUADS][4]) {
  float y = 0.0f;
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int place = quad_place(task, q) + i;
      if (place >= task.width) continue;
      h[q][i] = fmaf(h[q][i], expf(dt * a[q][i]), dt_x * load_row(task.b, row, place));
      y = fmaf(h[q][i], load_row(task.c, row, place), y);
    }
  }
  return y;
}

// `lanes` threads for each channel, with QUADS times four values each.
//
// Bytes: states of sequences with active rows once in and once out, A once for each of them; x, dt,
// z and out of each row; b, c, and 5 for each row once for each block, from the caches.
template <int QUADS>
__global__ __launch_bounds__(kSsmThreads, 8) void ssm_scan_kernel(SsmStepTask task) {
  const int lane = static_cast<int>(threadIdx.x) % task.lanes;
  const int first_lane = static_cast<int>(threadIdx.x) % kWarp - lane;
  const int64_t channel =
      static_cast<int64_t>(blockIdx.x) * (kSsmThreads / task.lanes) + threadIdx.x / task.lanes;
  const bool exists = channel < task.channels;
  const float bias = exists && task.bias != nullptr ? task.bias[channel] : 0.0f;
  const float skip = exists && task.skip != nullptr ? task.skip[channel] : 0.0f;
  float a[QUADS][4] = {};
  if (exists) {
#pragma unroll
    for (int q = 0; q < QUADS; ++q) {
      load_state(task, task.weight + channel * task.width, quad_place(task, q), a[q]);
    }
  }
  for (int64_t sequence = blockIdx.y; sequence < task.states; sequence += gridDim.y) {
    float* const state = task.state + (sequence * task.channels + channel) * task.width;
    float h[QUADS][4] = {};
    bool is_held = false;
    for_rows_of(task, sequence, [&](int64_t row, bool active) {
      float y = 0.0f, x = 0.0f, dt = 0.0f;
      if (active && exists && lane == 0) {  // which alone may overwrite x
        x = load_row(task.x, row, channel);
        dt = softplus_of(load_row(task.dt, row, channel) + bias);
      }
      x = __shfl_sync(kFullWarp, x, first_lane);
      dt = __shfl_sync(kFullWarp, dt, first_lane);
      if (active && exists) {
        if (!is_held) {
#pragma unroll
          for (int q = 0; q < QUADS; ++q) load_state(task, state, quad_place(task, q), h[q]);
        }
        is_held = true;
        y = advance_state<QUADS>(task, row, dt, dt * x, a, h);
      }
      if (task.out == nullptr) return;
      for (int offset = task.lanes / 2; offset > 0; offset /= 2) {
        y += __shfl_xor_sync(kFullWarp, y, offset);
      }
      if (!exists || lane != 0) return;
      if (active) {
        if (task.skip != nullptr) y = fmaf(skip, x, y);
        if (task.z.data != nullptr) y *= silu_of(load_row(task.z, row, channel));
      }
      store_as(task.out_storage, task.out, row * task.out_stride + channel, y);
    });
    if (is_held) {
#pragma unroll
      for (int q = 0; q < QUADS; ++q) store_state(task, state, quad_place(task, q), h[q]);
    }
  }
}

}  // namespace exn::cuda
