// SPDX-License-Identifier: Apache-2.0
// macOS. What it shares with other POSIX systems is in posix.cpp.
#include <mach/mach.h>
#include <pthread.h>
#include <sys/sysctl.h>

#include <new>

#include "base/platform/platform.h"
#include "base/platform/posix.h"

namespace exn::platform {

int32_t usable_cores() {
  int32_t cores = 0;
  size_t bytes = sizeof cores;
  return sysctlbyname("hw.logicalcpu", &cores, &bytes, nullptr, 0) != 0 || cores < 1 ? 1 : cores;
}

// Threads cannot be placed here.
int current_core() { return -1; }

// ---- sleeping by a word -------------------------------------------------------------------------

namespace {

// Words share a few condition variables: one who wakes for another's sake looks and sleeps again.
struct alignas(64) Bed {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
};

Bed& bed_of(const std::atomic<uint32_t>* word) {
  static Bed beds[16];
  return beds[reinterpret_cast<uintptr_t>(word) / 64 % 16];
}

}  // namespace

void wait_on(std::atomic<uint32_t>* word, uint32_t seen, uint32_t) {
  Bed& bed = bed_of(word);
  pthread_mutex_lock(&bed.mutex);
  if (word->load(std::memory_order_seq_cst) == seen) pthread_cond_wait(&bed.woken, &bed.mutex);
  pthread_mutex_unlock(&bed.mutex);
}

void wake(std::atomic<uint32_t>* word, uint32_t) {
  Bed& bed = bed_of(word);
  pthread_mutex_lock(&bed.mutex);  // between another's look at the word and its sleep
  pthread_cond_broadcast(&bed.woken);
  pthread_mutex_unlock(&bed.mutex);
}

// ---- a thread -----------------------------------------------------------------------------------

struct Thread::State : PosixThread {};

bool Thread::begin(void (*main)(void*), void* argument, size_t stack) {
  if (state_ == nullptr) state_ = new (std::nothrow) State;
  if (state_ == nullptr) return false;
  state_->main = main;
  state_->argument = argument;
  return state_->begin(stack);
}

void Thread::join() { pthread_join(state_->thread, nullptr); }

void Thread::keep_off(int) {}

void Thread::move_to(int) {}

int64_t Thread::ran() const { return 0; }

// ---- memory, processor --------------------------------------------------------------------------

void prefer_large_pages(void*, size_t) {}  // those of 16 KiB are all there are

bool may_use_tiles() { return false; }

std::string library_in(const std::string& folder, const char* name) {
  return folder + "lib" + name + ".dylib";
}

}  // namespace exn::platform
