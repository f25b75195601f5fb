// SPDX-License-Identifier: Apache-2.0
//
// The state of emulated threads, warps and blocks. Plain data: scheduler.cpp, barrier.cpp,
// warp.cpp, async_copy.cpp and race_detector.cpp each own the part they change.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "fiber.h"
#include "race_state.h"
#include "report.h"
#include "simt/simt.h"
#include "static_shared.h"

namespace simt {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxWarps = 32;

struct Block;

struct AsyncCopy {
  void* shared;
  const void* global;
  size_t size;
  size_t zero_fill;
  const char* file;
  int line;
};

using AsyncGroup = std::vector<AsyncCopy>;

struct Fiber : Thread {
  Context context;
  bool started = false;
  Location waiting_at;
  unsigned waiting_mask = 0;  // of the warp operation it waits in
  Block* block = nullptr;
  AsyncGroup open_copies;
  std::deque<AsyncGroup> committed_copies;
  ThreadClock clock;
};

// Lanes gathering for one warp collective.
struct WarpGroup {
  unsigned mask = 0;
  unsigned arrived = 0;
  WarpOp op = WarpOp::kSync;
  const char* file = nullptr;
  int line = 0;
  std::array<uint64_t, kWarpSize> value{};
  std::array<int, kWarpSize> argument{};
  std::array<int, kWarpSize> width{};
};

// What its lanes are doing is kept here, where it takes a word to look at or to change all of them;
// a lane that is in none of the masks is running.
struct Warp {
  unsigned present = 0;  // lanes that exist
  unsigned runnable = 0;
  unsigned yielded = 0;  // would run, but asked to let others go first
  unsigned at_barrier = 0;
  unsigned in_warp_op = 0;
  unsigned done = 0;
  std::array<uint64_t, kWarpSize> result{};  // of the lane's last warp operation
  std::array<WarpGroup, 8> groups;
};

struct Votes {
  bool any = false;
  bool all = true;
  int count = 0;
};

struct Block {
  unsigned id = 0;
  unsigned thread_count = 0;
  unsigned done = 0;
  unsigned at_barrier = 0;
  Location barrier_location;
  std::array<Votes, 2> votes;  // of the barrier being gathered and of the one before
  unsigned barrier_count = 0;
  unsigned runnable_warps = 0;
  unsigned yielded_warps = 0;
  std::vector<Fiber*> fibers;
  std::vector<Warp> warps;
  std::array<uint8_t, kMaxWarps> priority_of_warp{};
  std::array<uint8_t, kMaxWarps> warp_of_priority{};
  unsigned char* dynamic_shared = nullptr;
  size_t dynamic_size = 0;
  SharedImage static_shared;
  std::unique_ptr<BlockRaceState> race;  // race builds only

  Warp& warp_of(const Fiber& fiber) { return warps[fiber.warp]; }
};

inline Fiber* current_fiber() { return static_cast<Fiber*>(current); }

}  // namespace simt
