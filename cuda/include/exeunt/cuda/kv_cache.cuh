// SPDX-License-Identifier: Apache-2.0
//
// kv_append, kv_copy, kv_length: rows of K and V into their slots, slots to other slots, and the
// slots counted.
//
// Blocks of the first two are two-dimensional: x runs along the pieces of a head, y over heads.
#pragma once

#include <type_traits>

#include "elements.cuh"
#include "kv.cuh"

namespace exn::cuda {

constexpr int kKvThreads = 128;

// ---- kv_append ----------------------------------------------------------------------------------

template <class T, class S>
struct KvAppendTask {
  KvView<T> cache;
  const S* k;  // [rows, heads, dim]
  const S* v;
  int64_t k_stride;  // elements between rows
  int64_t v_stride;
  int64_t rows;
  int64_t heads;
  int64_t dim;
  const int32_t* sequence;  // [rows], optional
  const int32_t* slot;      // [rows]
  bool vectors;             // every piece is whole and aligned to 16 bytes on both sides
};

// Elements that a thread converts together: 16 bytes of the narrower type.
template <class T, class S>
constexpr int kAppendPiece = kVector<T> > kVector<S> ? kVector<T> : kVector<S>;

template <class T, class S>
__device__ __forceinline__ T converted(S x) {
  if constexpr (std::is_same<T, S>::value) {
    return x;  // also a NaN stays as it is
  } else {
    return narrow<T>(widen(x));
  }
}

// A piece on its way, as the source stores it.
template <class T, class S>
struct AppendVectors {
  static constexpr int kPiece = kAppendPiece<T, S>;
  uint4 raw[kPiece / kVector<S>];

  __device__ __forceinline__ explicit AppendVectors(const S* from) {
#pragma unroll
    for (int i = 0; i < kPiece / kVector<S>; ++i) raw[i] = reinterpret_cast<const uint4*>(from)[i];
  }
  __device__ __forceinline__ void store(T* to) const {
    if constexpr (std::is_same<T, S>::value) {
      store_vector(to, raw[0]);
    } else {
      float values[kPiece];
#pragma unroll
      for (int i = 0; i < kPiece / kVector<S>; ++i) unpack<S>(raw[i], values + i * kVector<S>);
#pragma unroll
      for (int i = 0; i < kPiece / kVector<T>; ++i) {
        store_vector(to + i * kVector<T>, pack<T>(values + i * kVector<T>));
      }
    }
  }
};

// Bytes: K and V of an active row read once and written once, 8 for its ids. A row that is off
// costs its ids alone.
template <class T, class S>
__global__ __launch_bounds__(kKvThreads, 8) void kv_append_kernel(KvAppendTask<T, S> task) {
  constexpr int kPiece = kAppendPiece<T, S>;
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    const int64_t slot = kv_offset(task.cache.at, sequence_of(task.sequence, row), task.slot[row]);
    if (slot == kNoSlot) continue;
    const S* const k = task.k + row * task.k_stride;
    const S* const v = task.v + row * task.v_stride;
    const int64_t first_head = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
    for (int64_t head = first_head; head < task.heads;
         head += static_cast<int64_t>(gridDim.y) * blockDim.y) {
      const int64_t to = slot + head * task.cache.at.head_stride;
      for (int64_t i = threadIdx.x * kPiece; i < task.dim;
           i += static_cast<int64_t>(blockDim.x) * kPiece) {
        const int64_t from = head * task.dim + i;
        if (task.vectors) {  // both are read before either is written
          const AppendVectors<T, S> k_piece(k + from);
          const AppendVectors<T, S> v_piece(v + from);
          k_piece.store(task.cache.k + to + i);
          v_piece.store(task.cache.v + to + i);
        } else {
          for (int64_t j = 0; j < kPiece && i + j < task.dim; ++j) {
            task.cache.k[to + i + j] = converted<T>(k[from + j]);
            task.cache.v[to + i + j] = converted<T>(v[from + j]);
          }
        }
      }
    }
  }
}

// ---- kv_copy: strides and offsets in words ------------------------------------------------------

template <class Word>
struct KvCopyTask {
  KvView<Word> source;
  KvView<Word> destination;
  int64_t count;
  int64_t heads;
  int64_t head_words;
  const int32_t* from_sequence;  // [count], optional
  const int32_t* from_slot;      // [count]
  const int32_t* to_sequence;    // [count], optional
  const int32_t* to_slot;        // [count]
};

