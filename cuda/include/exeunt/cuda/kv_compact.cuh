// SPDX-License-Identifier: Apache-2.0
//
// kv_compact: the slots that are kept, moved to the front of their sequences. Kernels in order:
// kv_compact_check_kernel, then kv_compact_kernel or, within one cache, kv_compact_in_place_kernel.
#pragma once

#include <cstdint>

#include "kv.cuh"
#include "reduce.cuh"

namespace exn::cuda {

// The arguments that decide what goes where. B sequences; list g is of sequence g / per_sequence.
struct KvCompactPlan {
  KvLayout source;
  KvLayout destination;
  const int32_t* list;
  const int32_t* offsets;  // [lists + 1]; null: padded lists, `stride` apart
  const int32_t* count;    // [lists]
  int64_t list_size;
  int64_t stride;
  const int32_t* sequence;  // [sequences]; null: b
  const int32_t* length;    // [sequences]; null: all slots
  int64_t sequences;
  int64_t lists;
  int64_t per_sequence;  // lists of a sequence
  bool in_place;
  const int32_t* verdicts;  // workspace, [lists]: entries, or -1 where something is wrong
};

struct KvList {
  const int32_t* entries;
  int32_t size;  // -1: offsets or a count that cannot be
};

__device__ __forceinline__ KvList list_of(const KvCompactPlan& plan, int64_t g) {
  int64_t begin, end, most;
  if (plan.offsets != nullptr) {
    begin = plan.offsets[g];
    end = plan.offsets[g + 1];
    most = plan.list_size;
  } else {
    begin = g * plan.stride;
    end = begin + plan.count[g];
    most = begin + plan.stride;
  }
  const bool fits =
      begin >= 0 && end >= begin && end <= most && end - begin <= plan.destination.slots;
  if (!fits) return {plan.list, -1};
  return {plan.list + begin, static_cast<int32_t>(end - begin)};
}

__device__ __forceinline__ int32_t compacted_sequence(const KvCompactPlan& plan, int64_t b) {
  return plan.sequence != nullptr ? plan.sequence[b] : static_cast<int32_t>(b);
}

__device__ __forceinline__ int32_t old_length(const KvCompactPlan& plan, int64_t b) {
  return plan.length != nullptr ? plan.length[b] : plan.source.slots;
}

// ---- what a run must refuse ---------------------------------------------------------------------

constexpr int kKvCheckThreads = 256;

// Whether this thread sees that sequence b is out of range or was named before.
__device__ __forceinline__ bool is_wrong_sequence(const KvCompactPlan& plan, int64_t b) {
  const int32_t sequence = compacted_sequence(plan, b);
  bool wrong = !in_range(sequence, plan.source.sequences);
  if (plan.sequence == nullptr) return wrong;
  for (int64_t i = threadIdx.x; i < b; i += kKvCheckThreads) {
    wrong |= plan.sequence[i] == sequence;
  }
  return wrong;
}

// Whether this thread sees an entry that names no slot, has no place to go, or is not above the one
// before where it must be.
__device__ __forceinline__ bool is_wrong_list(const KvCompactPlan& plan, int64_t b,
                                              const KvList& list) {
  const int32_t sequence = compacted_sequence(plan, b);
  const int32_t length = old_length(plan, b);
  bool wrong = length < 0 || length > plan.source.slots;
  for (int32_t i = threadIdx.x; i < list.size; i += kKvCheckThreads) {
    const int32_t slot = list.entries[i];
    wrong |= slot >= length || kv_offset(plan.source, sequence, slot) == kNoSlot ||
             kv_offset(plan.destination, sequence, i) == kNoSlot;
    if (plan.in_place && i > 0) wrong |= list.entries[i - 1] >= slot;
  }
  return wrong;
}

__device__ __forceinline__ int32_t blocks_of(const KvLayout& at, int32_t slots) {
  return slots <= 0 ? 0 : (slots - 1) / at.page + 1;
}

// Takes a page for a block of a sequence. Whether it does not exist or another block has it; how
// often the same block takes it does not matter.
__device__ __forceinline__ bool is_wrong_page(const KvLayout& at, int32_t sequence, int32_t block,
                                              unsigned long long* owners) {
  const int64_t place = sequence * at.block_count + block;
  const int32_t page = at.blocks[place];
  if (page < 0 || page >= at.pages) return true;
  const auto mine = static_cast<unsigned long long>(place) + 1;
  const unsigned long long owner = atomicCAS(&owners[page], 0ull, mine);
  return owner != 0 && owner != mine;
}

// Pages of the destination that a list writes, and in place those of the slots that it names.
__device__ __forceinline__ bool has_wrong_page(const KvCompactPlan& plan, int32_t sequence,
                                               const KvList& list, unsigned long long* owners) {
  const KvLayout& at = plan.destination;
  bool wrong = false;
  for (int32_t block = threadIdx.x; block < blocks_of(at, list.size); block += kKvCheckThreads) {
    wrong |= is_wrong_page(at, sequence, block, owners);
  }
  if (!plan.in_place) return wrong;
  for (int32_t i = threadIdx.x; i < list.size; i += kKvCheckThreads) {
    const int32_t slot = list.entries[i];
    if (in_range(slot, at.slots)) wrong |= is_wrong_page(at, sequence, slot / at.page, owners);
  }
  return wrong;
}

// In place all that a sequence holds is compacted, whether a list names it or not.
__device__ __forceinline__ bool has_wrong_page(const KvCompactPlan& plan, int32_t sequence,
                                               int32_t length, unsigned long long* owners) {
  const int32_t blocks = blocks_of(plan.source, min(length, plan.source.slots));
  bool wrong = false;
  for (int32_t block = threadIdx.x; block < blocks; block += kKvCheckThreads) {
    wrong |= is_wrong_page(plan.source, sequence, block, owners);
  }
  return wrong;
}

// A list per block; the first of a sequence looks at the sequence too. `owners`: of every page of
// the destination, all 0; null without pages.
//
// Bytes: 4 per entry of the lists; where there are pages also their tables and 8 for each page.
static __global__ __launch_bounds__(kKvCheckThreads) void kv_compact_check_kernel(
    const __grid_constant__ KvCompactPlan plan, int32_t* verdicts, unsigned long long* owners) {
  for (int64_t g = blockIdx.x; g < plan.lists; g += gridDim.x) {
    const int64_t b = g / plan.per_sequence;
    const bool first = g % plan.per_sequence == 0;
    const KvList list = list_of(plan, g);
    const int32_t sequence = compacted_sequence(plan, b);
    bool wrong = list.size < 0 || is_wrong_list(plan, b, list);
    if (first) wrong |= is_wrong_sequence(plan, b);
    if (owners != nullptr && in_range(sequence, plan.source.sequences)) {
      wrong |= has_wrong_page(plan, sequence, list, owners);
      if (first && plan.in_place && plan.length != nullptr) {
        wrong |= has_wrong_page(plan, sequence, plan.length[b], owners);
      }
    }
    wrong = __syncthreads_or(wrong);
    if (threadIdx.x == 0) verdicts[g] = wrong ? -1 : list.size;
  }
}

// ---- what a run says ----------------------------------------------------------------------------

struct KvCompactReport {
  int32_t* new_length;     // [lists], optional
  int32_t* freed;          // [capacity], optional
  int32_t* freed_count;    // optional
  int64_t freed_capacity;  // F
};

// Whether some list is wrong; the same for all threads.
__device__ __forceinline__ bool is_refused(const KvCompactPlan& plan) {
  bool wrong = false;
  for (int64_t g = threadIdx.x; g < plan.lists; g += blockDim.x) wrong |= plan.verdicts[g] < 0;
  return __syncthreads_or(wrong);
}

// The blocks of a sequence that are no longer needed; the same for all lanes of the warp that
// asks.
struct FreedBlocks {
  const int32_t* pages;
  int32_t count;
};

__device__ __forceinline__ FreedBlocks blocks_freed(const KvCompactPlan& plan, int64_t b) {
  int32_t longest = 0;
  for (int64_t i = threadIdx.x % kWarp; i < plan.per_sequence; i += kWarp) {
    longest = max(longest, plan.verdicts[b * plan.per_sequence + i]);
  }
  const int32_t first = blocks_of(plan.source, warp_reduce<Max>(longest));
  const int32_t* const table =
      plan.source.blocks + compacted_sequence(plan, b) * plan.source.block_count;
  return {table + first, max(0, blocks_of(plan.source, old_length(plan, b)) - first)};
}

// Writes the pages that are returned, a warp for each sequence, and counts them. `counts` holds a
// value per warp.
template <int WARPS>
__device__ __forceinline__ int64_t return_pages(const KvCompactPlan& plan,
                                                const KvCompactReport& report, int32_t* counts) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int64_t returned = 0;
  for (int64_t base = 0; base < plan.sequences; base += WARPS) {
    FreedBlocks mine = {nullptr, 0};
    if (base + warp < plan.sequences) mine = blocks_freed(plan, base + warp);
    if (lane == 0) counts[warp] = mine.count;
    __syncthreads();
    int64_t place = returned;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) {
      if (i < warp) place += counts[i];
      returned += counts[i];
    }
    for (int32_t i = lane; i < mine.count && place + i < report.freed_capacity; i += kWarp) {
      report.freed[place + i] = mine.pages[i];
    }
    __syncthreads();  // the next round writes `counts` again
  }
  return returned;
}

