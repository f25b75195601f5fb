// SPDX-License-Identifier: Apache-2.0
//
// prune_mask: which elements count least, of each row, of a tensor or of several; prune_apply: zeros
// where a mask says so.
//
// A score's key is a number of 31 bits that orders as it does. The k-th smallest is found digit by
// digit: 11 bits of all keys, then twice 10 of those that share what was found. Rows are a block's
// each. Elsewhere blocks add up their counts in global memory: integers, in any order the same.
// Equal keys at the cut are numbered tile by tile, so that the same ones are pruned as on the CPU.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

constexpr int kPruneItems = 16;  // elements of a thread
constexpr int kPruneTile = kTileThreads * kPruneItems;
constexpr int kPruneWarps = kTileThreads / kWarp;
constexpr int kPruneRowBlocks = 8;  // per SM: the compiler tries for more on some, and spills
constexpr int kPruneRounds = 3;
constexpr int kPruneDigits = 2048;

__host__ __device__ constexpr int prune_shift(int round) { return 20 - 10 * round; }

template <class T>
struct PruneTask {
  using Element = T;

  const T* weight;
  const float* norm;  // [cols], optional
  uint8_t* mask;
  int64_t rows;
  int64_t cols;
  int64_t stride;  // elements between rows
  int64_t mask_stride;
  int largest;  // the largest are pruned
  int first;    // what the mask holds is not looked at
};

__host__ __device__ constexpr int64_t prune_tiles_of_row(int64_t cols) {
  return (cols + kPruneTile - 1) / kPruneTile;
}

// How far the search for a key has come, in device memory; all 0 at first.
struct PruneSearch {
  unsigned prefix;  // of the key; in the end the key
  int wanted;       // of the keys with that prefix, those up to the one looked for
  int present;      // keys with that prefix
  int counts[kPruneRounds][kPruneDigits];
};

// What is pruned: keys below `key`, and of those equal to it the ones numbered begin ... end - 1.
struct PruneCut {
  unsigned key;
  int splits;  // equal keys are not pruned all
  int begin;
  int end;
};

__device__ __forceinline__ PruneCut cut_of(unsigned key, int wanted, int present, int largest) {
  const int taken = key == 0 ? present : wanted;  // key 0 is pruned already
  const int begin = largest ? present - taken : 0;
  return {key, taken < present, begin, begin + taken};
}

// ---- masks --------------------------------------------------------------------------------------

__device__ __forceinline__ bool is_word_aligned(const void* p) {
  return (reinterpret_cast<uintptr_t>(p) & 3u) == 0;
}

// A bit for each of N neighbouring elements that is kept. Those from `left` on have none.
template <int N>
__device__ __forceinline__ unsigned kept_bits(const uint8_t* mask, int left) {
  unsigned bits = 0;
  if (N % 4 == 0 && left >= N && is_word_aligned(mask)) {
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const unsigned word = reinterpret_cast<const unsigned*>(mask)[i];
#pragma unroll
      for (int k = 0; k < 4; ++k) bits |= ((word >> 8 * k & 0xffu) != 0 ? 1u : 0u) << (4 * i + k);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < left && mask[i] != 0) bits |= 1u << i;
    }
  }
  return bits;
}

// Writes 1 for each bit that is set, else 0.
template <int N>
__device__ __forceinline__ void store_kept(uint8_t* mask, int left, unsigned bits) {
  if (left >= N && is_word_aligned(mask)) {
#pragma unroll
    for (int i = 0; i < N / 4; ++i) {
      const unsigned four = bits >> 4 * i;
      reinterpret_cast<unsigned*>(mask)[i] =
          (four & 1u) | (four & 2u) << 7 | (four & 4u) << 14 | (four & 8u) << 21;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < left) mask[i] = static_cast<uint8_t>(bits >> i & 1u);
    }
  }
}

// ---- keys ---------------------------------------------------------------------------------------

constexpr unsigned kNoKey = 0xffffffffu;  // of no element

