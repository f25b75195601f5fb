// SPDX-License-Identifier: Apache-2.0
//
// The device's view of a described KV cache: where a slot of a sequence lies, for every layout.
//
// A kernel cannot refuse an argument that lies in device memory: a sequence, a slot or a page out
// of range gives kNoSlot, and the caller switches that row off.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

// Strides in elements. Slot t of sequence s lies in unit s at t or, where there are pages, in unit
// blocks[s, t / page] at t % page.
struct KvLayout {
  int32_t sequences;
  int32_t slots;        // T, capacity of a sequence
  int64_t unit_stride;  // between sequences, or between pages
  int64_t head_stride;
  int64_t slot_stride;
  const int32_t* blocks;  // [sequences, block_count]; null: no pages
  int64_t block_count;
  int64_t pages;
  int32_t page;  // slots of a page
};

// K and V of one layer, elements of type T.
template <class T>
struct KvView {
  T* k;
  T* v;
  KvLayout at;
};

constexpr int64_t kNoSlot = -1;

__device__ __forceinline__ bool in_range(int32_t index, int32_t size) {
  return index >= 0 && index < size;
}

// Rows without a list of sequences belong to sequence 0.
__device__ __forceinline__ int32_t sequence_of(const int32_t* sequence, int64_t row) {
  return sequence != nullptr ? sequence[row] : 0;
}

// Elements from the start of K (and of V) to head 0 of a slot, or kNoSlot. Head h is h *
// head_stride further on.
__device__ __forceinline__ int64_t kv_offset(const KvLayout& at, int32_t sequence, int32_t slot) {
  if (!in_range(sequence, at.sequences) || !in_range(slot, at.slots)) return kNoSlot;
  if (at.blocks == nullptr) return sequence * at.unit_stride + slot * at.slot_stride;
  // Unsigned: one 32-bit division.
  const unsigned block = static_cast<unsigned>(slot) / static_cast<unsigned>(at.page);
  const int32_t place = slot - static_cast<int32_t>(block) * at.page;
  const int32_t unit = at.blocks[sequence * at.block_count + block];
  if (unit < 0 || unit >= at.pages) return kNoSlot;
  return unit * at.unit_stride + place * at.slot_stride;
}

}  // namespace exn::cuda