// By one block, while the others move.
template <int THREADS>
__device__ __forceinline__ void report_to(const KvCompactReport& report, const KvCompactPlan& plan,
                                          bool refused, int32_t* scratch) {
  if (report.new_length != nullptr) {
    for (int64_t g = threadIdx.x; g < plan.lists; g += THREADS) {
      report.new_length[g] = refused ? -1 : plan.verdicts[g];
    }
  }
  if (report.freed == nullptr) return;
  const int64_t returned = refused ? 0 : return_pages<THREADS / kWarp>(plan, report, scratch);
  for (int64_t i = returned + threadIdx.x; i < report.freed_capacity; i += THREADS) {
    report.freed[i] = -1;
  }
  if (report.freed_count != nullptr && threadIdx.x == 0) {
    *report.freed_count = static_cast<int32_t>(returned);
  }
}

// ---- from one cache to another: strides and offsets in words ------------------------------------

template <class Word>
struct KvCompactTask {
  Word* source[2];  // K, V
  Word* destination[2];
  KvCompactPlan plan;
  KvCompactReport report;
  int64_t heads;  // of the destination
  int64_t group;  // heads of the destination per head of the source
  int64_t head_words;
  int64_t pieces;  // chunks that the longest list possible would take
  int32_t slice;   // in place: words of a head that a block owns
};