// Where an entry comes from and goes to; both kNoSlot if it is off.
template <class Word>
__device__ __forceinline__ void find_entry(const KvCopyTask<Word>& task, int64_t entry,
                                           int64_t* from, int64_t* to) {
  *from = kv_offset(task.source.at, sequence_of(task.from_sequence, entry), task.from_slot[entry]);
  *to = kv_offset(task.destination.at, sequence_of(task.to_sequence, entry), task.to_slot[entry]);
  if (*from == kNoSlot || *to == kNoSlot) *from = *to = kNoSlot;
}

// From one cache to another: nothing that is written is read, so all entries move at once.
//
// Bytes: K and V of a slot read once and written once, 16 for the entry.
template <class Word>
__global__ __launch_bounds__(kKvThreads, 8) void kv_copy_kernel(KvCopyTask<Word> task) {
  for (int64_t entry = blockIdx.x; entry < task.count; entry += gridDim.x) {
    int64_t from, to;
    find_entry(task, entry, &from, &to);
    if (to == kNoSlot) continue;
    const int64_t first_head = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
    for (int64_t head = first_head; head < task.heads;
         head += static_cast<int64_t>(gridDim.y) * blockDim.y) {
      const int64_t read = from + head * task.source.at.head_stride;
      const int64_t written = to + head * task.destination.at.head_stride;
      for (int64_t i = threadIdx.x; i < task.head_words; i += blockDim.x) {
        const Word k = task.source.k[read + i];
        const Word v = task.source.v[read + i];
        task.destination.k[written + i] = k;
        task.destination.v[written + i] = v;
      }
    }
  }
}

constexpr int kOrderedThreads = 512;
constexpr int kOrderedEntries = 128;  // of a round, at most
constexpr int kOrderedWords = 4;      // of a thread in a round
constexpr int kOrderedWidth = 32;     // words of a head that a block takes, at most

// The first entry of a round that reads or writes a slot which an earlier one of the round writes.
// `*first` holds the number of entries, and is complete after the caller's next barrier.
__device__ __forceinline__ void find_dependence(const int64_t* from, const int64_t* to,
                                                int* first) {
  const int later = static_cast<int>(threadIdx.x) % kOrderedEntries;
  if (to[later] == kNoSlot) return;
  for (int i = static_cast<int>(threadIdx.x) / kOrderedEntries; i < later;
       i += kOrderedThreads / kOrderedEntries) {
    if (to[i] == from[later] || to[i] == to[later]) atomicMin(first, later);
  }
}

// Within one cache, as if one entry after another. A block owns up to 32 words of one head in every
// slot, of K or of V, so that no two blocks touch the same memory, and walks the list in rounds. A
// round reads everything it moves before it writes any of it, which is the same as one after
// another up to the first entry that depends on an earlier one of the round: there the next round
// begins. A compaction that moves slots down never depends; the worst list, each entry reading what
// the last one wrote, has rounds of one.
//
// Bytes: K and V of a slot read once and written once; 16 for the entry, from the caches for all
// blocks but the first. Grid: x words of a slot in groups, y K and V.
template <class Word>
__global__ __launch_bounds__(kOrderedThreads,
                             2) void kv_copy_ordered_kernel(KvCopyTask<Word> task) {
  __shared__ int64_t from[kOrderedEntries];
  __shared__ int64_t to[kOrderedEntries];
  __shared__ int independent;
  const Word* const source = blockIdx.y == 0 ? task.source.k : task.source.v;
  Word* const destination = blockIdx.y == 0 ? task.destination.k : task.destination.v;
  const int thread = static_cast<int>(threadIdx.x);
  const int width =
      task.head_words < kOrderedWidth ? static_cast<int>(task.head_words) : kOrderedWidth;
  const int side_by_side = kOrderedThreads / width;  // entries
  const int most = min(kOrderedEntries, side_by_side * kOrderedWords);
  const int mine = thread / width;
  const int64_t groups = (task.head_words + width - 1) / width;

  for (int64_t group = blockIdx.x; group < task.heads * groups; group += gridDim.x) {
    const int64_t word = group % groups * width + thread % width;
    const bool moves = word < task.head_words && mine < side_by_side;
    const Word* const read = source + group / groups * task.source.at.head_stride + word;
    Word* const written = destination + group / groups * task.destination.at.head_stride + word;
    for (int64_t begin = 0; begin < task.count;) {
      if (thread < kOrderedEntries) {
        from[thread] = to[thread] = kNoSlot;
        if (thread < most && begin + thread < task.count)
          find_entry(task, begin + thread, &from[thread], &to[thread]);
      }
      if (thread == 0) independent = most;
      __syncthreads();
      find_dependence(from, to, &independent);
      __syncthreads();
      const int end = independent;
      Word held[kOrderedWords];
#pragma unroll
      for (int i = 0; i < kOrderedWords; ++i) {
        const int entry = mine + i * side_by_side;
        const bool valid = moves && entry < end && to[entry] != kNoSlot;
        held[i] = valid ? read[from[entry]] : Word();
      }
      __syncthreads();  // all have read
#pragma unroll
      for (int i = 0; i < kOrderedWords; ++i) {
        const int entry = mine + i * side_by_side;
        if (moves && entry < end && to[entry] != kNoSlot) written[to[entry]] = held[i];
      }
      begin += end;
      __syncthreads();  // the next round reads what was written, and writes the lists again
    }
  }
}

