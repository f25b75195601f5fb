// SPDX-License-Identifier: Apache-2.0
//
// Counting digits to find a cut, listing what lies above it in order, and work that blocks draw,
// wait for and hand over. The patterns of select.cuh and attention_scores.cuh.
#include "mutants.h"

namespace {

constexpr int kThreads = 64;
constexpr int kWarps = kThreads / 32;
constexpr int kDigits = 64;

enum class CutBug {
  kNone,
  kNoBarrierAfterClearing,
  kNoBarrierAfterCounting,
  kNoBarrierAfterFinding,
  kOneDigitTooMany,
  kCountsWithoutAtomic
};

// The digit of the `wanted`-th largest key, in two rounds.
template <CutBug kBug>
__global__ void find_cut(const unsigned* keys, int* out, int wanted) {
  __shared__ int digits[kDigits];
  __shared__ int found;
  const int t = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    digits[t] = 0;
    if (kBug != CutBug::kNoBarrierAfterClearing) __syncthreads();
    const unsigned key = keys[t] + kDigits - 1 - threadIdx.x;
    const unsigned digit =
        (key >> (6 * round)) % kDigits + (kBug == CutBug::kOneDigitTooMany ? kDigits : 0);
    if (kBug == CutBug::kCountsWithoutAtomic) {
      digits[digit] += 1;
    } else {
      atomicAdd(&digits[digit], 1);
    }
    if (kBug != CutBug::kNoBarrierAfterCounting) __syncthreads();
    int above = 0;
    for (int i = t + 1; i < kDigits; ++i) above += digits[i];
    if (above < wanted && wanted <= above + digits[t]) found = t;
    if (kBug != CutBug::kNoBarrierAfterFinding) __syncthreads();
    sum += found;
    __syncthreads();  // the next round writes all of it again
  }
  out[t] = sum;
}

template <CutBug kBug>
void run_cut() {
  EXN_LAUNCH((find_cut<kBug>), 1, kThreads, 0, nullptr, device_zeros<unsigned>(kThreads),
             device_zeros<int>(kThreads), 7);
}

const Registration registration_cut({
    {"cut_no_barrier_after_clearing", kRace, run_cut<CutBug::kNone>,
     run_cut<CutBug::kNoBarrierAfterClearing>},
    {"cut_no_barrier_after_counting", kRace, run_cut<CutBug::kNone>,
     run_cut<CutBug::kNoBarrierAfterCounting>},
    {"cut_no_barrier_after_finding", kRace, run_cut<CutBug::kNone>,
     run_cut<CutBug::kNoBarrierAfterFinding>},
    {"cut_one_digit_too_many", kAsan, run_cut<CutBug::kNone>, run_cut<CutBug::kOneDigitTooMany>},
    {"cut_counts_without_atomic", kRace, run_cut<CutBug::kNone>,
     run_cut<CutBug::kCountsWithoutAtomic>},
});

enum class ListBug { kNone, kNoBarrierBeforeReading, kNoBarrierBetweenTiles, kOnePlaceTooFar };

// Every second column of two tiles, in order; a list of `capacity` places.
template <ListBug kBug>
__global__ void list_columns(int* list, int capacity) {
  __shared__ int sums[kWarps];
  const int t = static_cast<int>(threadIdx.x);
  const int lane = t % 32;
  int listed = 0;
  for (int tile = 0; tile < 2; ++tile) {
    const bool keeps = t % 2 == 0;
    const unsigned votes = __ballot_sync(0xffffffffu, keeps);
    if (lane == 0) sums[t / 32] = __popc(votes);
    if (kBug != ListBug::kNoBarrierBeforeReading) __syncthreads();
    int place = listed + __popc(votes & ((1u << lane) - 1u));
    for (int i = 0; i < kWarps; ++i) {
      if (i < t / 32) place += sums[i];
      listed += sums[i];
    }
    const bool fits = kBug == ListBug::kOnePlaceTooFar ? place <= capacity : place < capacity;
    if (keeps && fits) list[place] = tile * kThreads + t;
    if (kBug != ListBug::kNoBarrierBetweenTiles) __syncthreads();
  }
}

// The list ends where its allocation does.
template <ListBug kBug>
void run_list() {
  constexpr int kCapacity = kThreads / 2 + 8;
  EXN_LAUNCH((list_columns<kBug>), 1, kThreads, 0, nullptr, device_zeros<int>(kCapacity),
             kCapacity);
}

