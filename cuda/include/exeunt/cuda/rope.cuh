// SPDX-License-Identifier: Apache-2.0
//
// rope: rotary position embedding by a table of cosines and sines.
#pragma once

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

constexpr int kRopeThreads = 256;
// Blocks on an SM, which registers must allow.
template <class T>
constexpr int kRopeBlocks = 5;
template <>
constexpr int kRopeBlocks<__half> = 4;

// Pairs whose turns a block keeps at a time: all of a head of up to 512 elements.
constexpr int kTurnPairs = 256;

// Where they lie in shared memory. A thread reads the turns of kVector<T> pairs in pieces of four
// floats; the first pieces of all threads lie side by side, then the second ones, so that threads
// meet in no bank. The gap between keeps those apart that write.
template <class T>
constexpr int kTurnPieces = 2 * kVector<T> / 4;
template <class T>
constexpr int kTurnPitch = 4 * kTurnPairs / kVector<T> + 64 / kVector<T>;
template <class T>
constexpr int kTurnFloats = kTurnPieces<T> * kTurnPitch<T>;

// Of the `i`-th number of a row of the table: cosine and sine of a pair in turn.
template <class T>
__device__ __forceinline__ int turn_place(int i) {
  constexpr int kOwn = 2 * kVector<T>;
  return i % kOwn / 4 * kTurnPitch<T> + i / kOwn * 4 + i % 4;
}

// How often the turns of a head lie there, one copy after the other, which heads take in turn. Eight
// threads that read together then meet in no bank where one head ends and the next begins, although
// a head has more than eight vectors of pairs, and no multiple of eight. A power of two; fewer where
// there is no space.
template <class T>
__device__ __forceinline__ unsigned turn_copies(unsigned vectors) {
  constexpr unsigned kTogether = 8;
  unsigned copies = 1;
  if (vectors <= kTogether) return copies;
  while (copies * vectors % kTogether != 0 &&
         2 * copies * vectors <= static_cast<unsigned>(kTurnPairs / kVector<T>)) {
    copies *= 2;
  }
  return copies;
}

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

// The position of a row that is off.
constexpr int32_t kNoPosition = -1;

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

// kVector<T> pairs of a head: two vectors.
struct PairVectors {
  uint4 first;
  uint4 second;
};

// Where they are in the row, for item `item` of those that a block turns at a time. A row has less
// than 2^31 elements.
struct PairPlaces {
  int first;
  int second;
  int turn;  // the first pair's place among the turns, in vectors
};

template <class T>
__device__ __forceinline__ PairPlaces pair_places(const RopeTask<T>& task, unsigned item,
                                                  unsigned items_per_head, unsigned copies,
                                                  int64_t begin) {
  constexpr int kV = kVector<T>;
  const unsigned head = item / items_per_head;
  const unsigned turn = item % items_per_head;
  const bool is_half = task.style == RopeStyle::kHalf;
  const auto pair = static_cast<unsigned>(begin) + turn * kV;
  const unsigned first = head * static_cast<unsigned>(task.dim) + (is_half ? pair : 2 * pair);
  const unsigned second = first + (is_half ? static_cast<unsigned>(task.pairs) : kV);
  return {static_cast<int>(first), static_cast<int>(second),
          static_cast<int>((head & (copies - 1)) * items_per_head + turn)};
}

template <class T>
__device__ __forceinline__ PairVectors load_pairs(const T* row, const PairPlaces& places) {
  return {*reinterpret_cast<const uint4*>(row + places.first),
          *reinterpret_cast<const uint4*>(row + places.second)};
}

template <class T, RopeStyle kStyle>
__device__ __forceinline__ PairVectors rotated_pairs(const PairVectors& pairs, const float* turns) {
  constexpr int kV = kVector<T>;
  constexpr bool kIsHalf = kStyle == RopeStyle::kHalf;
  float x[2 * kV], turn[2 * kV];
  unpack<T>(pairs.first, x);
  unpack<T>(pairs.second, x + kV);
#pragma unroll
  for (int i = 0; i < kTurnPieces<T>; ++i) {
    unpack<float>(*reinterpret_cast<const uint4*>(turns + i * kTurnPitch<T>), turn + 4 * i);
  }
#pragma unroll
  for (int i = 0; i < kV; ++i) {
    float& a = x[kIsHalf ? i : 2 * i];
    float& b = x[kIsHalf ? kV + i : 2 * i + 1];
    const float2 y = rotated(a, b, turn[2 * i], turn[2 * i + 1]);
    a = y.x;
    b = y.y;
  }
  return {pack<T>(x), pack<T>(x + kV)};
}

