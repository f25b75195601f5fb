// SPDX-License-Identifier: Apache-2.0
//
// The rules. Two accesses of the same block are ordered by a barrier, or within a warp by a
// __syncwarp that both lanes took part in. Accesses of different blocks are ordered by the chain
// fence, atomic on one address, atomic on the same address, fence; a barrier or __syncwarp spreads
// it to the other threads on either side. Shuffles and votes order nothing.
#include "race_detector.h"

#include <link.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "device_memory.h"
#include "scheduler.h"

namespace simt {

void RemoteClock::clear() {
  barrier_epochs_.clear();
  warps_.clear();
}

void RemoteClock::learn(uint32_t block, uint32_t epoch, uint32_t warp, const LaneClocks& lanes) {
  uint32_t& known_epoch = barrier_epochs_[block];
  known_epoch = std::max(known_epoch, epoch);
  LaneClocks& known = warps_[uint64_t{block} << 32 | warp];
  for (size_t i = 0; i < lanes.size(); ++i) known[i] = std::max(known[i], lanes[i]);
}

void RemoteClock::learn(const RemoteClock& other) {
  for (const auto& entry : other.barrier_epochs_) {
    uint32_t& known = barrier_epochs_[entry.first];
    known = std::max(known, entry.second);
  }
  for (const auto& entry : other.warps_) {
    LaneClocks& known = warps_[entry.first];
    for (size_t i = 0; i < known.size(); ++i) known[i] = std::max(known[i], entry.second[i]);
  }
}

bool RemoteClock::covers(const AccessRecord& record) const {
  const auto epoch = barrier_epochs_.find(record.block);
  if (epoch == barrier_epochs_.end()) return false;
  if (record.barrier_epoch < epoch->second) return true;
  const auto warp = warps_.find(uint64_t{record.block} << 32 | record.thread / kWarpSize);
  return warp != warps_.end() && record.lane_clock < warp->second[record.thread % kWarpSize];
}

namespace {

// Reads of allocations larger than this are recorded only once something has been written to the
// allocation: weights would otherwise need many times their size in shadow.
constexpr size_t kRecordAllReads = size_t{4} << 20;

struct Range {
  const char* begin;
  const char* end;
};

// What the library itself holds and may not change: constants and tables.
std::vector<Range> find_constant_ranges() {
  struct Search {
    const char* inside;
    std::vector<Range> found;
  } search{reinterpret_cast<const char*>(&find_constant_ranges), {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* opaque) {
        auto* search = static_cast<Search*>(opaque);
        std::vector<Range> constant;
        bool is_ours = false;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr) & header = info->dlpi_phdr[i];
          const char* begin = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          const Range range{begin, begin + header.p_memsz};
          const bool loaded = header.p_type == PT_LOAD;
          is_ours |= loaded && search->inside >= range.begin && search->inside < range.end;
          if ((loaded && (header.p_flags & PF_W) == 0) || header.p_type == PT_GNU_RELRO) {
            constant.push_back(range);
          }
        }
        if (is_ours) search->found = constant;
        return is_ours ? 1 : 0;
      },
      &search);
  return search.found;
}

bool is_constant(const void* address) {
  static const std::vector<Range> ranges = find_constant_ranges();
  const char* p = static_cast<const char*>(address);
  return std::any_of(ranges.begin(), ranges.end(),
                     [p](const Range& range) { return p >= range.begin && p < range.end; });
}

std::unordered_map<const void*, RemoteClock>& sync_variables() {
  static std::unordered_map<const void*, RemoteClock> instance;
  return instance;
}

bool happened_before(const AccessRecord& record, const Fiber* fiber) {
  if (record.block == kNobody) return true;
  const Block* block = fiber->block;
  if (record.block == block->id) {
    if (record.barrier_epoch < block->race->barrier_epoch) return true;
    if (record.thread == fiber->linear) return true;
    if (record.thread / kWarpSize == fiber->warp &&
        record.lane_clock < fiber->clock.lanes[record.thread % kWarpSize]) {
      return true;
    }
  }
  return fiber->clock.acquired.covers(record) || block->race->acquired.covers(record);
}

