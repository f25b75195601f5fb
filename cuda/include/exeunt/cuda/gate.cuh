// SPDX-License-Identifier: Apache-2.0
//
// gate: small learned exit heads, features -> probability. The hidden layers are linear_kernel
// launches on f32 rows (prepare_rows_kernel makes them); this is the output layer, and what is left
// of it where its weights are quantised and linear_blocks_kernel has made its outputs.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

template <class T, class W>
struct GateOutputTask {
  const T* features;
  int64_t rows;
  int64_t columns;
  int64_t stride;     // elements between rows
  const W* weight;    // [outputs, columns]
  const float* bias;  // [outputs], optional
  int outputs;        // 1: sigmoid; 2: the second of a softmax
  float* prob;        // [rows]
};

constexpr int kGateThreads = 128;

__device__ __forceinline__ float sigmoid(float logit) { return 1.0f / (1.0f + expf(-logit)); }

// Sum over one row, by one warp: lane l takes columns l, l + 32, ...
template <class T, class W>
__device__ __forceinline__ float warp_dot(const T* x, const W* w, int64_t columns) {
  float sum = 0.0f;
  for (int64_t i = threadIdx.x % kWarp; i < columns; i += kWarp)
    sum = fmaf(widen(w[i]), widen(x[i]), sum);
  return warp_reduce<Sum>(sum);
}

// One warp per row: gates have a handful of features (JEI-DNN: 4) or one hidden state's worth.
//
// Bytes: the features once; the weights, a few kilobytes, come from the L1 cache.
template <class T, class W>
__global__ __launch_bounds__(kGateThreads) void gate_output_kernel(GateOutputTask<T, W> task) {
  constexpr int kWarps = kGateThreads / kWarp;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  for (int64_t row = first; row < task.rows; row += static_cast<int64_t>(gridDim.x) * kWarps) {
    const T* x = task.features + row * task.stride;
    float logit = warp_dot(x, task.weight, task.columns);
    if (task.bias != nullptr) logit += task.bias[0];
    if (task.outputs == 2) {  // softmax(o)[1] = sigmoid(o1 - o0)
      float second = warp_dot(x, task.weight + task.columns, task.columns);
      if (task.bias != nullptr) second += task.bias[1];
      logit = second - logit;
    }
    if (threadIdx.x % kWarp == 0) task.prob[row] = sigmoid(logit);
  }
}

// Probabilities of outputs [rows, 2], of which there are one or two. A thread per row.
//
// Bytes: 8 read and 4 written for each row.
__global__ __launch_bounds__(kGateThreads) void gate_probability_kernel(const float2* outputs,
                                                                        int count, int64_t rows,
                                                                        float* prob) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kGateThreads + threadIdx.x;
  for (int64_t row = first; row < rows; row += static_cast<int64_t>(gridDim.x) * kGateThreads) {
    const float2 o = outputs[row];
    prob[row] = sigmoid(count == 2 ? o.y - o.x : o.x);
  }
}

}  // namespace exn::cuda
