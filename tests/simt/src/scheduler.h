// SPDX-License-Identifier: Apache-2.0
//
// Runs the threads of a launch, one at a time, in the order a policy chooses.
#pragma once

#include <mutex>

#include "config.h"
#include "static_shared.h"
#include "thread_state.h"

namespace simt {

// Held by every entry point of the runtime, launches included.
std::mutex& runtime_mutex();

// Runs a launch to its end. False if the checker found something. Needs runtime_mutex.
bool run_launch(const char* name, const LaunchShape& shape, const Invocation& invocation);

// For the code that runs on an emulated thread:

// The thread waits; control returns once make_runnable was called for its lane.
void wait_for(Fiber* fiber, const Location& where);
void make_runnable(Block* block, unsigned warp, unsigned lanes);

// Lets the policy choose again among all runnable threads, this one included.
void maybe_switch();

// Ends the launch at once; a memory access that cannot be carried out leaves no other way.
[[noreturn]] void abort_launch();

Random& schedule_random();

// The invocation whose arguments the running kernel reads.
const Invocation* running_invocation();

// Whether the caller is kernel code, and not another host thread while a launch runs.
bool on_launching_thread();

// The byte that fills memory no kernel has written yet; depends on the seed.
unsigned char poison_byte();

struct Counters {
  uint64_t launches = 0;
  uint64_t switches = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
};
Counters& counters();

}  // namespace simt