// ---- kv_length ----------------------------------------------------------------------------------

struct KvAdvanceTask {
  int32_t* length;  // [lengths]
  int64_t lengths;
  int64_t rows;
  const int32_t* sequence;  // [rows], optional
  const uint8_t* active;    // [rows], optional
  int32_t* slot;            // [rows]
  int32_t* visible;         // [rows], optional
  int64_t capacity;
};

constexpr int kLengthThreads = 256;

// How many of the round's growing rows before this thread's belong to `sequence`, and whether one
// after it does.
__device__ __forceinline__ int count_before(const int32_t* growing, int32_t sequence, bool* later) {
  const int thread = static_cast<int>(threadIdx.x);
  int before = 0;
  for (int i = 0; i < kLengthThreads; i += 4) {
    const int4 four = *reinterpret_cast<const int4*>(growing + i);
    const bool same[4] = {four.x == sequence, four.y == sequence, four.z == sequence,
                          four.w == sequence};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      before += same[k] && i + k < thread;
      *later |= same[k] && i + k > thread;
    }
  }
  return before;
}

// EXN_KV_ADVANCE in one block, rows in ascending order: 256 at a time, each counting those before
// it.
//
// Bytes: about 13 per row, and 8 for each row's length.
static __global__ __launch_bounds__(kLengthThreads) void kv_advance_kernel(KvAdvanceTask task) {
  __shared__ __align__(16) int32_t growing[kLengthThreads];  // sequence of an active row, else -1
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t base = 0; base < task.rows; base += kLengthThreads) {
    const int64_t row = base + thread;
    const bool exists = row < task.rows;
    const int32_t sequence = exists ? sequence_of(task.sequence, row) : -1;
    const bool known = sequence >= 0 && sequence < task.lengths;
    const int64_t length = known ? task.length[sequence] : -1;
    const bool active = length >= 0 && (task.active == nullptr || task.active[row] != 0);
    growing[thread] = active ? sequence : -1;
    __syncthreads();
    bool later = false;
    const int before = length >= 0 ? count_before(growing, sequence, &later) : 0;
    // What the rows before it have made of the length: a full sequence does not grow.
    const int64_t now = length >= task.capacity ? length : min(length + before, task.capacity);
    const bool grows = active && now < task.capacity;
    const bool full = active && !grows;
    if (exists) {
      task.slot[row] = grows ? static_cast<int32_t>(now) : -1;
      if (task.visible != nullptr)
        task.visible[row] = full || length < 0 ? 0 : static_cast<int32_t>(now) + grows;
    }
    if (active && !later) task.length[sequence] = static_cast<int32_t>(now) + grows;
    __syncthreads();  // the next round reads the lengths and writes `growing` again
  }
}

// EXN_KV_CROP. Bytes: 12 per length.
static __global__ __launch_bounds__(kLengthThreads) void kv_crop_kernel(int32_t* length,
                                                                        int64_t lengths,
                                                                        const int32_t* limit,
                                                                        bool one_limit) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kLengthThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kLengthThreads + threadIdx.x; i < lengths;
       i += step) {
    length[i] = min(length[i], limit[one_limit ? 0 : i]);
  }
}

}  // namespace exn::cuda
