// SPDX-License-Identifier: Apache-2.0
//
// Warp collectives. Lanes are independent, as on Volta and later: nothing is in lockstep, and only
// the lanes that a mask names wait for one another.
#include <string>

#include "race_detector.h"
#include "scheduler.h"
#include "simt/mma.h"
#include "simt/tensor_core.h"

namespace simt {
namespace {

constexpr uint64_t kUndefined = 0xdeadbeefdeadbeefull;

// The slot where the lanes of `mask` gather.
WarpGroup* find_group(Warp* warp, unsigned mask) {
  WarpGroup* vacant = nullptr;
  for (WarpGroup& group : warp->groups) {
    if (group.arrived != 0 && group.mask == mask) return &group;
    if (group.arrived == 0 && vacant == nullptr) vacant = &group;
  }
  if (vacant != nullptr) vacant->mask = mask;
  return vacant;
}

// The lane whose value a shuffle returns. Beyond its segment a lane keeps its own; a xor may reach
// down into an earlier segment, as the hardware allows.
unsigned source_lane(WarpOp op, unsigned lane, int argument, int width) {
  const unsigned within = static_cast<unsigned>(width) - 1;
  const unsigned first = lane & ~within;
  const unsigned last = lane | within;
  const auto signed_lane = static_cast<int>(lane);
  switch (op) {
    case WarpOp::kShuffle:
      return first + (static_cast<unsigned>(argument) & within);
    case WarpOp::kShuffleUp:
      return signed_lane - argument < static_cast<int>(first)
                 ? lane
                 : lane - static_cast<unsigned>(argument);
    case WarpOp::kShuffleDown:
      return signed_lane + argument > static_cast<int>(last)
                 ? lane
                 : lane + static_cast<unsigned>(argument);
    default: {
      const unsigned source = lane ^ static_cast<unsigned>(argument);
      return source > last ? lane : source;
    }
  }
}

uint64_t shuffle_result(const WarpGroup& group, unsigned lane) {
  const unsigned source = source_lane(group.op, lane, group.argument[lane], group.width[lane]);
  if (source < kWarpSize && (group.mask >> source & 1) != 0) return group.value[source];
  report("shuffle from an absent lane", Location{group.file, group.line, nullptr},
         "lane " + std::to_string(lane) + " reads lane " + std::to_string(source));
  return kUndefined;
}

uint64_t ballot_result(const WarpGroup& group) {
  uint64_t lanes = 0;
  for (unsigned mask = group.mask; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    lanes |= (group.value[lane] & 1) << lane;
  }
  return lanes;
}

uint64_t match_result(const WarpGroup& group, uint64_t value) {
  uint64_t lanes = 0;
  for (unsigned mask = group.mask; mask != 0; mask &= mask - 1) {
    const int lane = __builtin_ctz(mask);
    lanes |= static_cast<uint64_t>(group.value[lane] == value) << lane;
  }
  return lanes;
}

uint32_t combine(WarpOp op, uint32_t a, uint32_t b) {
  switch (op) {
    case WarpOp::kAddU32:
      return a + b;
    case WarpOp::kMinU32:
      return a < b ? a : b;
    case WarpOp::kMaxU32:
      return a > b ? a : b;
    case WarpOp::kMinS32:
      return static_cast<int32_t>(a) < static_cast<int32_t>(b) ? a : b;
    case WarpOp::kMaxS32:
      return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b;
    case WarpOp::kAnd:
      return a & b;
    case WarpOp::kOr:
      return a | b;
    default:
      return a ^ b;
  }
}

uint64_t reduce_result(const WarpGroup& group) {
  unsigned mask = group.mask;
  auto result = static_cast<uint32_t>(group.value[__builtin_ctz(mask)]);
  for (mask &= mask - 1; mask != 0; mask &= mask - 1) {
    result = combine(group.op, result, static_cast<uint32_t>(group.value[__builtin_ctz(mask)]));
  }
  return result;
}

// The lanes wait: what they point to, on their stacks, is there.
void multiply(const WarpGroup& group) {
  if (group.mask != 0xffffffffu) {
    report("product by a part of a warp", Location{group.file, group.line, nullptr}, "");
    return;
  }
  const auto of_lane = [&group](int lane) {
    return reinterpret_cast<const MmaFragments*>(group.value[static_cast<size_t>(lane)]);
  };
  const int tiles = of_lane(0)->tiles, steps = of_lane(0)->steps;
  if (of_lane(0)->counts != nullptr) {
    std::array<MmaBytesLane, kWarpSize> lanes;
    for (int lane = 0; lane < static_cast<int>(kWarpSize); ++lane) {
      const MmaFragments* const own = of_lane(lane);
      lanes[static_cast<size_t>(lane)] = {own->a, own->b, own->counts};
    }
    return mma_m16n8_s8(lanes, steps);
  }
  for (int step = 0; step < steps; ++step) {
    for (int tile = 0; tile < tiles; ++tile) {
      std::array<MmaLane, kWarpSize> lanes;
      for (int lane = 0; lane < static_cast<int>(kWarpSize); ++lane) {
        const MmaFragments* const own = of_lane(lane);
        lanes[static_cast<size_t>(lane)] = {own->a + 4 * (tile * steps + step), own->b + 2 * step,
                                            own->sums + 4 * tile};
      }
      mma_m16n8k16_bf16(lanes);
    }
  }
}

void distribute(const WarpGroup& group, std::array<uint64_t, kWarpSize>* results) {
  const unsigned first = static_cast<unsigned>(__builtin_ctz(group.mask));
  uint64_t common = 0;
  bool per_lane = false;
  switch (group.op) {
    case WarpOp::kSync:
      break;
    case WarpOp::kMma:
      multiply(group);
      break;
    case WarpOp::kBallot:
      common = ballot_result(group);
      break;
    case WarpOp::kMatchAll:
      common = match_result(group, group.value[first]) == group.mask ? group.mask : 0;
      break;
    case WarpOp::kShuffle:
    case WarpOp::kShuffleUp:
    case WarpOp::kShuffleDown:
    case WarpOp::kShuffleXor:
    case WarpOp::kMatchAny:
      per_lane = true;
      break;
    default:
      common = reduce_result(group);
  }
  for (unsigned mask = group.mask; mask != 0; mask &= mask - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(mask));
    if (!per_lane) {
      (*results)[lane] = common;
    } else if (group.op == WarpOp::kMatchAny) {
      (*results)[lane] = match_result(group, group.value[lane]);
    } else {
      (*results)[lane] = shuffle_result(group, lane);
    }
  }
}

// The lanes to wait for: those named, without the ones that are not there.
unsigned participants(const Warp& warp, unsigned lane_bit, unsigned mask, const Location& here) {
  if ((mask & lane_bit) == 0) {
    report("warp operation by a lane its mask does not name", here, "");
    mask |= lane_bit;
  }
  mask &= warp.present;
  if ((mask & warp.done) != 0) {
    report("warp operation names exited lanes", here, "");
    mask &= ~warp.done;
  }
  return mask;
}

}  // namespace

uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, int argument, int width,
                         const char* file, int line) {
  Fiber* fiber = current_fiber();
  Block* block = fiber->block;
  Warp& warp = block->warp_of(*fiber);
  const unsigned lane_bit = 1u << fiber->lane;
  const Location here{file, line, nullptr};
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    report("shuffle width is not a power of two up to 32", here, std::to_string(width));
    width = 32;
  }
  mask = participants(warp, lane_bit, mask, here);

  WarpGroup* group = find_group(&warp, mask);
  if (group == nullptr) {
    report("too many different masks in flight in one warp", here, "");
    abort_launch();
  }
  if (group->arrived == 0) {
    group->op = op;
    group->file = file;
    group->line = line;
  } else if (group->op != op || group->line != line || group->file != file) {
    report("lanes of one mask at different warp operations", here,
           "other lanes wait at " + describe(Location{group->file, group->line, nullptr}));
  }
  group->value[fiber->lane] = value;
  group->argument[fiber->lane] = argument;
  group->width[fiber->lane] = width;
  group->arrived |= lane_bit;

  if (group->arrived != mask) {
    fiber->waiting_mask = mask;
    warp.in_warp_op |= lane_bit;
    wait_for(fiber, here);
    return warp.result[fiber->lane];
  }
  distribute(*group, &warp.result);
  if (op == WarpOp::kSync) {
    pass_warp_sync(&block->fibers[fiber->warp * kWarpSize], mask, mask == warp.present);
  }
  group->arrived = 0;
  warp.in_warp_op &= ~mask;
  make_runnable(block, fiber->warp, mask & ~lane_bit);
  maybe_switch();
  return warp.result[fiber->lane];
}

}  // namespace simt
