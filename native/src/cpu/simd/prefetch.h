// SPDX-License-Identifier: Apache-2.0
// Prefetching: requests for lines that are read soon. A core reads ahead by itself where loads run
// on in one direction; elsewhere, and over the ends of pages and rows, it has to be told.
//
//   prefetch_l1, prefetch_l2     a line. Into L2 more of them can be under way, and none pushes a
//                                line out of L1 that is still wanted
//   prefetch_lines               some lines, again as they come nearer where that is asked for
//   prefetch_turn                the lines of one turn, of lines spread over a step
//   PrefetchRun                  the next line of a run of memory with each call
//   PacedPrefetch                many runs, as evenly as a computation goes on
//
// Which of them pay is up to the processor: tuning.h.
#pragma once

#include "../tuning.h"
#include "simd.h"

namespace exn::cpu::EXN_ISA {

constexpr int64_t kLine = 64;  // bytes of a cache line
template <class T>
constexpr int kLineOf = 64 / static_cast<int>(sizeof(T));  // elements

static EXN_SIMD void prefetch_l1(const void* p) { __builtin_prefetch(p, 0, 3); }
static EXN_SIMD void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }

// kLines lines into L2, from each of these places before `at` on; from `at` on, where none is named.
template <int kLines, int... kBytes>
static EXN_SIMD void prefetch_lines(const void* at, Before<kBytes...>) {
  const char* const lines = static_cast<const char*>(at);
  const auto from = [=](int before) EXN_FLAT {
#pragma GCC unroll 8
    for (int i = 0; i < kLines; ++i) prefetch_l2(lines - before + i * 64);
  };
  (from(kBytes), ...);
}
template <int kLines>
static EXN_SIMD void prefetch_lines(const void* at) {
  prefetch_lines<kLines>(at, Before<0>());
}

// Calls f(line) for those of kLines lines that belong to one of kTurns turns: spread over a step
// they come sooner than all at once, as a core holds few requests at a time.
template <int kLines, int kTurns, class F>
static EXN_SIMD void prefetch_turn(int turn, F&& f) {
  const int first = (turn * kLines + kTurns - 1) / kTurns;
  const int last = ((turn + 1) * kLines + kTurns - 1) / kTurns;
  if (first == last) return;
  in_order();
  for (int line = first; line < last; ++line) f(line);
  in_order();
}

// What lies in [at, end), line by line.
struct PrefetchRun {
  const char* at;
  const char* end;

  EXN_SIMD void prefetch() {
    if (at >= end) return;
    prefetch_l2(at);
    at += kLine;
  }
};

// Up to kMostRuns runs of memory, in the order in which they are added, into L2 while something
// else is computed. A core waits for an answer before it makes more requests than it holds, so they
// have to come evenly: the computation calls prefetch(), or takes shares, at a pace that is set.
// Where vectors are long, two lines go together: neighbours, or one of each of two arrays.
template <int kMostRuns>
class PacedPrefetch {
 public:
  static constexpr int kAtOnce = kLanes == 16 ? 2 : 1;  // lines

  // Bytes at `begin` come next.
  EXN_SIMD void add(const char* begin, int64_t bytes) {
    if (runs_ > 0 && end_[runs_ - 1] == begin) {
      end_[runs_ - 1] += bytes;
    } else {
      begin_[runs_] = begin;
      end_[runs_++] = begin + bytes;
    }
    lines_ += (bytes + 63) / 64;
  }
  // Starts with what was added; `beside` bytes from there lies what is asked for as well, if not 0.
  // `again`: each line several times.
  EXN_SIMD void start(int64_t beside, bool again) {
    again_ = again;
    at_ = runs_ > 0 ? begin_[0] : nullptr;
    last_ = runs_ > 0 ? end_[0] : nullptr;
    if (kAtOnce > 1 && beside != 0) {
      beside_ = beside;
      step_ = 64;
    }
  }
  // How often kAtOnce lines are to be asked for.
  int64_t requests() const { return (lines_ * 64 + step() - 1) / step(); }
  // What each call of prefetch() asks for from now on: requests, times 2^kShift.
  EXN_SIMD void pace(uint32_t pace) { pace_ = pace; }
  static uint32_t pace_of(int64_t requests, int64_t calls) {
    return static_cast<uint32_t>((requests << kShift) / (calls < 1 ? 1 : calls) + 1);
  }

  // Lines to ask for evenly, which cost a step two instructions each: what is asked for stays in
  // registers, and nothing depends on it.
  struct Share {
    const char* at;
    int64_t pace, beside;

    template <int kLines>
    EXN_SIMD void prefetch() {
      for (int i = 0; i < kLines; i += kAtOnce) {
        prefetch_l2(at);
        if constexpr (kAtOnce > 1) prefetch_l2(at + beside);
        at += pace;
      }
    }
  };
  // What one prefetch() would ask for, for so many lines asked for. The end of a run cuts it off;
  // what comes next makes up for it.
  EXN_SIMD Share share(int64_t lines) {
    due_ += pace_;
    // Nothing left: then for what is in L1, as an address of no page would be looked up each time.
    if (at_ >= last_ && !next_run(&at_)) return {reinterpret_cast<const char*>(this), 0, 0};
    const int64_t wanted = (due_ >> kShift) * step(), left = last_ - at_;
    const int64_t bytes = wanted < left ? wanted : left, asks = lines / kAtOnce;
    const auto pace = static_cast<uint32_t>(bytes + asks - 1) / static_cast<uint32_t>(asks);
    const Share some = {at_, pace, beside_};
    at_ += bytes;
    due_ -= static_cast<uint32_t>((bytes + step() - 1) / step()) << kShift;
    return some;
  }

  EXN_SIMD void prefetch() {
    const uint32_t due = due_ + pace_;
    const char* at = at_;
    for (uint32_t requests = due >> kShift; requests > 0; --requests) {
      if (at >= last_ && !next_run(&at)) return;
      prefetch_l2(at);
      if constexpr (kAtOnce > 1) {
        prefetch_l2(at + beside_);
        if (again_) prefetch_lines<kAtOnce>(at, KeysAgain());
      }
      at += step();
    }
    at_ = at;
    due_ = due % (1u << kShift);
  }

 private:
  static constexpr int kShift = 12;

  // Bytes of a run that one request goes on.
  int64_t step() const { return kAtOnce > 1 ? step_ : 64; }

  bool next_run(const char** at) {
    if (run_ + 1 >= runs_) {
      due_ = pace_ = 0;
      return false;
    }
    ++run_;
    *at = begin_[run_];
    last_ = end_[run_];
    return true;
  }

  const char* at_ = nullptr;
  const char* last_ = nullptr;
  int64_t beside_ = 64, step_ = 128;
  bool again_ = false;
  uint32_t due_ = 0, pace_ = 0;
  int runs_ = 0, run_ = 0;
  int64_t lines_ = 0;
  const char* begin_[kMostRuns];
  const char* end_[kMostRuns];
};

}  // namespace exn::cpu::EXN_ISA
