// SPDX-License-Identifier: Apache-2.0
//
// rope_table: cosines and sines of every position and frequency, in f64.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

constexpr int kRopeTableThreads = 256;

struct RopeTableTask {
  float* table;  // [positions, pairs, 2]
  int64_t positions;
  int64_t pairs;
  double base;
  double divisor;  // of the position
};

// Taylor's sums of sine and cosine, for |x| <= pi / 4, to the last bit or two of f64. The library's
// functions keep a table for huge angles in local memory.
__device__ __forceinline__ double sine_near_zero(double x) {
  const double square = x * x;
  double sum = -1.0 / 121645100408832000.0;  // 19!
  sum = fma(sum, square, 1.0 / 355687428096000.0);
  sum = fma(sum, square, -1.0 / 1307674368000.0);
  sum = fma(sum, square, 1.0 / 6227020800.0);
  sum = fma(sum, square, -1.0 / 39916800.0);
  sum = fma(sum, square, 1.0 / 362880.0);
  sum = fma(sum, square, -1.0 / 5040.0);
  sum = fma(sum, square, 1.0 / 120.0);
  sum = fma(sum, square, -1.0 / 6.0);
  return fma(sum * square, x, x);
}
__device__ __forceinline__ double cosine_near_zero(double x) {
  const double square = x * x;
  double sum = -1.0 / 6402373705728000.0;  // 18!
  sum = fma(sum, square, 1.0 / 20922789888000.0);
  sum = fma(sum, square, -1.0 / 87178291200.0);
  sum = fma(sum, square, 1.0 / 479001600.0);
  sum = fma(sum, square, -1.0 / 3628800.0);
  sum = fma(sum, square, 1.0 / 40320.0);
  sum = fma(sum, square, -1.0 / 720.0);
  sum = fma(sum, square, 1.0 / 24.0);
  sum = fma(sum, square, -0.5);
  return fma(sum, square, 1.0);
}

// Of an angle from 0 to 2^31, the largest there is: a quarter turn is taken off in three pieces
// that hold 160 bits of pi / 2 together, and fma loses none of them.
__device__ __forceinline__ float2 cosine_and_sine(double angle) {
  const double quarters = rint(angle * 0.6366197723675814);
  double rest = fma(-quarters, 1.5707963267948966, angle);
  rest = fma(-quarters, 6.123233995736766e-17, rest);
  rest = fma(-quarters, -1.4973849048591833e-33, rest);
  const double sine = sine_near_zero(rest);
  const double cosine = cosine_near_zero(rest);
  switch (static_cast<int64_t>(quarters) & 3) {
    case 0:
      return make_float2(static_cast<float>(cosine), static_cast<float>(sine));
    case 1:
      return make_float2(static_cast<float>(-sine), static_cast<float>(cosine));
    case 2:
      return make_float2(static_cast<float>(-cosine), static_cast<float>(-sine));
    default:
      return make_float2(static_cast<float>(sine), static_cast<float>(-cosine));
  }
}

// One thread per pair, in f64: the table is made once per model.
//
// Bytes: the table once.
__global__ __launch_bounds__(kRopeTableThreads) void rope_table_kernel(RopeTableTask task) {
  const int64_t count = task.positions * task.pairs;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRopeTableThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kRopeTableThreads + threadIdx.x; i < count;
       i += step) {
    const auto position = static_cast<double>(i / task.pairs);
    const auto pair = static_cast<double>(i % task.pairs);
    const double frequency = pow(task.base, -pair / static_cast<double>(task.pairs));
    const float2 turn = cosine_and_sine(position / task.divisor * frequency);
    task.table[2 * i] = turn.x;
    task.table[2 * i + 1] = turn.y;
  }
}

}  // namespace exn::cuda
