// SPDX-License-Identifier: Apache-2.0
// The CPU backend's thread pool. Each thread has a range of a loop of its own and takes from its
// front, where it reads on; whoever has nothing left takes from the back of another's.
//
// Fixed shares would stall whenever a thread is not scheduled, or reads more slowly than another:
// two threads on cores that share no cache were seen to read 20 and 31 GB/s. Pieces claimed from
// one counter would make each thread begin anew with each piece, and wait for the counter's line.
// Which thread does which piece never shows in a result: every piece writes its own place, and what
// is merged is merged afterwards in fixed order.
#pragma once

#include <cstdint>

namespace exn::cpu {

using Body = void (*)(void* context, int64_t begin, int64_t end);

// Calls body(context, begin, end) over all of [0, count) in pieces that begin at multiples of
// `chunk`, on up to exn_cpu_threads() threads, and returns when all are done. A call from a second
// thread while a loop runs does its loop alone.
void parallel_for_pieces(int64_t count, int64_t chunk, void* context, Body body);

// The same of a lambda. A single piece goes without the pool, through the same function: inlined
// for it, the loop would be compiled, and shipped, twice.
template <class F>
inline __attribute__((always_inline)) void parallel_for(int64_t count, int64_t chunk, F&& f) {
  struct Call {
    static __attribute__((noinline)) void body(void* context, int64_t begin, int64_t end) {
      (*static_cast<F*>(context))(begin, end);
    }
  };
  if (count > chunk) {
    parallel_for_pieces(count, chunk, &f, &Call::body);
  } else if (count > 0) {
    Call::body(&f, 0, count);
  }
}

int32_t threads();
void set_threads(int32_t threads);

}  // namespace exn::cpu