// `record` stands for the last of possibly several readers.
bool readers_happened_before(const AccessRecord& record, const Fiber* fiber) {
  const Block* block = fiber->block;
  const bool this_phase =
      record.block == block->id && record.barrier_epoch == block->race->barrier_epoch;
  if (this_phase && record.many_warps) return false;
  if (this_phase && record.many_lanes) {
    return record.thread / kWarpSize == fiber->warp && record.warp_epoch < fiber->clock.warp_epoch;
  }
  return happened_before(record, fiber);
}

void report_race(const char* what, const AccessRecord& earlier, const Location& where,
                 const char* space, size_t offset) {
  report(what, where,
         std::string(space) + " byte " + std::to_string(offset) + ", earlier by block " +
             std::to_string(earlier.block) + " thread " + std::to_string(earlier.thread) + " at " +
             describe(Location{earlier.file, earlier.line, earlier.pc}) +
             (earlier.many_lanes ? " among others" : ""));
}

AccessRecord make_record(const Fiber* fiber, bool atomic, const Location& where) {
  AccessRecord record;
  record.block = fiber->block->id;
  record.barrier_epoch = fiber->block->race->barrier_epoch;
  record.lane_clock = fiber->clock.lanes[fiber->lane];
  record.warp_epoch = fiber->clock.warp_epoch;
  record.thread = static_cast<uint16_t>(fiber->linear);
  record.atomic = atomic;
  record.file = where.file;
  record.line = where.line;
  record.pc = where.pc;
  return record;
}

void record_reader(AccessRecord* reader, const AccessRecord& now) {
  const bool this_phase = reader->block == now.block && reader->barrier_epoch == now.barrier_epoch;
  const bool other_thread = this_phase && reader->thread != now.thread;
  const bool other_warp = other_thread && reader->thread / kWarpSize != now.thread / kWarpSize;
  const bool many_lanes = other_thread || (this_phase && reader->many_lanes);
  const bool many_warps = other_warp || (this_phase && reader->many_warps);
  *reader = now;
  reader->many_lanes = many_lanes;
  reader->many_warps = many_warps;
}

struct Space {
  const char* name;
  bool must_be_initialised;
};
constexpr Space kShared{"shared", true};
constexpr Space kGlobal{"global", false};

void visit(ShadowCell* cell, const Fiber* fiber, const AccessRecord& now, Access access,
           const Location& where, const Space& space, size_t offset) {
  const bool atomic = access == Access::kAtomic;
  if (access != Access::kWrite) {
    if (space.must_be_initialised && !cell->initialised) {
      report("uninitialised read", where,
             std::string(space.name) + " byte " + std::to_string(offset));
    }
    if (!(atomic && cell->writer.atomic) && !happened_before(cell->writer, fiber)) {
      report_race("race: read after write", cell->writer, where, space.name, offset);
    }
  }
  if (access == Access::kRead) {
    record_reader(&cell->reader, now);
    return;
  }
  if (access == Access::kWrite && !happened_before(cell->writer, fiber)) {
    report_race("race: write after write", cell->writer, where, space.name, offset);
  }
  if (!readers_happened_before(cell->reader, fiber)) {
    report_race("race: write after read", cell->reader, where, space.name, offset);
  }
  cell->writer = now;
  cell->initialised = true;
}

void visit_range(Shadow* shadow, size_t offset, size_t size, Fiber* fiber, Access access,
                 const Location& where, const Space& space) {
  const AccessRecord now = make_record(fiber, access == Access::kAtomic, where);
  shadow->for_each(offset, size, [&](ShadowCell& cell, size_t at) {
    visit(&cell, fiber, now, access, where, space, at);
  });
}

