// SPDX-License-Identifier: Apache-2.0
//
// rope: rotary position embedding by a table of cosines and sines.
#pragma once

#include "elements.cuh"

namespace exn::cuda {

constexpr int kRopeThreads = 256;

enum class RopeStyle : int { kInterleaved, kHalf };

// Places in a head of the two elements of a pair.
__device__ __forceinline__ int64_t rope_first(RopeStyle style, int64_t pair) {
  return style == RopeStyle::kHalf ? pair : 2 * pair;
}
__device__ __forceinline__ int64_t rope_second(RopeStyle style, int64_t pair, int64_t pairs) {
  return style == RopeStyle::kHalf ? pair + pairs : 2 * pair + 1;
}

__device__ __forceinline__ float2 rotated(float a, float b, float cosine, float sine) {
  return make_float2(fmaf(a, cosine, -(b * sine)), fmaf(b, cosine, a * sine));
}

template <class T>
struct RopeTask {
  const T* in;  // [R,H,dh]
  T* out;
  int64_t in_stride;  // elements between rows
  int64_t out_stride;
  int64_t heads;
  int64_t dim;
  const int32_t* position;  // [R]
  const float* table;       // [positions, pairs, 2]
  int64_t positions;
  int64_t pairs;
  RopeStyle style;
};

// kVector<T> pairs from `pair` on: two vectors of a head.
template <class T, RopeStyle kStyle>
__device__ __forceinline__ void rotate_vectors(const T* in, T* out, const float* turns,
                                               int64_t pair, int64_t pairs) {
  constexpr int kV = kVector<T>;
  constexpr bool kIsHalf = kStyle == RopeStyle::kHalf;
  const int64_t first = rope_first(kStyle, pair);
  const int64_t second = kIsHalf ? first + pairs : first + kV;
  float x[2 * kV], turn[2 * kV];
  unpack<T>(*reinterpret_cast<const uint4*>(in + first), x);
  unpack<T>(*reinterpret_cast<const uint4*>(in + second), x + kV);
#pragma unroll
  for (int i = 0; i < 2 * kV; i += 4) {
    unpack<float>(*reinterpret_cast<const uint4*>(turns + 2 * pair + i), turn + i);
  }
#pragma unroll
  for (int i = 0; i < kV; ++i) {
    float& a = x[kIsHalf ? i : 2 * i];
    float& b = x[kIsHalf ? kV + i : 2 * i + 1];
    const float2 y = rotated(a, b, turn[2 * i], turn[2 * i + 1]);
    a = y.x;
    b = y.y;
  }
  *reinterpret_cast<uint4*>(out + first) = pack<T>(x);
  *reinterpret_cast<uint4*>(out + second) = pack<T>(x + kV);
}

template <class T>
__device__ __forceinline__ void rotate_pair(const RopeTask<T>& task, const T* in, T* out,
                                            const float* turns, int64_t pair) {
  const int64_t first = rope_first(task.style, pair);
  const int64_t second = rope_second(task.style, pair, task.pairs);
  float2 y = make_float2(NAN, NAN);
  if (turns != nullptr) {
    y = rotated(widen(in[first]), widen(in[second]), turns[2 * pair], turns[2 * pair + 1]);
  }
  out[first] = narrow<T>(y.x);
  out[second] = narrow<T>(y.y);
}

// One block per row, whose heads share the turns. `out` may be the input: a thread reads what it
// writes, and nothing else.
//
// Bytes: the rows once in and once out, 8 per pair and row of the table; as vectors where all is
// aligned.
template <class T>
__global__ __launch_bounds__(kRopeThreads) void rope_kernel(RopeTask<T> task) {
  constexpr int kV = kVector<T>;
  const int64_t row = blockIdx.x;
  const T* const in = task.in + row * task.in_stride;
  T* const out = task.out + row * task.out_stride;
  const int32_t position = task.position[row];
  const bool known = position >= 0 && position < task.positions;
  const float* const turns = known ? task.table + position * task.pairs * 2 : nullptr;
  const int64_t copied = task.dim - 2 * task.pairs;
  const bool vectors = known && is_vector_aligned(in) && is_vector_aligned(out) &&
                       is_vector_aligned(turns) && task.dim % kV == 0 && task.pairs % kV == 0;
  const int width = vectors ? kV : 1;
  const auto turned_items = static_cast<unsigned>(task.pairs / width);
  const unsigned items = turned_items + static_cast<unsigned>(copied / width);
  for (int64_t i = threadIdx.x; i < task.heads * items; i += kRopeThreads) {
    const auto head = static_cast<int64_t>(static_cast<unsigned>(i) / items);
    const auto item = static_cast<int64_t>(static_cast<unsigned>(i) % items);
    const T* const x = in + head * task.dim;
    T* const y = out + head * task.dim;
    if (item >= turned_items) {
      const int64_t place = 2 * task.pairs + (item - turned_items) * width;
      if (vectors) {
        *reinterpret_cast<uint4*>(y + place) = *reinterpret_cast<const uint4*>(x + place);
      } else {
        y[place] = x[place];
      }
    } else if (!vectors) {
      rotate_pair(task, x, y, turns, item);
    } else if (task.style == RopeStyle::kHalf) {
      rotate_vectors<T, RopeStyle::kHalf>(x, y, turns, item * kV, task.pairs);
    } else {
      rotate_vectors<T, RopeStyle::kInterleaved>(x, y, turns, item * kV, task.pairs);
    }
  }
}

}  // namespace exn::cuda
