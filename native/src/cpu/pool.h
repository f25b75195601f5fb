// SPDX-License-Identifier: Apache-2.0
// The CPU backend's thread pool. Each thread has a range of a loop of its own and takes from its
// front, where it reads on; a thread that has nothing left takes from the back of another's.
//
// Fixed shares would stall whenever a thread is not scheduled, or reads more slowly than another:
// two threads on cores that share no cache were seen to read 20 and 31 GB/s. Pieces claimed from
// one counter would make each thread begin anew with each piece, and wait for the counter's line.
// Which thread does which piece never shows in a result: every piece writes its own place, and what
// is merged is merged afterwards in fixed order.
//
// Several callers have a loop each, and share the threads: each has its own and a team of workers.
// Of T threads k callers get T / k each, rounded down, and the first T % k of them one more; where k
// is T or more, each runs alone. That is counted when a loop begins: after its piece, a worker
// leaves a loop that has too many when a further caller has come, but a loop gets no more of them
// when a caller goes. A caller that comes back within 25 us, as ops that follow each other do, counts as
// having stayed. docs/architecture.md, Threads, says where the workers run.
#pragma once

#include <cstdint>

namespace exn::cpu {

// Bytes of memory of its own that a thread has for a body. A caller may have little stack left, 80
// KiB on a thread of Java, so no body may keep large arrays there: the caller's scratch memory comes
// from its workspace, a worker's from the worker.
constexpr int64_t kMostScratch = int64_t{256} << 10;

using Body = void (*)(void* context, void* scratch, int64_t begin, int64_t end);

// Calls body(context, scratch, begin, end) over all of [0, count) in pieces that begin at multiples
// of `chunk`, on up to exn_cpu_threads() threads, and returns when all are done. `scratch` is the
// calling thread's; on a worker the body gets kMostScratch bytes, aligned to 64. Neither is
// initialised.
void parallel_for_pieces(int64_t count, int64_t chunk, void* context, void* scratch, Body body);

// The same of a lambda f(begin, end, Scratch&). A single piece goes without the pool, through the
// same function: inlined for it, the loop would be compiled, and shipped, twice.
template <class Scratch, class F>
inline __attribute__((always_inline)) void parallel_for(int64_t count, int64_t chunk, Scratch* own,
                                                        const F& f) {
  static_assert(sizeof(Scratch) <= kMostScratch && alignof(Scratch) <= 64);
  struct Call {
    static __attribute__((noinline)) void body(void* context, void* scratch, int64_t begin,
                                               int64_t end) {
      (*static_cast<const F*>(context))(begin, end, *static_cast<Scratch*>(scratch));
    }
  };
  void* const context = const_cast<F*>(&f);  // its operator() is const
  if (count > chunk) {
    parallel_for_pieces(count, chunk, context, own, &Call::body);
  } else if (count > 0) {
    Call::body(context, own, 0, count);
  }
}

// The same of a lambda f(begin, end).
template <class F>
inline __attribute__((always_inline)) void parallel_for(int64_t count, int64_t chunk, F&& f) {
  struct Call {
    static __attribute__((noinline)) void body(void* context, void*, int64_t begin, int64_t end) {
      (*static_cast<F*>(context))(begin, end);
    }
  };
  if (count > chunk) {
    parallel_for_pieces(count, chunk, &f, nullptr, &Call::body);
  } else if (count > 0) {
    Call::body(&f, nullptr, 0, count);
  }
}

// 0 if EXEUNT_THREADS is no number from 0 to 256 and set_threads() gave none.
int32_t threads();
// 0: what EXEUNT_THREADS says, or all cores. False if that is no such number.
bool set_threads(int32_t threads);

}  // namespace exn::cpu