// Offset into the block's shared shadow; false if the address is not shared memory.
bool shared_offset(const Block* block, const void* address, size_t* offset) {
  const auto* p = static_cast<const unsigned char*>(address);
  const auto static_offset = static_cast<size_t>(p - static_shared().begin);
  if (static_offset < static_shared().size) {
    *offset = static_offset;
    return true;
  }
  constexpr size_t kGuard = 4096;
  const auto dynamic_offset = static_cast<size_t>(p - block->dynamic_shared);
  if (dynamic_offset >= block->dynamic_size + kGuard) return false;
  *offset = static_shared().size + dynamic_offset;
  return true;
}

[[noreturn]] void refuse_access(const char* what, const Location& where,
                                const std::string& detail) {
  report(what, where, detail);
  abort_launch();
}

void check_shared(Fiber* fiber, size_t offset, size_t size, Access access, const Location& where) {
  Block* block = fiber->block;
  const size_t statics = static_shared().size;
  const size_t end = offset < statics ? statics : statics + block->dynamic_size;
  if (offset + size > end) {
    refuse_access("out-of-bounds access to shared memory", where,
                  "byte " + std::to_string(offset < statics ? offset : offset - statics) + " of " +
                      std::to_string(offset < statics ? statics : block->dynamic_size));
  }
  if (config().race_check) {
    visit_range(&block->race->shared, offset, size, fiber, access, where, kShared);
  }
}

void count_bytes(size_t size, Access access) {
  (access == Access::kRead ? counters().bytes_read : counters().bytes_written) += size;
}

void check_global(Fiber* fiber, const void* address, size_t size, Access access,
                  const Location& where) {
  Allocation* allocation = find_allocation(address);
  if (allocation == nullptr) {
    refuse_access("access to freed or unallocated global memory", where, "");
  }
  const auto offset = static_cast<size_t>(static_cast<const char*>(address) - allocation->begin);
  if (!allocation->contains(address, size)) {
    refuse_access("out-of-bounds access to global memory", where,
                  std::to_string(size) + " bytes at " + std::to_string(offset) + " of " +
                      std::to_string(allocation->size));
  }
  count_bytes(size, access);
  if (config().follow_traffic) {
    if (allocation->tags == nullptr) {
      allocation->tags = std::make_unique<SectorTags>(allocation->size);
    }
    follow_access(allocation->tags.get(), offset, size, access != Access::kRead);
  }
  if (!config().race_check) return;
  if (allocation->shadow == nullptr) {
    if (access == Access::kRead && allocation->size > kRecordAllReads) return;
    allocation->shadow = std::make_unique<Shadow>(allocation->size);
  }
  visit_range(allocation->shadow.get(), offset, size, fiber, access, where, kGlobal);
}

bool is_within(const void* address, const void* begin, size_t size) {
  return static_cast<size_t>(static_cast<const char*>(address) - static_cast<const char*>(begin)) <
         size;
}

// Stack, built-in variables, kernel arguments and constants: nothing there is shared.
bool is_private(const Fiber* fiber, const void* address, Access access, const Location& where) {
  if (is_within(address, fiber->context.stack, fiber->context.stack_size)) return true;
  if (is_within(address, fiber, sizeof *fiber)) return true;
  if (address == static_cast<const void*>(&current)) return true;  // what threadIdx reads first
  if (on_any_stack(address)) {
    refuse_access("access to another thread's local memory", where, "");
  }
  if (access != Access::kRead) return false;
  const Invocation* invocation = running_invocation();
  return is_within(address, invocation, invocation->size()) || is_constant(address);
}

void maybe_preempt() {
  const auto one_in = static_cast<uint32_t>(config().preempt_one_in);
  if (one_in != 0 && schedule_random().one_in(one_in)) maybe_switch();
}

void acquire_and_release(Fiber* fiber, const void* address) {
  ThreadClock& clock = fiber->clock;
  auto& variables = sync_variables();
  auto variable = variables.find(address);
  if (variable != variables.end()) clock.observed.learn(variable->second);
  if (clock.has_fenced) variables[address].learn(clock.released);
}

}  // namespace

