// SPDX-License-Identifier: Apache-2.0
//
// gather: the listed entries of several tensors at once, and their positions.
//
// Nothing may move if the list is wrong anywhere. A short list is looked through by every block
// that moves, which takes less time than another launch; a long one, and one that must ascend, by
// gather_check_kernel first.
#pragma once

#include <cstdint>

#include "reduce.cuh"
#include "words.cuh"

namespace exn::cuda {

constexpr int kMostGathered = 9;  // eight tensors and the positions

// [outer, entries, words], in words of `word` bytes: the widest that suits this tensor.
struct GatherTensor {
  const char* input;
  char* out;
  int64_t outer;
  int64_t words;               // of an entry
  int64_t input_outer_stride;  // in words, as all here
  int64_t input_stride;        // between entries
  int64_t out_outer_stride;
  int64_t out_stride;
  int32_t word;   // bytes: 1, 2, 4, 8 or 16
  int32_t slice;  // in place: words that a block owns of every entry
};

struct GatherList {
  const int32_t* entries;  // [listed]
  int64_t listed;
  const int32_t* count;  // [1], optional: how many are used
  int64_t rows;          // that entries may name
  bool ascends;          // it must, with negative entries after all others
};

constexpr int kGatherThreads = 256;
constexpr int kGatherWarps = kGatherThreads / kWarp;
constexpr int kGatherBlocks = 3;  // resident on an SM
constexpr int kGatherWords = 4;   // of a thread, in flight together
constexpr int kGatherChunk = kGatherThreads * kGatherWords;

constexpr int kMostChecks = kGatherThreads;  // parts of a list, a verdict each

struct GatherTask {
  GatherTensor tensors[kMostGathered];
  int32_t tensor_count;
  GatherList list;
  const int32_t* verdicts;  // [checks]
  int32_t checks;           // 0: each block looks through the list itself
  int32_t* moved;           // optional
  int32_t* position_out;    // optional: those that no tensor of positions is read for
  int32_t first_position;
  bool renumbers;  // first_position + i, else the entry itself
};

// Entries of the list that are used; -1 for a count out of range.
__device__ __forceinline__ int64_t used_entries(const GatherList& list) {
  if (list.count == nullptr) return list.listed;
  const int64_t count = *list.count;
  return count >= 0 && count <= list.listed ? count : -1;
}

// How many of the entries [begin, end) that fall to this thread move; -1 if one is wrong.
__device__ __forceinline__ int32_t inspect_entries(const GatherList& list, int64_t begin,
                                                   int64_t end) {
  int32_t moving = 0;
  bool wrong = false;
  for (int64_t i = begin + threadIdx.x; i < end; i += kGatherThreads) {
    const int32_t row = list.entries[i];
    if (row < 0) continue;
    ++moving;
    wrong |= row >= list.rows;
    if (list.ascends && i > 0) {
      const int32_t before = list.entries[i - 1];
      wrong |= before < 0 || before >= row;
    }
  }
  return wrong ? -1 : moving;
}

// A chunk of the list per block. Its verdict: how many entries move, or -1.
//
// Bytes: 4 per entry that is used; where the list must ascend, each is read twice, the second time
// from the caches.
static __global__ __launch_bounds__(kGatherThreads) void gather_check_kernel(GatherList list,
                                                                             int64_t piece,
                                                                             int32_t* verdicts) {
  __shared__ int32_t scratch[kGatherWarps];
  const int64_t used = used_entries(list);
  const int64_t begin = blockIdx.x * piece;
  const int64_t end = begin + piece < used ? begin + piece : used;
  const int32_t moving = used < 0 ? -1 : inspect_entries(list, begin, end);
  const bool wrong = __syncthreads_or(moving < 0);
  const int32_t total = block_reduce<Sum, kGatherWarps>(moving, scratch);
  if (threadIdx.x == 0) verdicts[blockIdx.x] = wrong ? -1 : total;
}

// Whether anything may move; the same for all threads of all blocks. The first block says how many
// entries do.
template <int THREADS>
__device__ __forceinline__ bool may_move(const GatherTask& task, int64_t used, int32_t* scratch) {
  const int thread = static_cast<int>(threadIdx.x);
  int32_t moving = 0;
  if (used < 0) {
    moving = -1;
  } else if (task.checks == 0) {
    moving = inspect_entries(task.list, 0, used);
  } else if (thread < task.checks) {
    moving = task.verdicts[thread];
  }
  const bool wrong = __syncthreads_or(moving < 0);
  if (blockIdx.x == 0 && task.moved != nullptr) {
    const int32_t total = block_reduce<Sum, THREADS / kWarp>(moving, scratch);
    if (thread == 0) *task.moved = wrong ? -1 : total;
  }
  return !wrong;
}

// ---- to other memory ----------------------------------------------------------------------------

// Words base ... base + kGatherChunk - 1 of what one `outer` of the tensor keeps, seen flat.
template <class Word>
__device__ __forceinline__ void move_chunk(const GatherTensor& tensor, const int32_t* list,
                                           int64_t used, int64_t outer, int64_t base) {
  const int64_t first = base / tensor.words;  // entry
  const int64_t rest = base - first * tensor.words;
  const int64_t place = rest + static_cast<int>(threadIdx.x);
  int entry[kGatherWords];  // from the first on
  int32_t row[kGatherWords];
#pragma unroll
  for (int i = 0; i < kGatherWords; ++i) {
    const int64_t at = place + i * kGatherThreads;
    if (tensor.words >= kGatherChunk) {  // at most one entry ends within a chunk
      entry[i] = at >= tensor.words;
    } else {  // unsigned: one 32-bit division
      entry[i] = static_cast<int>(static_cast<unsigned>(at) / static_cast<unsigned>(tensor.words));
    }
    row[i] = first + entry[i] < used ? list[first + entry[i]] : -1;
  }
  const Word* const from =
      reinterpret_cast<const Word*>(tensor.input) + outer * tensor.input_outer_stride + place;
  Word held[kGatherWords];
#pragma unroll
  for (int i = 0; i < kGatherWords; ++i) {
    const int64_t word = i * kGatherThreads - entry[i] * tensor.words;  // from `place` on
    held[i] = row[i] >= 0 ? from[row[i] * tensor.input_stride + word] : Word();
  }
  Word* const to = reinterpret_cast<Word*>(tensor.out) + outer * tensor.out_outer_stride +
                   first * tensor.out_stride + place;
#pragma unroll
  for (int i = 0; i < kGatherWords; ++i) {
    const int64_t word = i * kGatherThreads - entry[i] * tensor.words;
    if (row[i] >= 0) to[entry[i] * tensor.out_stride + word] = held[i];
  }
}

// Positions that are made rather than moved. Bytes: 4 per entry, 4 for the list.
__device__ __forceinline__ void make_positions(const GatherTask& task, int64_t used,
                                               int64_t chunk) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kGatherThreads;
  for (int64_t i = chunk * kGatherThreads + threadIdx.x; i < used; i += step) {
    const int32_t row = task.list.entries[i];
    if (row < 0) continue;
    task.position_out[i] = task.renumbers ? task.first_position + static_cast<int32_t>(i) : row;
  }
}