constexpr int kCompactThreads = 256;
constexpr int kCompactBlocks = 4;  // resident on an SM
constexpr int kCompactWords = 2;   // of K and of V, of a thread, in flight together
constexpr int kCompactChunk = kCompactThreads * kCompactWords;

// A chunk of the kept slots of one head, seen flat: neighbouring threads move neighbouring words.
template <class Word>
__device__ __forceinline__ void compact_chunk(const KvCompactTask<Word>& task, int64_t b,
                                              int64_t head, const KvList& list, int64_t base) {
  const KvLayout& from = task.plan.source;
  const KvLayout& to = task.plan.destination;
  const int32_t sequence = compacted_sequence(task.plan, b);
  const int64_t first = base / task.head_words;  // entry
  const unsigned rest = static_cast<unsigned>(base - first * task.head_words);
  const unsigned words = static_cast<unsigned>(task.head_words);
  int64_t read[kCompactWords], written[kCompactWords];
#pragma unroll
  for (int i = 0; i < kCompactWords; ++i) {
    const unsigned at = rest + static_cast<unsigned>(i * kCompactThreads) + threadIdx.x;
    const int64_t entry = first + at / words;
    written[i] = kNoSlot;
    if (entry >= list.size) continue;
    const int64_t word = at % words;
    read[i] = kv_offset(from, sequence, list.entries[entry]) +
              head / task.group * from.head_stride + word;
    written[i] =
        kv_offset(to, sequence, static_cast<int32_t>(entry)) + head * to.head_stride + word;
  }
  Word held[2][kCompactWords];
#pragma unroll
  for (int i = 0; i < kCompactWords; ++i) {
#pragma unroll
    for (int kind = 0; kind < 2; ++kind) {
      held[kind][i] = written[i] >= 0 ? task.source[kind][read[i]] : Word();
    }
  }
#pragma unroll
  for (int i = 0; i < kCompactWords; ++i) {
#pragma unroll
    for (int kind = 0; kind < 2; ++kind) {
      if (written[i] >= 0) task.destination[kind][written[i]] = held[kind][i];
    }
  }
}

