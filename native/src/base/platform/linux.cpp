// SPDX-License-Identifier: Apache-2.0
// Linux. What it shares with other POSIX systems is in posix.cpp.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <new>

#include "base/platform/platform.h"
#include "base/platform/posix.h"

namespace exn::platform {

int32_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int n = CPU_COUNT(&set);
  return n < 1 ? 1 : n;
}

int current_core() { return sched_getcpu(); }

void wait_on(std::atomic<uint32_t>* word, uint32_t seen, uint32_t sleepers) {
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, nullptr, nullptr, sleepers);
}

void wake(std::atomic<uint32_t>* word, uint32_t sleepers) {
  syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, nullptr, nullptr, sleepers);
}

// ---- a thread -----------------------------------------------------------------------------------

struct Thread::State : PosixThread {
  static constexpr int kUnknown = -1;

  std::atomic<int> off{kUnknown};
  std::atomic_flag placing = ATOMIC_FLAG_INIT;
  cpu_set_t allowed, given;

  // Gives it what f leaves of the cores that others allow it (taskset may be called at any time).
  template <class F>
  void place(int core, F&& f) {
    if (placing.test_and_set(std::memory_order_acquire)) return;
    off.store(core, std::memory_order_relaxed);
    cpu_set_t now;
    if (pthread_getaffinity_np(thread, sizeof now, &now) == 0) {
      if (!CPU_EQUAL(&now, &given)) allowed = now;
      cpu_set_t wanted = allowed;
      f(&wanted);
      if (CPU_COUNT(&wanted) == 0) wanted = allowed;
      given = pthread_setaffinity_np(thread, sizeof wanted, &wanted) == 0 ? wanted : now;
    }
    placing.clear(std::memory_order_release);
  }
};

bool Thread::begin(void (*main)(void*), void* argument, size_t stack) {
  if (state_ == nullptr) state_ = new (std::nothrow) State;
  if (state_ == nullptr) return false;
  state_->main = main;
  state_->argument = argument;
  state_->off.store(State::kUnknown, std::memory_order_relaxed);
  state_->placing.clear(std::memory_order_relaxed);  // in a forked child it may be set
  const bool runs = state_->begin(stack);
  CPU_ZERO(&state_->given);  // so what it has now is taken for what others allow it
  return runs;
}

void Thread::join() { pthread_join(state_->thread, nullptr); }

void Thread::keep_off(int core) {
  if (state_->off.load(std::memory_order_relaxed) == core) return;
  state_->place(core, [&](cpu_set_t* cores) { CPU_CLR(core, cores); });
}

void Thread::move_to(int core) {
  state_->place(State::kUnknown, [&](cpu_set_t* cores) {
    if (!CPU_ISSET(core, cores)) return;
    CPU_ZERO(cores);
    CPU_SET(core, cores);
  });
}

int64_t Thread::ran() const {
  clockid_t clock;
  timespec time;
  if (pthread_getcpuclockid(state_->thread, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    return 0;
  }
  return int64_t{1000000000} * time.tv_sec + time.tv_nsec;
}

// ---- memory, processor --------------------------------------------------------------------------

void prefer_large_pages(void* p, size_t bytes) { madvise(p, bytes, MADV_HUGEPAGE); }

// Linux refuses them where a signal stack of one of the process's threads is too short for them.
bool may_use_tiles() {
#if defined(__x86_64__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

std::string library_in(const std::string& folder, const char* name) {
  return folder + "lib" + name + ".so";
}

}  // namespace exn::platform
