// SPDX-License-Identifier: Apache-2.0
#include "scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <string>

#include "device_memory.h"
#include "race_detector.h"
#include "sanitizer.h"

namespace simt {

Thread* current = nullptr;

namespace {

constexpr size_t kDynamicGuard = 4096;
constexpr unsigned char kGuardByte = 0xa5;
constexpr unsigned kMaxResident = 128;
constexpr unsigned kMaxIdleRounds = 1000000;
constexpr unsigned kBlockSwitchOneIn = 64;
constexpr unsigned kPrioritySwapOneIn = 4096;

unsigned lowest(unsigned mask) { return static_cast<unsigned>(__builtin_ctz(mask)); }

unsigned highest(unsigned mask) { return 31u - static_cast<unsigned>(__builtin_clz(mask)); }

// The first set bit at or after a random position, going round.
unsigned random_bit(unsigned mask, Random& random) {
  const unsigned start = random.below(32);
  const unsigned at_or_after = mask & (0xffffffffu << start);
  return lowest(at_or_after != 0 ? at_or_after : mask);
}

// Identifies the host thread that runs the launch; a plain thread-local flag would be among the
// variables that are swapped.
const void* launching_thread = nullptr;

void start_thread();

class Scheduler {
 public:
  bool run(const char* name, const LaunchShape& shape, const Invocation& invocation);

  void wait_for(Fiber* fiber, const Location& where);
  void yield(Fiber* fiber);
  void maybe_switch(Fiber* fiber);
  void finish_and_continue();
  [[noreturn]] void abort_launch();

  Context* host() { return &host_; }
  const Invocation* invocation() const { return invocation_; }
  Random& random() { return random_; }

 private:
  bool in_random_order() const {
    return policy_ == Policy::kRandom || policy_ == Policy::kPriority;
  }

  void start_block();
  void set_up_threads(Block* block);
  void retire(Block* block);
  void retire_done_blocks();
  void activate(Block* block);
  Block* choose_block();
  bool promote_yielded();
  Fiber* pick(Block* block);
  unsigned pick_by_priority(Block* block);
  void switch_from(Fiber* fiber, bool last);
  void leave_for_host(Fiber* fiber, bool last);
  void resume(Fiber* fiber, Context* from, bool last);
  void report_stuck(const char* what);
  Fiber* take_fiber();