const Registration registration_list({
    {"list_no_barrier_before_reading", kRace, run_list<ListBug::kNone>,
     run_list<ListBug::kNoBarrierBeforeReading>},
    {"list_no_barrier_between_tiles", kRace, run_list<ListBug::kNone>,
     run_list<ListBug::kNoBarrierBetweenTiles>},
    {"list_one_place_too_far", kAllModes, run_list<ListBug::kNone>,
     run_list<ListBug::kOnePlaceTooFar>},
});

enum class DrawBug {
  kNone,
  kNoReleaseFence,
  kNoAcquireFence,
  kNoBarrierBeforeReady,
  kNoBarrierAfterDrawing,
  kNoBarrierAfterLocating,
  kNoBarrierBeforeReuse,
  kPoolsOneTooMany,
  kNoFenceBeforeTicket
};

constexpr unsigned kMakers = 4;     // blocks that make products
constexpr unsigned kFinishers = 3;  // blocks that wait for them; the last one adds up

struct Counters {
  unsigned drawn;
  unsigned ready;
  unsigned finished;
};

// Blocks draw their work: makers first, then those who wait for them.
template <DrawBug kBug>
__global__ void draw_work(Counters* counters, int* products, int* scores, int* out) {
  __shared__ unsigned drawn;
  __shared__ unsigned place;
  __shared__ int values[kThreads + 2];
  __shared__ bool is_last;
  const unsigned t = threadIdx.x;
  if (t == 0) drawn = atomicAdd(&counters->drawn, 1u);
  if (kBug != DrawBug::kNoBarrierAfterDrawing) __syncthreads();
  const unsigned item = drawn;
  if (item < kMakers) {
    products[item * kThreads + t] = static_cast<int>(t);
    if (kBug != DrawBug::kNoBarrierBeforeReady) __syncthreads();
    if (t == 0) {
      if (kBug != DrawBug::kNoReleaseFence) __threadfence();
      atomicAdd(&counters->ready, 1u);
    }
    return;
  }
  if (t == 0) place = item - kMakers;
  if (kBug == DrawBug::kNoBarrierAfterLocating && place >= kFinishers) return;
  if (t == 0) {
    while (atomicAdd(&counters->ready, 0u) != kMakers) __nanosleep(20);
    if (kBug != DrawBug::kNoAcquireFence) __threadfence();
  }
  __syncthreads();
  for (int piece = 0; piece < 2; ++piece) {
    const unsigned held = kThreads + (kBug == DrawBug::kPoolsOneTooMany ? 1 : 2);
    for (unsigned i = t; i < held; i += kThreads) {
      values[i] = products[(place + piece) % kMakers * kThreads + i % kThreads];
    }
    __syncthreads();
    scores[(place * 2 + piece) * kThreads + t] = values[t] + values[t + 1] + values[t + 2];
    if (kBug != DrawBug::kNoBarrierBeforeReuse) __syncthreads();
  }
  __syncthreads();
  if (t == 0) {
    if (kBug != DrawBug::kNoFenceBeforeTicket) __threadfence();
    is_last = atomicAdd(&counters->finished, 1u) == kFinishers - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  int sum = 0;
  for (unsigned i = 0; i < 2 * kFinishers; ++i) sum += scores[i * kThreads + t];
  out[t] = sum;
}

template <DrawBug kBug>
void run_draw() {
  EXN_LAUNCH((draw_work<kBug>), kMakers + kFinishers, kThreads, 0, nullptr,
             device_zeros<Counters>(1), device_zeros<int>(kMakers * kThreads),
             device_zeros<int>(2 * kFinishers * kThreads), device_zeros<int>(kThreads));
}

const Registration registration_draw({
    {"draw_no_release_fence", kRace, run_draw<DrawBug::kNone>, run_draw<DrawBug::kNoReleaseFence>},
    {"draw_no_acquire_fence", kRace, run_draw<DrawBug::kNone>, run_draw<DrawBug::kNoAcquireFence>},
    {"draw_no_barrier_before_ready", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kNoBarrierBeforeReady>},
    {"draw_no_barrier_after_drawing", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kNoBarrierAfterDrawing>},
    {"draw_no_barrier_after_locating", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kNoBarrierAfterLocating>},
    {"draw_no_barrier_before_reuse", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kNoBarrierBeforeReuse>},
    {"draw_pools_one_too_many", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kPoolsOneTooMany>},
    {"draw_no_fence_before_ticket", kRace, run_draw<DrawBug::kNone>,
     run_draw<DrawBug::kNoFenceBeforeTicket>},
});

}  // namespace