// Those of a tile of `count` elements, from (row, column) on. What is pruned first is smallest, what
// is pruned already 0.
template <class T>
__device__ __forceinline__ void load_keys(const PruneTask<T>& task, int64_t row, int64_t column,
                                          int count, unsigned (&keys)[kPruneItems]) {
  constexpr unsigned kInfinity = 0x7f800000u;
  constexpr int kV = kVector<T>;
  float scores[kPruneItems];
  load_tile(task.weight + row * task.stride + column, count, 0.0f, scores);
  const unsigned flip = task.largest ? 0xffffffffu : 0u;
  const unsigned more = task.largest ? kInfinity + 3 : 1u;
#pragma unroll
  for (int item = 0; item < kPruneItems; ++item) {
    const int place = tile_place<T>(item);
    if (task.norm != nullptr && place < count) scores[item] *= task.norm[column + place];
    const unsigned bits = __float_as_uint(scores[item]) & 0x7fffffffu;
    const unsigned ranked = bits > kInfinity ? kInfinity + 1 : bits;  // NaNs are alike
    keys[item] = place < count ? (ranked ^ flip) + more : kNoKey;
  }
  if (task.first) return;
  const uint8_t* const mask = task.mask + row * task.mask_stride + column;
#pragma unroll
  for (int item = 0; item < kPruneItems; item += kV) {
    const int place = tile_place<T>(item);
    const unsigned kept = kept_bits<kV>(mask + place, count - place);
#pragma unroll
    for (int i = 0; i < kV; ++i) {
      if (place + i < count && (kept >> i & 1u) == 0) keys[item + i] = 0;
    }
  }
}

// Counts the digits of a tile's keys that share the prefix, in shared memory.
template <class T>
__device__ __forceinline__ void count_tile(const PruneTask<T>& task, int64_t row, int64_t column,
                                           int round, unsigned prefix, int* counts) {
  unsigned keys[kPruneItems];
  load_keys(task, row, column, tile_count(column, task.cols, kPruneTile), keys);
  const int shift = prune_shift(round), above = prune_shift(round - 1);
#pragma unroll
  for (int item = 0; item < kPruneItems; ++item) {
    const unsigned key = keys[item];
    if (key == kNoKey) continue;
    if (round == 0) {
      atomicAdd(&counts[key >> shift], 1);
    } else if (key >> above == prefix) {
      atomicAdd(&counts[key >> shift & 1023u], 1);
    }
  }
}

// ---- the digit ----------------------------------------------------------------------------------

// The sum of what the threads before this one have, and that of all.
__device__ __forceinline__ int sum_before(int value, int* sums, int* total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int sum = value;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kFullWarp, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == kWarp - 1) sums[warp] = sum;
  __syncthreads();
  int before = sum - value;
  int all = 0;
#pragma unroll
  for (int i = 0; i < kPruneWarps; ++i) {
    if (i < warp) before += sums[i];
    all += sums[i];
  }
  __syncthreads();  // the next call writes `sums` again
  *total = all;
  return before;
}

struct PruneDigit {
  int digit;
  int wanted;
  int present;
};

// The digit of the `wanted`-th smallest key, for all threads.
__device__ __forceinline__ PruneDigit find_digit(const int* counts, int wanted, int* sums,
                                                 PruneDigit* found) {
  constexpr int kMine = kPruneDigits / kTileThreads;
  const int first = static_cast<int>(threadIdx.x) * kMine;
  int mine = 0;
#pragma unroll
  for (int i = 0; i < kMine; ++i) mine += counts[first + i];
  if (threadIdx.x == 0) *found = {0, 0, counts[0]};  // of none
  int all;
  int before = sum_before(mine, sums, &all);
  if (before < wanted && wanted <= before + mine) {
#pragma unroll 1
    for (int i = 0; i < kMine; ++i) {
      const int present = counts[first + i];
      if (wanted <= before + present) {
        *found = {first + i, wanted - before, present};
        break;
      }
      before += present;
    }
  }
  __syncthreads();
  return *found;
}

__device__ __forceinline__ unsigned with_digit(unsigned prefix, int round, int digit) {
  return round == 0 ? static_cast<unsigned>(digit) : prefix << 10 | static_cast<unsigned>(digit);
}

// ---- marks --------------------------------------------------------------------------------------

