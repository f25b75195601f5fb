// SPDX-License-Identifier: Apache-2.0
//
// Sums, maxima and minima over a warp or a block, always in the same order.
#pragma once

#include "portable.cuh"

namespace exn::cuda {

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarp = 32;

struct Sum {
  template <class A>
  __device__ __forceinline__ static A apply(A a, A b) {
    return a + b;
  }
};
// A NaN loses against a number, as in fmaxf.
struct Max {
  __device__ __forceinline__ static float apply(float a, float b) { return fmaxf(a, b); }
  __device__ __forceinline__ static double apply(double a, double b) { return fmax(a, b); }
  __device__ __forceinline__ static int apply(int a, int b) { return a > b ? a : b; }
};
struct Min {
  __device__ __forceinline__ static int apply(int a, int b) { return a < b ? a : b; }
};

// Every lane gets the result. Both partners of an exchange compute op(a, b) of the same two values,
// and the operations commute, so the lanes agree bit by bit.
template <class Op, class A>
__device__ __forceinline__ A warp_reduce(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = Op::apply(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// Every thread gets the result; `scratch` holds WARPS values. The caller lets a barrier pass before
// it uses the same scratch again.
template <class Op, int WARPS, class A>
__device__ __forceinline__ A block_reduce(A value, A* scratch) {
  value = warp_reduce<Op>(value);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = scratch[0];
#pragma unroll
  for (int warp = 1; warp < WARPS; ++warp) value = Op::apply(value, scratch[warp]);
  return value;
}

// The same for N values side by side; `scratch` holds N times WARPS values.
template <class Op, int WARPS, int N, class A>
__device__ __forceinline__ void block_reduce(A (&values)[N], A* scratch) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = warp_reduce<Op>(values[i]);
    if (threadIdx.x % kWarp == 0) scratch[i * WARPS + threadIdx.x / kWarp] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = scratch[i * WARPS];
#pragma unroll
    for (int warp = 1; warp < WARPS; ++warp) {
      values[i] = Op::apply(values[i], scratch[i * WARPS + warp]);
    }
  }
}

}  // namespace exn::cuda