void begin_race_check() {
  if (!kRaceMode) return;
  drop_shadows();
  begin_traffic_launch();
  sync_variables().clear();
}

void start_race_check(Block* block, size_t static_shared) {
  if (!kRaceMode) return;
  block->race = std::make_unique<BlockRaceState>(static_shared + block->dynamic_size);
}

void reset_clock(Fiber* fiber) {
  if (!kRaceMode) return;
  fiber->clock = ThreadClock{};
  fiber->clock.lanes[fiber->lane] = 1;
}

void check_access(const void* address, size_t size, Access access, const Location& where) {
  Fiber* fiber = current_fiber();
  if (!kRaceMode || !on_launching_thread()) return;
  size_t offset = 0;
  if (shared_offset(fiber->block, address, &offset)) {
    maybe_preempt();
    check_shared(fiber, offset, size, access, where);
  } else if (is_device_address(address)) {
    maybe_preempt();
    check_global(fiber, address, size, access, where);
  } else if (!is_private(fiber, address, access, where)) {
    refuse_access("access to host memory", where, "");
  }
}

void check_alignment(const void* address, size_t size, const Location& where) {
  if ((reinterpret_cast<uintptr_t>(address) & (size - 1)) == 0 || !on_launching_thread()) return;
  refuse_access("misaligned access", where, std::to_string(size) + " bytes at once");
}

void mark_in_flight(const void* shared, size_t size) {
  Block* block = current_fiber()->block;
  size_t offset = 0;
  if (!kRaceMode || !shared_offset(block, shared, &offset)) return;
  block->race->shared.for_each(offset, size,
                               [](ShadowCell& cell, size_t) { cell.initialised = false; });
}

void pass_barrier(Block* block) {
  if (!kRaceMode) return;
  ++block->race->barrier_epoch;
  for (Fiber* fiber : block->fibers) {
    if (!fiber->clock.acquired.empty()) block->race->acquired.learn(fiber->clock.acquired);
  }
}

void pass_warp_sync(Fiber* const* lanes, unsigned mask, bool whole_warp) {
  if (!kRaceMode) return;
  LaneClocks joined{};
  RemoteClock acquired;
  for (unsigned left = mask; left != 0; left &= left - 1) {
    const int lane = __builtin_ctz(left);
    ThreadClock& clock = lanes[lane]->clock;
    ++clock.lanes[static_cast<size_t>(lane)];
    for (size_t i = 0; i < joined.size(); ++i) joined[i] = std::max(joined[i], clock.lanes[i]);
    if (!clock.acquired.empty()) acquired.learn(clock.acquired);
  }
  for (unsigned left = mask; left != 0; left &= left - 1) {
    ThreadClock& clock = lanes[__builtin_ctz(left)]->clock;
    clock.lanes = joined;
    if (whole_warp) ++clock.warp_epoch;
    if (!acquired.empty()) clock.acquired.learn(acquired);
  }
}

void device_fence() {
  if (!kRaceMode) return;
  Fiber* fiber = current_fiber();
  ThreadClock& clock = fiber->clock;
  clock.acquired.learn(clock.observed);
  clock.observed.clear();

  ++clock.lanes[fiber->lane];
  clock.has_fenced = true;
  clock.released = clock.acquired;
  clock.released.learn(fiber->block->race->acquired);
  clock.released.learn(fiber->block->id, fiber->block->race->barrier_epoch, fiber->warp,
                       clock.lanes);
}

// A fence does not make other threads wait, so within a block it orders nothing by itself.
void block_fence() {}

void atomic_access(const void* address, size_t size, const char* file, int line) {
  if (schedule_random().one_in(4)) maybe_switch();
  if (!kRaceMode) return;
  check_access(address, size, Access::kAtomic, Location{file, line, nullptr});
  if (is_device_address(address) && config().race_check) {
    acquire_and_release(current_fiber(), address);
  }
}

}  // namespace simt
