// SPDX-License-Identifier: Apache-2.0
//
// Which entries of a list are the first with their id. A block looks at a chunk of the list, and
// passes all that stands before through a hash table of the chunk: n / THREADS looks for each
// thread, where comparisons would take n of them.
#pragma once

#include "portable.cuh"

namespace exn::cuda {

// The ids of a chunk, each with the entry that has it first; in shared memory.
template <int ENTRIES>
struct FirstEntries {
  static constexpr int kSlots = 2 * ENTRIES;  // a power of two, at most half full
  static constexpr int32_t kFree = -1;
  static constexpr int32_t kBefore = -1;  // stands before the chunk

  int32_t id[kSlots];
  int32_t entry[kSlots];

  // Where probing for an id begins.
  static __device__ __forceinline__ unsigned home(int32_t id) {
    return static_cast<uint32_t>(id) * 0x9e3779b1u >> 16 & (kSlots - 1);
  }

  __device__ __forceinline__ void clear(int slot) {
    id[slot] = kFree;
    entry[slot] = ENTRIES;
  }

  // Several threads at a time; `added` is not negative.
  __device__ __forceinline__ void add(int32_t added, int32_t at) {
    unsigned slot = home(added);
    for (;; slot = (slot + 1) & (kSlots - 1)) {
      const int32_t held = atomicCAS(&id[slot], kFree, added);
      if (held == kFree || held == added) break;
    }
    atomicMin(&entry[slot], at);
  }

  // The slot of an id that is not negative, or a free one.
  __device__ __forceinline__ unsigned find(int32_t wanted) const {
    unsigned slot = home(wanted);
    while (id[slot] != wanted && id[slot] != kFree) slot = (slot + 1) & (kSlots - 1);
    return slot;
  }

  __device__ __forceinline__ void pass_by(int32_t seen) {
    if (seen < 0) return;
    const unsigned slot = find(seen);
    if (id[slot] == seen) atomicMin(&entry[slot], kBefore);
  }

  // Whether entry `at` of the chunk, whose id is not negative, is the first with it.
  __device__ __forceinline__ bool is_first(int32_t its_id, int32_t at) const {
    return entry[find(its_id)] == at;
  }
};

// Fills the table for entries [begin, begin + count) of a list, at most ENTRIES of them. All threads
// of the block come here, of which there are THREADS >= ENTRIES; what used the table before must be
// before a barrier. Negative ids are passed over.
template <int THREADS, int ENTRIES>
__device__ __forceinline__ void find_first_entries(const int32_t* ids, int64_t begin, int count,
                                                   FirstEntries<ENTRIES>& table) {
  static_assert(THREADS >= ENTRIES && (ENTRIES & (ENTRIES - 1)) == 0, "an entry for each thread");
  const int thread = static_cast<int>(threadIdx.x);
  for (int slot = thread; slot < FirstEntries<ENTRIES>::kSlots; slot += THREADS) table.clear(slot);
  __syncthreads();
  if (thread < count && ids[begin + thread] >= 0) table.add(ids[begin + thread], thread);
  __syncthreads();
  for (int64_t i = thread; i < begin; i += THREADS) table.pass_by(ids[i]);
  __syncthreads();
}

}  // namespace exn::cuda
