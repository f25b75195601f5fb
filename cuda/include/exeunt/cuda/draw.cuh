// SPDX-License-Identifier: Apache-2.0
//
// Draws from softmax(z / temperature): the largest z / temperature + noise. row_stats.h has the rule.
#pragma once

#include <climits>

#include "philox.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// What a row's draw depends on beside its logits.
struct RowDraw {
  uint64_t key;
  uint64_t counter;
  float inverse;  // of the temperature; 0: nothing is drawn
};

// That of all rows, [R] each.
struct DrawInputs {
  const int64_t* key = nullptr;  // null: none is asked for
  const int64_t* counter = nullptr;
  const float* temperature = nullptr;  // null: 1 each

  __device__ __forceinline__ float temperature_of(int64_t row) const {
    return temperature != nullptr ? temperature[row] : 1.0f;
  }
  __device__ __forceinline__ RowDraw of(int64_t row) const {
    const float t = temperature_of(row);
    return {static_cast<uint64_t>(key[row]), static_cast<uint64_t>(counter[row]),
            t >= 0x1p-126f && t < INFINITY ? 1.0f / t : 0.0f};
  }
};

// For a warp, by its first lane.
__device__ __forceinline__ RowDraw row_draw(const DrawInputs& inputs, int64_t row) {
  RowDraw of_row = {0, 0, 0.0f};
  if (threadIdx.x % kWarp == 0) of_row = inputs.of(row);
  of_row.key = __shfl_sync(kFullWarp, of_row.key, 0);
  of_row.counter = __shfl_sync(kFullWarp, of_row.counter, 0);
  of_row.inverse = __shfl_sync(kFullWarp, of_row.inverse, 0);
  return of_row;
}

// The best of some scores.
struct __align__(8) Draw {
  float score;
  int32_t id;  // INT_MAX: there is none

  // Of equal scores that of the smaller id. A NaN is none.
  __device__ __forceinline__ void take(float other, int32_t other_id) {
    if (!(other > score || (other == score && other_id < id))) return;
    score = other;
    id = other_id;
  }
};

__device__ __forceinline__ Draw no_draw() { return {-INFINITY, INT_MAX}; }

// Every lane gets the best.
__device__ __forceinline__ Draw warp_best(const Draw& draw) {
  const float score = warp_reduce<Max>(draw.score);
  return {score, __reduce_min_sync(kFullWarp, draw.score == score ? draw.id : INT_MAX)};
}

// Words of noise for ids that are 32 apart from each other, the next of which is x.
struct NoiseWords {
  uint4 words;

  __device__ __forceinline__ NoiseWords(const RowDraw& row, int32_t id)
      : words(noise_words(row.key, row.counter, id)) {
#pragma unroll 1
    for (int i = id / 32 % 4; i > 0; --i) advance();
  }
  __device__ __forceinline__ void advance() {
    words = make_uint4(words.y, words.z, words.w, words.x);
  }
  // Of the logit `z`, after which the next id's turn has come.
  __device__ __forceinline__ float score(float z, const RowDraw& row) {
    const float noise = gumbel_of(words.x);
    advance();
    return __fadd_rn(__fmul_rn(z, row.inverse), noise);
  }
};

// What a complete row draws, whose best score and argmax are known.
__device__ __forceinline__ int32_t drawn(const DrawInputs& inputs, int64_t row, const Draw& best,
                                         int32_t argmax) {
  const float temperature = inputs.temperature_of(row);
  if (!(temperature >= 0.0f && temperature < INFINITY)) return -1;
  // Where no score is finite, the temperature is so low that the largest logit has all weight.
  return best.id != INT_MAX && fabsf(best.score) < INFINITY ? best.id : argmax;
}

}  // namespace exn::cuda