// All tensors in one launch: their chunks in turn, dealt out to the blocks. Neighbouring threads
// move neighbouring words, and go on with the next entry where one ends.
//
// Bytes: 2 * those of an entry, per entry and tensor, and 4 for the entry; what else is read of the
// list comes from the caches.
static __global__ __launch_bounds__(kGatherThreads, kGatherBlocks) void gather_kernel(
    const __grid_constant__ GatherTask task) {
  __shared__ int32_t scratch[kGatherWarps];
  const int64_t used = used_entries(task.list);
  if (!may_move<kGatherThreads>(task, used, scratch)) return;
  const int32_t* const list = task.list.entries;
  int64_t chunk = blockIdx.x;
  for (int i = 0; i < task.tensor_count; ++i) {
    const GatherTensor& tensor = task.tensors[i];
    const int64_t chunks = (used * tensor.words + kGatherChunk - 1) / kGatherChunk;
    for (; chunk < chunks * tensor.outer; chunk += gridDim.x) {
      const int64_t outer = chunk / chunks;
      const int64_t base = (chunk - outer * chunks) * kGatherChunk;
      switch (tensor.word) {
        case 16:
          move_chunk<uint4>(tensor, list, used, outer, base);
          break;
        case 8:
          move_chunk<uint2>(tensor, list, used, outer, base);
          break;
        case 4:
          move_chunk<uint32_t>(tensor, list, used, outer, base);
          break;
        case 2:
          move_chunk<uint16_t>(tensor, list, used, outer, base);
          break;
        default:
          move_chunk<uint8_t>(tensor, list, used, outer, base);
      }
    }
    chunk -= chunks * tensor.outer;
  }
  if (task.position_out != nullptr) make_positions(task, used, chunk);
}

