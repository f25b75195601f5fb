// SPDX-License-Identifier: Apache-2.0
//
// draft_lookup: what followed the last few tokens of a text where they stood before.
#pragma once

#include <cstdint>

#include "elements.cuh"
#include "reduce.cuh"

namespace exn::cuda {

struct DraftLookupTask {
  int64_t sequences;  // S
  int64_t capacity;   // T
  int64_t stride;     // elements between texts
  int64_t width;      // A
  int64_t most;       // K
  int32_t* context;
  int32_t* length;
  const int32_t* append;
  const int32_t* append_count;
  const uint8_t* active;
  const int32_t* limit;
  int32_t* drafted;
  int32_t* draft_length;
  int32_t* matched;
  int min_ngram;
  int max_ngram;
  int most_matched;
};

constexpr int kLookupThreads = 1024;
constexpr int kLookupWarps = kLookupThreads / kWarp;
constexpr int kLookupMost = 64;  // tokens that are compared
constexpr int kLookupLoads = 4;  // of four tokens each, that a thread has under way
constexpr int64_t kLookupQuads = int64_t{kLookupThreads} * kLookupLoads;

// How long a match is, and where the text goes on after it; 0: there is none. The longer is the
// larger number, of those as long the later.
using LookupKey = unsigned long long;
__device__ __forceinline__ LookupKey lookup_key(int tokens, int next) {
  return static_cast<LookupKey>(tokens) << 32 | static_cast<unsigned>(next);
}
__device__ __forceinline__ int tokens_of(LookupKey key) { return static_cast<int>(key >> 32); }

struct LargestKey {
  __device__ __forceinline__ static LookupKey apply(LookupKey a, LookupKey b) {
    return a > b ? a : b;
  }
};

struct LookupShared {
  LookupKey keys[kLookupWarps];
  int numbers[kLookupWarps];
  int32_t tail[kLookupMost];  // the last tokens of a text, the last one first
};

// The smallest of what the threads have.
__device__ __forceinline__ int smallest(int value, LookupShared& shared) {
  value = block_reduce<Min, kLookupWarps>(value, shared.numbers);
  __syncthreads();  // the next call writes `numbers` again
  return value;
}

// How many tokens are to be appended to text s, if that many are sound. By all threads.
__device__ __forceinline__ int tokens_to_append(const DraftLookupTask& task, int64_t s, int most,
                                                LookupShared& shared) {
  if (task.append == nullptr) return 0;
  int ends = most;
  for (int64_t i = threadIdx.x; i < ends; i += kLookupThreads) {
    if (task.append[s * task.width + i] < 0) ends = static_cast<int>(i);
  }
  return smallest(ends, shared);
}

// Four tokens from `first` on, of which those outside of 0 .. count - 1 are not read.
__device__ __forceinline__ int4 load_quad(const int32_t* text, int first, int count) {
  const int rest = count - first;
  if (first >= 0 && rest >= 4) return *reinterpret_cast<const int4*>(text + first);
  const auto one = [&](int i) { return i < rest && first + i >= 0 ? text[first + i] : 0; };
  return {one(0), one(1), one(2), one(3)};
}

// The longest match of more than `longest` tokens that a thread finds among those that end with a
// token of a quad, and of those the latest.
__device__ __forceinline__ void search_quad(const int32_t* text, const int4& quad, int first,
                                            int count, int most, const int32_t* tail, int* longest,
                                            LookupKey* found) {
  const int32_t tokens[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
  for (int e = 3; e >= 0; --e) {
    if (tokens[e] != tail[0] || e >= count - first || first + e < 0 || *longest == most) continue;
    // A token is there often, two are rarely.
    if (e > 0 && *longest > 0 && tokens[e - 1] != tail[1]) continue;
    const int last = first + e;
    const int reach = min(most, last + 1);
    int m = 1;
    while (m < reach && text[last - m] == tail[m]) ++m;
    if (m <= *longest) continue;
    *longest = m;
    *found = lookup_key(m, last + 1);
  }
}

// The longest match of a text of `length` tokens, by all threads: from its end on, until there is
// one of max_ngram tokens. Quads are those of aligned memory.
__device__ __forceinline__ LookupKey find_match(const DraftLookupTask& task, const int32_t* text,
                                                int length, LookupShared& shared) {
  const int skew = static_cast<int>(reinterpret_cast<uintptr_t>(text) / sizeof(int32_t) % 4);
  const int count = length - 1;  // tokens that a match may end with
  const int64_t quads = count > 0 ? (int64_t{count} + skew + 3) / 4 : 0;
  LookupKey best = 0;
#pragma unroll 1
  for (int64_t done = 0; done < quads && tokens_of(best) < task.max_ngram; done += kLookupQuads) {
    int4 quad[kLookupLoads];
    int first[kLookupLoads];
#pragma unroll
    for (int k = 0; k < kLookupLoads; ++k) {
      const int64_t index = quads - 1 - done - k * kLookupThreads - static_cast<int>(threadIdx.x);
      // Below 0, so far that no token of it exists.
      first[k] = index < 0 ? -4 - skew : static_cast<int>(4 * index - skew);
      quad[k] = load_quad(text, first[k], count);
    }
    int longest = max(tokens_of(best), task.min_ngram - 1);
    LookupKey found = 0;
#pragma unroll
    for (int k = 0; k < kLookupLoads; ++k) {
      search_quad(text, quad[k], first[k], count, task.max_ngram, shared.tail, &longest, &found);
    }
    best = LargestKey::apply(best, block_reduce<LargestKey, kLookupWarps>(found, shared.keys));
    __syncthreads();  // the next round writes `keys` again
  }
  return best;
}

// Whether what an active sequence brings along can be used.
__device__ __forceinline__ bool is_sound(const DraftLookupTask& task, int64_t s) {
  const int length = task.length[s];
  const int count = task.append_count != nullptr ? task.append_count[s] : 0;
  return length >= 0 && length <= task.capacity && count >= 0 && count <= task.width &&
         (task.limit == nullptr || task.limit[s] >= 0);
}

// Writes the draft of a sequence, of which there are `n` tokens from `next` on. By all threads.
__device__ __forceinline__ void write_draft(const DraftLookupTask& task, int64_t s,
                                            const int32_t* text, int period, int n) {
  for (int64_t i = threadIdx.x; i < task.most; i += kLookupThreads) {
    task.drafted[s * task.most + i] = i < n ? text[static_cast<int>(i) % period] : -1;
  }
}

// Bytes: each token of a text once, from the end on until there is a match of max_ngram tokens, in
// parts of 64 KiB. A block per sequence: a text of 32 k tokens is two such parts, and a second
// launch, which would join what several blocks find, takes as long.
static __global__ __launch_bounds__(kLookupThreads) void draft_lookup_kernel(DraftLookupTask task) {
  __shared__ LookupShared shared;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t s = blockIdx.x; s < task.sequences; s += gridDim.x) {
    int32_t* const text = task.context + s * task.stride;
    const bool on = task.active == nullptr || task.active[s] != 0;
    bool sound = on && is_sound(task, s);
    const int before = sound ? task.length[s] : 0;
    const int most = !sound                         ? 0
                     : task.append_count != nullptr ? task.append_count[s]
                                                    : static_cast<int>(task.width);
    const int more = tokens_to_append(task, s, most, shared);
    sound = sound && more <= task.capacity - before;
    int n = 0, matched = 0, period = 1;
    const int32_t* next = text;
    if (sound) {
      const int length = before + more;
      for (int64_t i = thread; i < more; i += kLookupThreads)
        text[before + i] = task.append[s * task.width + i];
      __syncthreads();  // all have read the length, and all tokens are there
      if (thread == 0) task.length[s] = length;
      if (thread < task.most_matched && thread < length)
        shared.tail[thread] = text[length - 1 - thread];
      __syncthreads();
      const LookupKey match = find_match(task, text, length, shared);
      if (match != 0) {
        const int at = static_cast<int>(match & 0xffffffffu);
        next = text + at;
        period = length - at;
        const int space = static_cast<int>(min(task.most, task.capacity - 1 - length));
        n = max(0, task.limit != nullptr ? min(space, task.limit[s]) : space);
        int ends = n;
        for (int64_t i = thread; i < ends && i < period; i += kLookupThreads) {
          if (next[i] < 0) ends = static_cast<int>(i);
        }
        n = smallest(ends, shared);
        matched = tokens_of(match);
        if (matched == task.max_ngram) {
          matched = min(task.most_matched, at);
          const bool differs = thread < matched && text[at - 1 - thread] != shared.tail[thread];
          matched = smallest(differs ? thread : matched, shared);
        }
      }
    }
    write_draft(task, s, next, period, n);
    if (thread == 0) {
      task.draft_length[s] = on && !sound ? -1 : n;
      if (task.matched != nullptr) task.matched[s] = matched;
    }
    __syncthreads();  // the next sequence writes what is shared again
  }
}

}  // namespace exn::cuda