// Bytes: 4 * dh elements per entry and head, 4 per entry; what else is read of lists and tables
// comes from the caches. Grid: one block that reports, the others take chunks of heads in turn.
template <class Word>
__global__ __launch_bounds__(kCompactThreads, kCompactBlocks) void kv_compact_kernel(
    const __grid_constant__ KvCompactTask<Word> task) {
  __shared__ int32_t scratch[kCompactThreads / kWarp];
  const bool refused = is_refused(task.plan);
  if (blockIdx.x == 0) {
    report_to<kCompactThreads>(task.report, task.plan, refused, scratch);
    return;
  }
  if (refused) return;
  const int64_t chunks = task.plan.sequences * task.heads * task.pieces;
  for (int64_t chunk = blockIdx.x - 1; chunk < chunks; chunk += gridDim.x - 1) {
    const int64_t whose = chunk / task.pieces;
    const int64_t b = whose / task.heads;
    const KvList list = list_of(task.plan, task.plan.per_sequence == 1 ? b : whose);
    const int64_t base = (chunk - whose * task.pieces) * kCompactChunk;
    if (base >= list.size * task.head_words) continue;
    compact_chunk(task, b, whose - b * task.heads, list, base);
  }
}

// ---- within one cache ---------------------------------------------------------------------------

constexpr int kCompactInPlaceThreads = 512;
constexpr int kCompactInPlaceWords = 4;  // of a thread in a round

// The words of one block: `source` and `destination` point at them in slot 0 of the head. A slot
// never comes from below where it goes, so a round has to read what it moves before it writes any
// of it, and what later rounds read it does not write.
template <class Word>
__device__ __forceinline__ void compact_slice(const KvLayout& at, int32_t sequence,
                                              const KvList& list, int32_t slice, int32_t width,
                                              const Word* source, Word* destination) {
  const int thread = static_cast<int>(threadIdx.x);
  const int side_by_side = kCompactInPlaceThreads / slice;  // entries
  const int mine = thread / slice;
  const int word = thread % slice;
  const bool moves = word < width && mine < side_by_side;
  for (int64_t begin = 0; begin < list.size; begin += side_by_side * kCompactInPlaceWords) {
    Word held[kCompactInPlaceWords];
    bool holds[kCompactInPlaceWords];
#pragma unroll
    for (int i = 0; i < kCompactInPlaceWords; ++i) {
      const int64_t entry = begin + i * side_by_side + mine;
      const int32_t slot = moves && entry < list.size ? list.entries[entry] : -1;
      holds[i] = slot > entry;  // otherwise it is where it belongs
      held[i] = holds[i] ? source[kv_offset(at, sequence, slot) + word] : Word();
    }
    __syncthreads();  // all have read
#pragma unroll
    for (int i = 0; i < kCompactInPlaceWords; ++i) {
      const auto entry = static_cast<int32_t>(begin + i * side_by_side + mine);
      if (holds[i]) destination[kv_offset(at, sequence, entry) + word] = held[i];
    }
  }
}

// A block owns some words of one head of a sequence in every slot, of K or of V, and walks the
// list: no two blocks touch the same memory.
//
// Bytes: 4 * dh elements per entry and head that changes its slot; 4 for the entry and 4 or 8 of
// the tables, from the caches for all blocks but the first. Grid: as above.
template <class Word>
__global__ __launch_bounds__(kCompactInPlaceThreads, 2) void kv_compact_in_place_kernel(
    const __grid_constant__ KvCompactTask<Word> task) {
  __shared__ int32_t scratch[kCompactInPlaceThreads / kWarp];
  const bool refused = is_refused(task.plan);
  if (blockIdx.x == 0) {
    report_to<kCompactInPlaceThreads>(task.report, task.plan, refused, scratch);
    return;
  }
  if (refused) return;
  const int64_t slices = (task.head_words + task.slice - 1) / task.slice;
  const int64_t all = task.plan.sequences * task.heads * slices * 2;
  for (int64_t i = blockIdx.x - 1; i < all; i += gridDim.x - 1) {
    const int kind = static_cast<int>(i % 2);
    const int64_t whose = i / 2 / slices;
    const int64_t first = (i / 2 - whose * slices) * task.slice;
    const int64_t b = whose / task.heads;
    const int64_t shift = (whose - b * task.heads) * task.plan.source.head_stride + first;
    const int64_t left = task.head_words - first;
    compact_slice<Word>(task.plan.source, compacted_sequence(task.plan, b),
                        list_of(task.plan, task.plan.per_sequence == 1 ? b : whose), task.slice,
                        left < task.slice ? static_cast<int32_t>(left) : task.slice,
                        task.source[kind] + shift, task.destination[kind] + shift);
  }
}

}  // namespace exn::cuda
