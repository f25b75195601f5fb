// SPDX-License-Identifier: Apache-2.0
//
// Keywords, built-in variables and block-wide barriers.
#pragma once

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
// The host compiler decides: all of a kernel in one function, once for every set of its parameters,
// would take most of the compile time, and run no faster. Instrumented code is slower by far, though,
// if functions hand arrays to one another: each access to them is one that is looked at.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define __forceinline__ inline __attribute__((always_inline))
#else
#define __forceinline__ inline
#endif

// Static shared memory is thread-local to the host: the linker then gathers all of a library's
// shared variables in one place, also those of templates, which a named section would not get. The
// runtime gives each resident block a place of its own.
#define __shared__ static __thread

namespace simt {

// What a kernel can see of the thread that runs it.
struct Thread {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_dim;
  dim3 grid_dim;
  unsigned char* dynamic_shared;
  unsigned linear;
  unsigned lane;
  unsigned warp;
};

// The running emulated thread; null when no launch is running.
extern Thread* current;

enum class Vote { kOr, kAnd, kCount };

void barrier(const char* file, int line);
int barrier_vote(Vote vote, bool predicate, const char* file, int line);

// Lets other threads run; a spinning thread must pass through here.
void yield();

[[noreturn]] void trap(const char* file, int line);
void device_fence();
void block_fence();

}  // namespace simt

#define threadIdx (::simt::current->thread_index)
#define blockIdx (::simt::current->block_index)
#define blockDim (::simt::current->block_dim)
#define gridDim (::simt::current->grid_dim)
static constexpr int warpSize = 32;

#define EXN_DYN_SMEM(name) unsigned char* const name = ::simt::current->dynamic_shared

#define __syncthreads() ::simt::barrier(__FILE__, __LINE__)
#define __syncthreads_or(predicate) \
  ::simt::barrier_vote(::simt::Vote::kOr, (predicate) != 0, __FILE__, __LINE__)
#define __syncthreads_and(predicate) \
  ::simt::barrier_vote(::simt::Vote::kAnd, (predicate) != 0, __FILE__, __LINE__)
#define __syncthreads_count(predicate) \
  ::simt::barrier_vote(::simt::Vote::kCount, (predicate) != 0, __FILE__, __LINE__)

#define __trap() ::simt::trap(__FILE__, __LINE__)

inline void __threadfence() { simt::device_fence(); }
inline void __threadfence_system() { simt::device_fence(); }
inline void __threadfence_block() { simt::block_fence(); }
inline void __nanosleep(unsigned) { simt::yield(); }
