// SPDX-License-Identifier: Apache-2.0
//
// Products of queries with a key of a tile, both in shared memory, for attention and
// attention_scores.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// Keys and values are copied to shared memory, and read there, in chunks of so many bytes.
constexpr int kChunkBytes = 16;

// products[m] = <query m, key>, where lanes of a warp that are 2^slot_shift apart share a key: each
// takes every so-manyth chunk, and all get the sum. Queries are `query_pitch` elements apart and
// padded with zeros to whole chunks. All lanes of the warp must call; those without a key get 0.
template <class C, int QUERIES>
__device__ __forceinline__ void multiply_key(const unsigned char* key, int chunks, bool exists,
                                             const float* query, int query_pitch, int slot_shift,
                                             float (&products)[QUERIES]) {
#pragma unroll
  for (int m = 0; m < QUERIES; ++m) products[m] = 0.0f;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (exists) {
#pragma unroll 1
    for (int chunk = lane >> slot_shift; chunk < chunks; chunk += kWarp >> slot_shift) {
      float x[kVector<C>];
      unpack<C>(*reinterpret_cast<const uint4*>(key + chunk * kChunkBytes), x);
#pragma unroll
      for (int m = 0; m < QUERIES; ++m) {
        const float* const y = query + m * query_pitch + chunk * kVector<C>;
#pragma unroll
        for (int i = 0; i < kVector<C>; i += 4) {
          const float4 four = *reinterpret_cast<const float4*>(y + i);
          products[m] = fmaf(x[i], four.x, products[m]);
          products[m] = fmaf(x[i + 1], four.y, products[m]);
          products[m] = fmaf(x[i + 2], four.z, products[m]);
          products[m] = fmaf(x[i + 3], four.w, products[m]);
        }
      }
    }
  }
  for (int offset = 1 << slot_shift; offset < kWarp; offset *= 2) {
#pragma unroll
    for (int m = 0; m < QUERIES; ++m) {
      products[m] += __shfl_xor_sync(kFullWarp, products[m], offset);
    }
  }
}

}  // namespace exn::cuda