// Turns `count` pairs of each head from `begin` on, in vectors. The first ones are on their way
// while `read_turns(copies)` waits for the table, and stay there if it finds the row switched off.
template <class T, class Read>
__device__ __forceinline__ void rotate_vectors(const RopeTask<T>& task, const T* in, T* out,
                                               int64_t begin, int count, const float* turns,
                                               Read&& read_turns) {
  const unsigned items_per_head = static_cast<unsigned>(count / kVector<T>);
  const unsigned items = static_cast<unsigned>(task.heads) * items_per_head;
  const unsigned copies = turn_copies<T>(items_per_head);
  unsigned item = threadIdx.x;
  PairPlaces places;
  PairVectors x;
  if (item < items) {
    places = pair_places(task, item, items_per_head, copies, begin);
    x = load_pairs(in, places);
  }
  if (!read_turns(copies)) return;
  while (item < items) {
    const float* const turn = turns + 4 * places.turn;
    const PairVectors y = task.style == RopeStyle::kHalf
                              ? rotated_pairs<T, RopeStyle::kHalf>(x, turn)
                              : rotated_pairs<T, RopeStyle::kInterleaved>(x, turn);
    *reinterpret_cast<uint4*>(out + places.first) = y.first;
    *reinterpret_cast<uint4*>(out + places.second) = y.second;
    item += kRopeThreads;
    if (item >= items) return;
    places = pair_places(task, item, items_per_head, copies, begin);
    x = load_pairs(in, places);
  }
}

// The same, one by one.
template <class T>
__device__ __forceinline__ void rotate_elements(const RopeTask<T>& task, const T* in, T* out,
                                                int64_t begin, int count, const float* turns) {
  const unsigned items = static_cast<unsigned>(task.heads) * static_cast<unsigned>(count);
  for (unsigned item = threadIdx.x; item < items; item += kRopeThreads) {
    const int64_t head = item / static_cast<unsigned>(count) * task.dim;
    const int turn = static_cast<int>(item % static_cast<unsigned>(count));
    const int64_t first = head + rope_first(task.style, begin + turn);
    const int64_t second = head + rope_second(task.style, begin + turn, task.pairs);
    const float2 t = *reinterpret_cast<const float2*>(turns + turn_place<T>(2 * turn));
    const float2 y = rotated(widen(in[first]), widen(in[second]), t.x, t.y);
    out[first] = narrow<T>(y.x);
    out[second] = narrow<T>(y.y);
  }
}

// Reads the turns of `count` pairs of a row from `begin` on: NaN at a position that is not in the
// table. They are laid down `copies` times, one after the other. The position is read by one lane
// of each warp that has something to do; the first warp notes whether the row is on.
template <class T>
__device__ __forceinline__ void load_turns(const RopeTask<T>& task, int64_t row, int64_t begin,
                                           int count, unsigned copies, float* turns, bool* is_on) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = static_cast<int>(threadIdx.x); i - lane < 2 * count; i += kRopeThreads) {
    int32_t position = 0;
    if (lane == 0) position = task.position[row];
    position = __shfl_sync(kFullWarp, position, 0);
    if (i == 0) *is_on = position != kNoPosition;
    const bool is_known = position >= 0 && position < task.positions;
    if (i < 2 * count) {
      const float turn = is_known ? task.table[(position * task.pairs + begin) * 2 + i] : NAN;
      float* place = turns + turn_place<T>(i);
      for (unsigned copy = 0; copy < copies; ++copy, place += 4 * (count / kVector<T>)) {
        *place = turn;
      }
    }
  }
}

// One block per row, whose heads share the turns. `out` may be the input: a thread reads what it
// writes, and nothing else.
//
// Bytes: the rows once in and once out, as vectors where all is aligned; 8 per pair and row of the
// table, and 4 per 16 pairs for the position.
template <class T>
__global__ __launch_bounds__(kRopeThreads, kRopeBlocks<T>) void rope_kernel(RopeTask<T> task) {
  constexpr int kV = kVector<T>;
  __shared__ __align__(16) float turns[kTurnFloats<T>];
  __shared__ bool is_on;
  const int64_t row = blockIdx.x;
  const T* const in = task.in + row * task.in_stride;
  T* const out = task.out + row * task.out_stride;
  const bool vectors =
      is_vector_aligned(in) && is_vector_aligned(out) && task.dim % kV == 0 && task.pairs % kV == 0;
  for (int64_t begin = 0; begin < task.pairs; begin += kTurnPairs) {
    const int count = tile_count(begin, task.pairs, kTurnPairs);
    const auto read_turns = [&](unsigned copies) {
      if (begin > 0) __syncthreads();  // the turns before are still read
      load_turns(task, row, begin, count, copies, turns, &is_on);
      __syncthreads();
      return is_on;
    };
    if (vectors) {
      rotate_vectors(task, in, out, begin, count, turns, read_turns);
    } else {
      if (read_turns(1)) rotate_elements(task, in, out, begin, count, turns);
    }
  }
  if (!is_on) return;

  const int width = vectors ? kV : 1;
  const auto copied = static_cast<unsigned>((task.dim - 2 * task.pairs) / width);
  const unsigned items = static_cast<unsigned>(task.heads) * copied;
  for (unsigned item = threadIdx.x; item < items; item += kRopeThreads) {
    const int64_t head = item / copied;
    const int64_t place = (head + 1) * task.dim - (copied - item % copied) * width;
    if (vectors) {
      *reinterpret_cast<uint4*>(out + place) = *reinterpret_cast<const uint4*>(in + place);
    } else {
      out[place] = in[place];
    }
  }
}

}  // namespace exn::cuda