// A bit for each of a thread's elements that is kept. Where the cut splits equal keys, they are.
__device__ __forceinline__ unsigned kept_of(const unsigned (&keys)[kPruneItems],
                                            const PruneCut& cut) {
  const unsigned least = cut.splits ? cut.key : cut.key + 1;
  unsigned kept = 0;
#pragma unroll
  for (int item = kPruneItems - 1; item >= 0; --item)
    kept = kept << 1 | (keys[item] >= least ? 1u : 0u);
  return kept;
}

// Of those, the ones without the equal keys that the cut takes; `number` is that of a tile's first,
// and then of the one after its last.
template <class T>
__device__ __forceinline__ unsigned settled(const unsigned (&keys)[kPruneItems],
                                            const PruneCut& cut, unsigned kept, int* sums,
                                            int* number) {
  constexpr int kV = kVector<T>;
#pragma unroll
  for (int item = 0; item < kPruneItems; item += kV) {
    int mine = 0;
#pragma unroll
    for (int i = 0; i < kV; ++i) mine += keys[item + i] == cut.key ? 1 : 0;
    int all;
    int at = *number + sum_before(mine, sums, &all);
#pragma unroll
    for (int i = 0; i < kV; ++i) {
      if (keys[item + i] != cut.key) continue;
      if (at >= cut.begin && at < cut.end) kept &= ~(1u << (item + i));
      ++at;
    }
    *number += all;
  }
  return kept;
}

template <class T>
__device__ __forceinline__ void store_tile_mask(const PruneTask<T>& task, int64_t row,
                                                int64_t column, int count, unsigned kept) {
  constexpr int kV = kVector<T>;
  uint8_t* const mask = task.mask + row * task.mask_stride + column;
#pragma unroll
  for (int item = 0; item < kPruneItems; item += kV) {
    const int place = tile_place<T>(item);
    if (place < count) store_kept<kV>(mask + place, count - place, kept >> item);
  }
}

// ---- each row on its own ------------------------------------------------------------------------

// A block per row. Bytes: each weight once and three times more from the caches, and the mask as
// often unless `first`; 1 for each element.
template <class T>
__global__ __launch_bounds__(kTileThreads,
                             kPruneRowBlocks) void prune_rows_kernel(PruneTask<T> task,
                                                                     int wanted) {
  __shared__ int counts[kPruneDigits];
  __shared__ int sums[kPruneWarps];
  __shared__ PruneDigit found;
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    PruneDigit at = {0, wanted, 0};
    unsigned prefix = 0;
#pragma unroll 1
    for (int round = 0; round < kPruneRounds; ++round) {
      for (int i = static_cast<int>(threadIdx.x); i < kPruneDigits; i += kTileThreads)
        counts[i] = 0;
      __syncthreads();
#pragma unroll 1
      for (int64_t column = 0; column < task.cols; column += kPruneTile)
        count_tile(task, row, column, round, prefix, counts);
      __syncthreads();
      at = find_digit(counts, at.wanted, sums, &found);
      prefix = with_digit(prefix, round, at.digit);
    }
    const PruneCut cut = cut_of(prefix, at.wanted, at.present, task.largest);
    int number = 0;
#pragma unroll 1
    for (int64_t column = 0; column < task.cols; column += kPruneTile) {
      const int count = tile_count(column, task.cols, kPruneTile);
      unsigned keys[kPruneItems];
      load_keys(task, row, column, count, keys);
      unsigned kept = kept_of(keys, cut);
      if (cut.splits) kept = settled<T>(keys, cut, kept, sums, &number);
      store_tile_mask(task, row, column, count, kept);
    }
  }
}

// ---- tensors as a whole -------------------------------------------------------------------------

// Calls f(tile, row, column) for the block's tiles of a tensor.
template <class T, class F>
__device__ __forceinline__ void for_prune_tiles(const PruneTask<T>& task, F&& f) {
  const int64_t across = prune_tiles_of_row(task.cols);
#pragma unroll 1
  for (int64_t tile = blockIdx.x; tile < task.rows * across; tile += gridDim.x)
    f(tile, tile / across, tile % across * kPruneTile);
}

