// SPDX-License-Identifier: Apache-2.0
//
// Kept entries moved by a list that was looked through first, pages taken once, and counts that
// take turns in shared memory. The patterns of gather.cuh, kv_compact.cuh and hired_budget.cuh.
#include "exeunt/cuda/reduce.cuh"
#include "mutants.h"

namespace {

using exn::cuda::block_reduce;
using exn::cuda::kWarp;
using exn::cuda::Sum;

constexpr int kThreads = 64;
constexpr int kWarps = kThreads / kWarp;

// ---- in place: a block owns columns and walks the list in rounds --------------------------------

constexpr int kListed = 40;
constexpr int kRows = 100;
constexpr int kColumns = 16;
constexpr int kSlice = 8;  // columns of a block

enum class WalkBug { kNone, kNoBarrierAfterReading, kSlicesOverlap, kListGoesBack };

template <WalkBug kBug>
__global__ void walk(int* data) {
  const int t = static_cast<int>(threadIdx.x);
  const int side_by_side = kThreads / kSlice;
  const int mine = t / kSlice;
  const int step = kBug == WalkBug::kSlicesOverlap ? kSlice - 1 : kSlice;
  const int column = static_cast<int>(blockIdx.x) * step + t % kSlice;
  for (int begin = 0; begin < kListed; begin += side_by_side) {
    const int entry = begin + mine;
    // Ascending in steps of two; or from below, where the last round is still writing.
    const bool below = kBug == WalkBug::kListGoesBack && begin > 0;
    const int row = below ? entry - side_by_side + 1 : 2 * entry + 1;
    const int held = data[row * kColumns + column];
    if (kBug != WalkBug::kNoBarrierAfterReading) __syncthreads();
    data[entry * kColumns + column] = held;
  }
}

template <WalkBug kBug>
void run_walk() {
  EXN_LAUNCH((walk<kBug>), kColumns / kSlice, kThreads, 0, nullptr,
             device_zeros<int>(kRows * kColumns));
}

const Registration registration_walk({
    {"walk_no_barrier_after_reading", kRace, run_walk<WalkBug::kNone>,
     run_walk<WalkBug::kNoBarrierAfterReading>},
    {"walk_slices_overlap", kRace, run_walk<WalkBug::kNone>, run_walk<WalkBug::kSlicesOverlap>},
    {"walk_list_goes_back", kRace, run_walk<WalkBug::kNone>, run_walk<WalkBug::kListGoesBack>},
});

// ---- to other memory: chunks of what is kept, seen flat -----------------------------------------

constexpr int kEntryWords = 24;
constexpr int kKept = 7;
constexpr int kInput = 16;  // entries

enum class ChunkBug { kNone, kNoEnd, kMovesAnyway, kLeavesAlone };

template <ChunkBug kBug>
__global__ void move_kept(const int* input, const int* list, int* out) {
  const int t = static_cast<int>(threadIdx.x);
  const bool wrong = t < kKept && list[t] >= kInput;
  if (kBug == ChunkBug::kLeavesAlone && wrong) return;  // the others wait for it
  const bool refused = __syncthreads_or(wrong);
  if (refused && kBug != ChunkBug::kMovesAnyway) return;
  for (int at = static_cast<int>(blockIdx.x) * kThreads + t;
       at < kKept * kEntryWords || kBug == ChunkBug::kNoEnd;
       at += static_cast<int>(gridDim.x) * kThreads) {
    if (at >= (kKept + 1) * kEntryWords) break;
    const int row = at / kEntryWords < kKept ? list[at / kEntryWords] : 0;
    out[at] = input[row * kEntryWords + at % kEntryWords];
  }
}

__global__ void spoil_entry(int* list) { list[3] = kInput + 100; }

template <ChunkBug kBug, bool kSpoiled>
void run_chunks() {
  int* const list = device_zeros<int>(kKept);
  if (kSpoiled) EXN_LAUNCH(spoil_entry, 1, 1, 0, nullptr, list);
  EXN_LAUNCH((move_kept<kBug>), 2, kThreads, 0, nullptr, device_zeros<int>(kInput * kEntryWords),
             list, device_zeros<int>(kKept * kEntryWords));
}

const Registration registration_chunks({
    {"chunk_past_the_end", kAllModes, run_chunks<ChunkBug::kNone, false>,
     run_chunks<ChunkBug::kNoEnd, false>},
    {"chunk_of_a_refused_list", kRace, run_chunks<ChunkBug::kNone, true>,
     run_chunks<ChunkBug::kMovesAnyway, true>},
    {"chunk_one_thread_leaves", kAllModes, run_chunks<ChunkBug::kNone, true>,
     run_chunks<ChunkBug::kLeavesAlone, true>},
});

// ---- pages: the first to come has it ------------------------------------------------------------

constexpr int kPages = 8;

template <bool kBroken>
__global__ void take_pages(unsigned long long* owners, int* verdicts) {
  const int t = static_cast<int>(threadIdx.x);
  const auto mine = static_cast<unsigned long long>(blockIdx.x) + 1;
  bool wrong = false;
  for (int page = t; page < kPages; page += kThreads) {
    if (kBroken) {
      wrong |= owners[page] != 0 && owners[page] != mine;
      owners[page] = mine;
    } else {
      const unsigned long long owner = atomicCAS(&owners[page], 0ull, mine);
      wrong |= owner != 0 && owner != mine;
    }
  }
  wrong = __syncthreads_or(wrong);
  if (t == 0) verdicts[blockIdx.x] = wrong;
}

template <bool kBroken>
void run_pages() {
  EXN_LAUNCH((take_pages<kBroken>), 3, kThreads, 0, nullptr,
             device_zeros<unsigned long long>(kPages), device_zeros<int>(3));
}

const Registration registration_pages({
    {"pages_without_atomics", kRace, run_pages<false>, run_pages<true>},
});

// ---- returned pages: warps share their counts, round after round --------------------------------

enum class CountBug { kNone, kNoBarrierBeforeReading, kNoBarrierBetweenRounds };

template <CountBug kBug>
__global__ void give_back(int* freed, int sequences) {
  __shared__ int counts[kWarps];
  const int t = static_cast<int>(threadIdx.x);
  int returned = 0;
  for (int base = 0; base < sequences; base += kWarps) {
    const int sequence = base + t / kWarp;
    const int count = sequence < sequences ? sequence % 3 : 0;
    if (t % kWarp == 0) counts[t / kWarp] = count;
    if (kBug != CountBug::kNoBarrierBeforeReading) __syncthreads();
    int place = returned;
    for (int i = 0; i < kWarps; ++i) {
      if (i < t / kWarp) place += counts[i];
      returned += counts[i];
    }
    if (t % kWarp < count) freed[place + t % kWarp] = sequence;
    if (kBug != CountBug::kNoBarrierBetweenRounds) __syncthreads();
  }
}

template <CountBug kBug>
void run_give_back() {
  EXN_LAUNCH((give_back<kBug>), 1, kThreads, 0, nullptr, device_zeros<int>(20), 9);
}

const Registration registration_give_back({
    {"returned_no_barrier_before_reading", kRace, run_give_back<CountBug::kNone>,
     run_give_back<CountBug::kNoBarrierBeforeReading>},
    {"returned_no_barrier_between_rounds", kRace, run_give_back<CountBug::kNone>,
     run_give_back<CountBug::kNoBarrierBetweenRounds>},
});

// ---- a bit more of a threshold in every round, two scratches in turn ----------------------------

enum class RoundBug { kNone, kOneScratch, kSharesNotAwaited };

template <RoundBug kBug>
__global__ void find_threshold(const unsigned* keys, int count, float* shares, float* out) {
  __shared__ int scratch[2][kWarps];
  const int t = static_cast<int>(threadIdx.x);
  unsigned lowest = 0;
  for (int bit = 7; bit >= 0; --bit) {
    const unsigned tried = lowest | 1u << bit;
    int mine = 0;
    for (int i = t; i < count; i += kThreads) mine += keys[i] >= tried;
    const int turn = kBug == RoundBug::kOneScratch ? 0 : bit % 2;
    if (block_reduce<Sum, kWarps>(mine, scratch[turn]) >= count / 2) lowest = tried;
  }
  shares[t] = static_cast<float>(lowest);
  if (kBug != RoundBug::kSharesNotAwaited) __syncthreads();
  out[t] = shares[(t + 1) % kThreads];
}

template <RoundBug kBug>
void run_rounds() {
  EXN_LAUNCH((find_threshold<kBug>), 1, kThreads, 0, nullptr, device_zeros<unsigned>(100), 100,
             device_zeros<float>(kThreads), device_zeros<float>(kThreads));
}

const Registration registration_rounds({
    {"threshold_one_scratch", kRace, run_rounds<RoundBug::kNone>,
     run_rounds<RoundBug::kOneScratch>},
    {"threshold_shares_not_awaited", kRace, run_rounds<RoundBug::kNone>,
     run_rounds<RoundBug::kSharesNotAwaited>},
});

}  // namespace