// ---- within the same memory ---------------------------------------------------------------------

constexpr int kInPlaceThreads = 512;
constexpr int kInPlaceWords = 4;  // of a thread in a round

// The words [first, first + slice) of every entry, which no other block touches. An entry never
// comes from below where it goes, so a round has to read what it moves before it writes any of it,
// and what later rounds read it does not write.
template <class Word>
__device__ __forceinline__ void move_slice(const GatherTensor& tensor, const int32_t* list,
                                           int64_t used, int64_t outer, int64_t first) {
  const int thread = static_cast<int>(threadIdx.x);
  const int side_by_side = kInPlaceThreads / tensor.slice;  // entries
  const int mine = thread / tensor.slice;
  const int64_t word = first + thread % tensor.slice;
  const bool moves = word < tensor.words && mine < side_by_side;
  Word* const data = reinterpret_cast<Word*>(tensor.out) + outer * tensor.out_outer_stride + word;
  for (int64_t begin = 0; begin < used; begin += side_by_side * kInPlaceWords) {
    int32_t row[kInPlaceWords];
#pragma unroll
    for (int i = 0; i < kInPlaceWords; ++i) {
      const int64_t entry = begin + i * side_by_side + mine;
      row[i] = moves && entry < used ? list[entry] : -1;
      if (row[i] == entry) row[i] = -1;  // is where it belongs
    }
    Word held[kInPlaceWords];
#pragma unroll
    for (int i = 0; i < kInPlaceWords; ++i) {
      held[i] = row[i] >= 0 ? data[row[i] * tensor.out_stride] : Word();
    }
    __syncthreads();  // all have read
#pragma unroll
    for (int i = 0; i < kInPlaceWords; ++i) {
      const int64_t entry = begin + i * side_by_side + mine;
      if (row[i] >= 0) data[entry * tensor.out_stride] = held[i];
    }
  }
}

// A block walks the list for the columns that it owns; all tensors in one launch.
//
// Bytes: 2 * those of an entry that changes its place, per entry and tensor; 4 for the entry, from
// the caches for all blocks but the first.
static __global__ __launch_bounds__(kInPlaceThreads, 2) void gather_in_place_kernel(
    const __grid_constant__ GatherTask task) {
  __shared__ int32_t scratch[kInPlaceThreads / kWarp];
  const int64_t used = used_entries(task.list);
  if (!may_move<kInPlaceThreads>(task, used, scratch)) return;
  const int32_t* const list = task.list.entries;
  int64_t slice = blockIdx.x;
  for (int i = 0; i < task.tensor_count; ++i) {
    const GatherTensor& tensor = task.tensors[i];
    const int64_t slices = (tensor.words + tensor.slice - 1) / tensor.slice;
    for (; slice < slices * tensor.outer; slice += gridDim.x) {
      const int64_t outer = slice / slices;
      const int64_t first = (slice - outer * slices) * tensor.slice;
      switch (tensor.word) {
        case 16:
          move_slice<uint4>(tensor, list, used, outer, first);
          break;
        case 8:
          move_slice<uint2>(tensor, list, used, outer, first);
          break;
        case 4:
          move_slice<uint32_t>(tensor, list, used, outer, first);
          break;
        case 2:
          move_slice<uint16_t>(tensor, list, used, outer, first);
          break;
        default:
          move_slice<uint8_t>(tensor, list, used, outer, first);
      }
    }
    slice -= slices * tensor.outer;
  }
}

}  // namespace exn::cuda
