// SPDX-License-Identifier: Apache-2.0
//
// What the race detector keeps for threads and blocks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "shadow.h"

namespace simt {

// For each lane of one warp: accesses with a smaller lane clock are known to have happened.
using LaneClocks = std::array<uint32_t, 32>;

// Knowledge about other blocks, gained through fence - atomic - fence.
class RemoteClock {
 public:
  bool empty() const { return warps_.empty(); }
  void clear();

  // Everything block `block` did before its barrier number `epoch`, and what `lanes` says of
  // `warp`.
  void learn(uint32_t block, uint32_t epoch, uint32_t warp, const LaneClocks& lanes);
  void learn(const RemoteClock& other);

  bool covers(const AccessRecord& record) const;

 private:
  std::unordered_map<uint32_t, uint32_t> barrier_epochs_;
  std::unordered_map<uint64_t, LaneClocks> warps_;
};

struct ThreadClock {
  LaneClocks lanes{};       // of the thread's own warp; its own entry numbers its accesses
  uint32_t warp_epoch = 0;  // __syncwarp calls in which the whole warp took part
  bool has_fenced = false;
  RemoteClock released;  // what the last fence makes available to a thread that synchronises
  RemoteClock observed;  // seen through atomics, not yet ordered by a fence
  RemoteClock acquired;  // ordered before everything that follows in this thread
};

struct BlockRaceState {
  explicit BlockRaceState(size_t shared_size) : shared(shared_size) {}

  uint32_t barrier_epoch = 1;
  RemoteClock acquired;  // by any thread, and spread by a barrier
  Shadow shared;         // static shared memory, then dynamic
};

}  // namespace simt
