// SPDX-License-Identifier: Apache-2.0
//
// Checks every memory access of a kernel for bounds, initialisation and happens-before order. Only
// race builds see the accesses; elsewhere these functions do nothing.
#pragma once

#include "thread_state.h"

namespace simt {

enum class Access { kRead, kWrite, kAtomic };

void begin_race_check();
void start_race_check(Block* block, size_t static_shared);
void reset_clock(Fiber* fiber);

// A kernel is about to access memory; does nothing on a host thread outside a launch.
void check_access(const void* address, size_t size, Access access, const Location& where);

// A kernel's access needs its natural alignment, as on the device.
void check_alignment(const void* address, size_t size, const Location& where);

// The bytes of shared memory are being written asynchronously: until they are written again,
// reading them is an error.
void mark_in_flight(const void* shared, size_t size);

// All threads of the block have met.
void pass_barrier(Block* block);

// The lanes of `mask` have met.
void pass_warp_sync(Fiber* const* lanes, unsigned mask, bool whole_warp);

// A thread's kernel has returned.
void note_thread_exit(Fiber* fiber);

}  // namespace simt