// A round's digits of one tensor. Bytes: each weight once, and its mask unless `first`; 4 for each
// different digit of a block.
template <class T>
__global__ __launch_bounds__(kTileThreads) void prune_count_kernel(PruneTask<T> task,
                                                                   PruneSearch* search, int round) {
  __shared__ int counts[kPruneDigits];
  for (int i = static_cast<int>(threadIdx.x); i < kPruneDigits; i += kTileThreads) counts[i] = 0;
  __syncthreads();
  const unsigned prefix = search->prefix;
  for_prune_tiles(task, [&](int64_t, int64_t row, int64_t column) {
    count_tile(task, row, column, round, prefix, counts);
  });
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kPruneDigits; i += kTileThreads) {
    if (counts[i] != 0) atomicAdd(&search->counts[round][i], counts[i]);
  }
}

// One block: the round's digit, of the `wanted`-th smallest key before the first one.
static __global__ __launch_bounds__(kTileThreads) void prune_digit_kernel(PruneSearch* search,
                                                                          int round, int wanted) {
  __shared__ int counts[kPruneDigits];
  __shared__ int sums[kPruneWarps];
  __shared__ PruneDigit found;
  for (int i = static_cast<int>(threadIdx.x); i < kPruneDigits; i += kTileThreads)
    counts[i] = search->counts[round][i];
  __syncthreads();
  const PruneDigit at = find_digit(counts, round == 0 ? wanted : search->wanted, sums, &found);
  __syncthreads();  // all have read search->wanted
  if (threadIdx.x != 0) return;
  search->prefix = with_digit(search->prefix, round, at.digit);
  search->wanted = at.wanted;
  search->present = at.present;
}

// The mask of one tensor, with equal keys kept where the cut splits them; how many of them each tile
// has. Bytes: each weight once, and its mask unless `first`; 1 for each element, 4 for each tile.
template <class T>
__global__ __launch_bounds__(kTileThreads) void prune_mark_kernel(PruneTask<T> task,
                                                                  const PruneSearch* search,
                                                                  int* equal) {
  __shared__ int sums[kPruneWarps];
  const PruneCut cut = cut_of(search->prefix, search->wanted, search->present, task.largest);
  for_prune_tiles(task, [&](int64_t tile, int64_t row, int64_t column) {
    const int count = tile_count(column, task.cols, kPruneTile);
    unsigned keys[kPruneItems];
    load_keys(task, row, column, count, keys);
    store_tile_mask(task, row, column, count, kept_of(keys, cut));
    if (!cut.splits) return;
    int mine = 0;
#pragma unroll
    for (int item = 0; item < kPruneItems; ++item) mine += keys[item] == cut.key ? 1 : 0;
    const int all = block_reduce<Sum, kPruneWarps>(mine, sums);
    if (threadIdx.x == 0) equal[tile] = all;
    __syncthreads();  // the next tile writes `sums` again
  });
}

// One block: how many equal keys there are before each tile, in place of how many it has.
static __global__ __launch_bounds__(kTileThreads) void prune_number_kernel(
    const PruneSearch* search, int largest, int* equal, int64_t tiles) {
  __shared__ int sums[kPruneWarps];
  if (!cut_of(search->prefix, search->wanted, search->present, largest).splits) return;
  int number = 0;
#pragma unroll 1
  for (int64_t first = 0; first < tiles; first += kPruneTile) {
    int* const mine = equal + first + threadIdx.x * kPruneItems;
    const int64_t left = tiles - first - threadIdx.x * kPruneItems;
    int held[kPruneItems];
    int sum = 0;
#pragma unroll
    for (int i = 0; i < kPruneItems; ++i) {
      held[i] = i < left ? mine[i] : 0;
      sum += held[i];
    }
    int all;
    int before = number + sum_before(sum, sums, &all);
#pragma unroll
    for (int i = 0; i < kPruneItems; ++i) {
      if (i < left) mine[i] = before;
      before += held[i];
    }
    number += all;
  }
}