  Policy policy_ = Policy::kInOrder;
  Random random_;
  LaunchShape shape_{};
  const Invocation* invocation_ = nullptr;
  Context host_;
  bool aborted_ = false;
  unsigned idle_rounds_ = 0;
  unsigned resident_limit_ = 1;
  size_t next_block_ = 0;
  std::vector<unsigned> block_order_;
  std::vector<Block*> resident_;
  Block* active_ = nullptr;  // whose static shared variables are in place
  std::deque<Fiber> all_fibers_;
  std::vector<Fiber*> free_fibers_;
};

Scheduler scheduler;

bool Scheduler::run(const char* name, const LaunchShape& shape, const Invocation& invocation) {
  const uint64_t reports_before = report_count();
  begin_reports(name);
  policy_ = config().policy;
  random_.seed(config().seed);
  shape_ = shape;
  invocation_ = &invocation;
  host_ = Context{};
  aborted_ = false;
  idle_rounds_ = 0;
  resident_limit_ = in_random_order() ? static_cast<unsigned>(config().resident_blocks) : 1;
  next_block_ = 0;
  block_order_.resize(size_t{shape.grid.x} * shape.grid.y * shape.grid.z);
  std::iota(block_order_.begin(), block_order_.end(), 0u);
  if (policy_ == Policy::kReverse) std::reverse(block_order_.begin(), block_order_.end());
  if (in_random_order()) {
    for (size_t i = block_order_.size(); i > 1; --i) {
      std::swap(block_order_[i - 1], block_order_[random_.below(static_cast<uint32_t>(i))]);
    }
  }
  enter_static_shared();
  launching_thread = __builtin_thread_pointer();
  begin_race_check();

  while (!aborted_) {
    while (resident_.size() < resident_limit_ && next_block_ < block_order_.size()) start_block();
    if (resident_.empty()) break;
    Block* block = choose_block();
    if (block == nullptr) {
      aborted_ = true;
      break;
    }
    activate(block);
    resume(pick(block), &host_, false);
    current = nullptr;
    retire_done_blocks();
  }

  current = nullptr;
  while (!resident_.empty()) retire(resident_.back());
  leave_static_shared();
  check_redzones();
  invocation_ = nullptr;
  ++counters().launches;
  return report_count() == reports_before;
}

Fiber* Scheduler::take_fiber() {
  if (free_fibers_.empty()) {
    all_fibers_.emplace_back();
    return &all_fibers_.back();
  }
  Fiber* fiber = free_fibers_.back();
  free_fibers_.pop_back();
  return fiber;
}

void Scheduler::start_block() {
  auto* block = new Block;
  block->id = block_order_[next_block_++];
  block->thread_count = shape_.block.x * shape_.block.y * shape_.block.z;
  block->warps.resize((block->thread_count + kWarpSize - 1) / kWarpSize);
  block->dynamic_size = shape_.dynamic_shared;
  block->static_shared = new_shared_image(poison_byte());

  const size_t padded = (block->dynamic_size + 127) / 128 * 128 + kDynamicGuard;
  block->dynamic_shared = static_cast<unsigned char*>(std::aligned_alloc(128, padded));
  std::memset(block->dynamic_shared, poison_byte(), block->dynamic_size);
  std::memset(block->dynamic_shared + block->dynamic_size, kGuardByte,
              padded - block->dynamic_size);
  poison(block->dynamic_shared + block->dynamic_size, padded - block->dynamic_size);

  const auto warp_count = static_cast<unsigned>(block->warps.size());
  for (unsigned i = 0; i < warp_count; ++i) block->warp_of_priority[i] = static_cast<uint8_t>(i);
  for (unsigned i = warp_count; i > 1; --i) {
    std::swap(block->warp_of_priority[i - 1], block->warp_of_priority[random_.below(i)]);
  }
  for (unsigned i = 0; i < warp_count; ++i) {
    block->priority_of_warp[block->warp_of_priority[i]] = static_cast<uint8_t>(i);
  }
  set_up_threads(block);
  start_race_check(block, static_shared().size);
  resident_.push_back(block);
}

void Scheduler::set_up_threads(Block* block) {
  const dim3 grid = shape_.grid;
  const dim3 size = shape_.block;
  const unsigned id = block->id;
  const uint3 block_index{id % grid.x, id / grid.x % grid.y, id / (grid.x * grid.y)};
  block->fibers.resize(block->thread_count);
  for (unsigned i = 0; i < block->thread_count; ++i) {
    Fiber* fiber = take_fiber();
    fiber->thread_index = uint3{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    fiber->block_index = block_index;
    fiber->block_dim = size;
    fiber->grid_dim = grid;
    fiber->dynamic_shared = block->dynamic_shared;
    fiber->linear = i;
    fiber->lane = i % kWarpSize;
    fiber->warp = i / kWarpSize;
    fiber->started = false;
    fiber->block = block;
    fiber->open_copies.clear();
    fiber->committed_copies.clear();
    reset_clock(fiber);
    block->fibers[i] = fiber;
    block->warps[fiber->warp].present |= 1u << fiber->lane;
    make_runnable(block, fiber->warp, 1u << fiber->lane);
  }
}

void Scheduler::retire_done_blocks() {
  for (size_t i = resident_.size(); i > 0; --i) {
    if (resident_[i - 1]->done == resident_[i - 1]->thread_count) retire(resident_[i - 1]);
  }
}

void Scheduler::retire(Block* block) {
  const size_t padded = (block->dynamic_size + 127) / 128 * 128 + kDynamicGuard;
  unpoison(block->dynamic_shared, padded);
  for (size_t i = block->dynamic_size; i < padded; ++i) {
    if (block->dynamic_shared[i] == kGuardByte) continue;
    report("out-of-bounds write to dynamic shared memory", Location{},
           "byte " + std::to_string(i) + " of " + std::to_string(block->dynamic_size));
    break;
  }
  std::free(block->dynamic_shared);
  for (Fiber* fiber : block->fibers) {
    abandon_stack(&fiber->context);
    free_fibers_.push_back(fiber);
  }
  if (active_ == block) active_ = nullptr;
  reuse_shared_image(std::move(block->static_shared));
  resident_.erase(std::find(resident_.begin(), resident_.end(), block));
  delete block;
}

void Scheduler::activate(Block* block) {
  if (active_ == block) return;
  place_static_shared(block->static_shared.get(),
                      active_ != nullptr ? active_->static_shared.get() : nullptr);
  active_ = block;
}

// Null, after a report, if no thread can ever run again.
Block* Scheduler::choose_block() {
  for (;;) {
    const size_t start =
        in_random_order() ? random_.below(static_cast<uint32_t>(resident_.size())) : 0;
    for (size_t i = 0; i < resident_.size(); ++i) {
      Block* block = resident_[(start + i) % resident_.size()];
      if (block->runnable_warps != 0) return block;
    }
    if (!promote_yielded()) {
      report_stuck("deadlock");
      return nullptr;
    }
    // A thread that spins may be waiting for a block that has not started.
    if (resident_.size() < kMaxResident && next_block_ < block_order_.size()) {
      ++resident_limit_;
      start_block();
    }
    if (++idle_rounds_ > kMaxIdleRounds) {
      report_stuck("livelock");
      return nullptr;
    }
  }
}

bool Scheduler::promote_yielded() {
  bool any = false;
  for (Block* block : resident_) {
    for (unsigned warps = block->yielded_warps; warps != 0; warps &= warps - 1) {
      Warp& warp = block->warps[lowest(warps)];
      warp.runnable |= warp.yielded;
      warp.yielded = 0;
      any = true;
    }
    block->runnable_warps |= block->yielded_warps;
    block->yielded_warps = 0;
  }
  return any;
}

void Scheduler::report_stuck(const char* what) {
  std::map<std::string, std::string> waiting;
  Location first;
  for (const Block* block : resident_) {
    for (const Fiber* fiber : block->fibers) {
      const Warp& warp = block->warps[fiber->warp];
      const bool in_warp_op = (warp.in_warp_op >> fiber->lane & 1) != 0;
      if (!in_warp_op && (warp.at_barrier >> fiber->lane & 1) == 0) continue;
      if (first.file == nullptr) first = fiber->waiting_at;
      char mask[32] = "";
      if (in_warp_op) {
        snprintf(mask, sizeof mask, " mask %08x", fiber->waiting_mask);
      }
      std::string& threads = waiting["block " + std::to_string(block->id) + " at " +
                                     describe(fiber->waiting_at) + mask];
      if (threads.size() < 80) threads += " " + std::to_string(fiber->linear);
    }
  }
  std::string detail = "no thread can make progress";
  for (const auto& entry : waiting) detail += "\n  " + entry.first + ": threads" + entry.second;
  report(what, first, detail);
}

unsigned Scheduler::pick_by_priority(Block* block) {
  const auto warp_count = static_cast<uint32_t>(block->warps.size());
  if (random_.one_in(kPrioritySwapOneIn)) {
    const unsigned a = random_.below(warp_count);
    const unsigned b = random_.below(warp_count);
    std::swap(block->priority_of_warp[a], block->priority_of_warp[b]);
    block->warp_of_priority[block->priority_of_warp[a]] = static_cast<uint8_t>(a);
    block->warp_of_priority[block->priority_of_warp[b]] = static_cast<uint8_t>(b);
  }
  unsigned priorities = 0;
  for (unsigned warps = block->runnable_warps; warps != 0; warps &= warps - 1) {
    priorities |= 1u << block->priority_of_warp[lowest(warps)];
  }
  return block->warp_of_priority[lowest(priorities)];
}

Fiber* Scheduler::pick(Block* block) {
  unsigned warp_index = 0;
  switch (policy_) {
    case Policy::kInOrder:
      warp_index = lowest(block->runnable_warps);
      break;
    case Policy::kReverse:
      warp_index = highest(block->runnable_warps);
      break;
    case Policy::kRandom:
      warp_index = random_bit(block->runnable_warps, random_);
      break;
    case Policy::kPriority:
      warp_index = pick_by_priority(block);
      break;
  }
  Warp& warp = block->warps[warp_index];
  unsigned lane = 0;
  if (policy_ == Policy::kInOrder) {
    lane = lowest(warp.runnable);
  } else if (policy_ == Policy::kReverse) {
    lane = highest(warp.runnable);
  } else {
    lane = random_bit(warp.runnable, random_);
  }
  warp.runnable &= ~(1u << lane);
  if (warp.runnable == 0) block->runnable_warps &= ~(1u << warp_index);
  return block->fibers[warp_index * kWarpSize + lane];
}

void Scheduler::resume(Fiber* fiber, Context* from, bool last) {
  ++counters().switches;
  if (!fiber->started) {
    fiber->started = true;
    prepare_context(&fiber->context, start_thread);
  }
  current = fiber;
  switch_context(from, &fiber->context, last);
}

void Scheduler::leave_for_host(Fiber* fiber, bool last) {
  ++counters().switches;
  switch_context(&fiber->context, &host_, last);
}

void Scheduler::switch_from(Fiber* fiber, bool last) {
  Block* block = fiber->block;
  const bool visit_other_block =
      in_random_order() && resident_.size() > 1 && random_.one_in(kBlockSwitchOneIn);
  if (block->runnable_warps == 0 || visit_other_block) {
    leave_for_host(fiber, last);
    return;
  }
  Fiber* next = pick(block);
  if (next != fiber) resume(next, &fiber->context, last);
}

void Scheduler::wait_for(Fiber* fiber, const Location& where) {
  fiber->waiting_at = where;
  switch_from(fiber, false);
}

void Scheduler::yield(Fiber* fiber) {
  Block* block = fiber->block;
  block->warp_of(*fiber).yielded |= 1u << fiber->lane;
  block->yielded_warps |= 1u << fiber->warp;
  switch_from(fiber, false);
}

void Scheduler::maybe_switch(Fiber* fiber) {
  if (!in_random_order()) return;
  make_runnable(fiber->block, fiber->warp, 1u << fiber->lane);
  switch_from(fiber, false);
}

// Called on a thread whose kernel has returned. Returns if a thread that has not started yet takes
// over this stack; else leaves for good.
void Scheduler::finish_and_continue() {
  Fiber* fiber = current_fiber();
  Block* block = fiber->block;
  idle_rounds_ = 0;
  note_thread_exit(fiber);
  const bool visit_other_block =
      in_random_order() && resident_.size() > 1 && random_.one_in(kBlockSwitchOneIn);
  if (block->runnable_warps == 0 || visit_other_block) {
    release_stack(&fiber->context);
    leave_for_host(fiber, true);
  }
  Fiber* next = pick(block);
  if (next->started) {
    release_stack(&fiber->context);
    resume(next, &fiber->context, true);
  }
  next->started = true;
  next->context = fiber->context;
  fiber->context = Context{};
  current = next;
}

void Scheduler::abort_launch() {
  aborted_ = true;
  leave_for_host(current_fiber(), true);
  std::abort();
}

void start_thread() {
  enter_context(scheduler.host());
  for (;;) {
    scheduler.invocation()->run();
    scheduler.finish_and_continue();
  }
}

}  // namespace

std::mutex& runtime_mutex() {
  static std::mutex instance;
  return instance;
}

Counters& counters() {
  static Counters instance;
  return instance;
}

bool run_launch(const char* name, const LaunchShape& shape, const Invocation& invocation) {
  return scheduler.run(name, shape, invocation);
}

void wait_for(Fiber* fiber, const Location& where) { scheduler.wait_for(fiber, where); }

void make_runnable(Block* block, unsigned warp, unsigned lanes) {
  if (lanes == 0) return;
  block->warps[warp].runnable |= lanes;
  block->runnable_warps |= 1u << warp;
}

void maybe_switch() { scheduler.maybe_switch(current_fiber()); }

void yield() { scheduler.yield(current_fiber()); }

void abort_launch() { scheduler.abort_launch(); }

void trap(const char* file, int line) {
  report("trap", Location{file, line, nullptr}, "");
  abort_launch();
}

Random& schedule_random() { return scheduler.random(); }

const Invocation* running_invocation() { return scheduler.invocation(); }

bool on_launching_thread() {
  return current != nullptr && launching_thread == __builtin_thread_pointer();
}

unsigned char poison_byte() {
  constexpr unsigned char kBytes[] = {0x7f, 0xff, 0xcb, 0x01};
  return kBytes[config().seed % 4];
}

}  // namespace simt
