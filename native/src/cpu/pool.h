// SPDX-License-Identifier: Apache-2.0
// The CPU backend's thread pool: workers claim chunks of a loop one after another,
// and the caller takes part.
//
// A pool that hands out fixed shares stalls whenever one of its threads is not scheduled; a
// claiming pool lets whoever runs do the work. Which thread does which chunk never shows in a
// result: every chunk writes its own place, and what is merged is merged afterwards in fixed order.
#pragma once

#include <cstdint>

namespace exn::cpu {

using Body = void (*)(void* context, int64_t begin, int64_t end);

// Calls body(context, begin, end) over all of [0, count) in pieces of `chunk`, on up to
// exn_cpu_threads() threads, and returns when all pieces are done. A call from a second thread
// while a loop runs does its loop alone.
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