// Prunes the equal keys that the cut takes; `numbers` are those of the tensor's tiles, and after
// them those of `later` more. Bytes: the weights and the masks of the tiles that have any; those
// masks.
template <class T>
__global__ __launch_bounds__(kTileThreads) void prune_settle_kernel(PruneTask<T> task,
                                                                    const PruneSearch* search,
                                                                    const int* numbers,
                                                                    int64_t later) {
  __shared__ int sums[kPruneWarps];
  const PruneCut cut = cut_of(search->prefix, search->wanted, search->present, task.largest);
  if (!cut.splits) return;
  const int64_t tiles = task.rows * prune_tiles_of_row(task.cols);
  task.first = 0;  // what the mask has pruned by now stays pruned, and has no key
  for_prune_tiles(task, [&](int64_t tile, int64_t row, int64_t column) {
    int number = numbers[tile];
    const int end = tile + 1 < tiles + later ? numbers[tile + 1] : search->present;
    if (number == end || number >= cut.end || end <= cut.begin) return;
    const int count = tile_count(column, task.cols, kPruneTile);
    unsigned keys[kPruneItems];
    load_keys(task, row, column, count, keys);
    const unsigned kept = settled<T>(keys, cut, kept_of(keys, cut), sums, &number);
    store_tile_mask(task, row, column, count, kept);
  });
}

// ---- zeros --------------------------------------------------------------------------------------

constexpr int kZeroVectors = 4;  // of 16 bytes, of a thread
template <int BYTES>
constexpr int kZeroTile = kTileThreads * kZeroVectors * (16 / BYTES);

struct PruneZeros {
  const uint8_t* mask;
  void* values;
  int64_t rows;
  int64_t cols;
  int64_t mask_stride;
  int64_t stride;
};

// The bits of word `word` of a vector whose elements have bits in `kept`.
template <int BYTES>
__device__ __forceinline__ unsigned kept_word(unsigned kept, int word) {
  if constexpr (BYTES == 2) {
    return ((kept >> 2 * word & 1u) != 0 ? 0xffffu : 0u) |
           ((kept >> (2 * word + 1) & 1u) != 0 ? 0xffff0000u : 0u);
  } else {
    return (kept >> word * 4 / BYTES & 1u) != 0 ? 0xffffffffu : 0u;
  }
}

// Zeros in a tensor of elements of BYTES bytes. Bytes: 1 for each element, and twice those of a
// vector of which some are pruned and some kept, once of one without any that is kept.
template <int BYTES>
__global__ __launch_bounds__(kTileThreads) void prune_apply_kernel(PruneZeros task) {
  constexpr int kV = 16 / BYTES;
  const int64_t across = (task.cols + kZeroTile<BYTES> - 1) / kZeroTile<BYTES>;
  for (int64_t tile = blockIdx.x; tile < task.rows * across; tile += gridDim.x) {
    const int64_t row = tile / across, column = tile % across * kZeroTile<BYTES>;
    const int count = tile_count(column, task.cols, kZeroTile<BYTES>);
    const uint8_t* const mask = task.mask + row * task.mask_stride + column;
    char* const values = static_cast<char*>(task.values) + (row * task.stride + column) * BYTES;
#pragma unroll
    for (int i = 0; i < kZeroVectors; ++i) {
      const int place = (i * kTileThreads + static_cast<int>(threadIdx.x)) * kV;
      const int left = count - place;
      if (left <= 0) continue;
      const unsigned kept = kept_bits<kV>(mask + place, left);
      if (kept == (1u << (left < kV ? left : kV)) - 1) continue;
      char* const at = values + place * BYTES;
      if (left >= kV && is_vector_aligned(at)) {
        uint4 raw = make_uint4(0, 0, 0, 0);
        if (kept != 0) {
          raw = *reinterpret_cast<const uint4*>(at);
          raw.x &= kept_word<BYTES>(kept, 0);
          raw.y &= kept_word<BYTES>(kept, 1);
          raw.z &= kept_word<BYTES>(kept, 2);
          raw.w &= kept_word<BYTES>(kept, 3);
        }
        store_vector(at, raw);
        continue;
      }
#pragma unroll
      for (int k = 0; k < kV; ++k) {
        if (k >= left || (kept >> k & 1u) != 0) continue;
        if constexpr (BYTES == 2) {
          reinterpret_cast<uint16_t*>(at)[k] = 0;
        } else if constexpr (BYTES == 4) {
          reinterpret_cast<unsigned*>(at)[k] = 0;
        } else {
          reinterpret_cast<unsigned long long*>(at)[k] = 0;
        }
      }
    }
  }
}

}  // namespace exn::cuda
