// SPDX-License-Identifier: Apache-2.0
// Moves of entries that a list names, to a place of their own or within one tensor.
//
// Entries that lie apart cost more than their bytes: at each the hardware's prefetcher starts anew,
// and so does the translation of addresses. So the lines of an entry some way down the list are
// prefetched while this one is moved. Many bytes go past the caches, unless what they overwrite is
// there. docs/tuning.md has what each way was worth.
#pragma once

#include <type_traits>

#include "../simd/prefetch.h"
#include "isa.h"

namespace exn::cpu::EXN_ISA {

// ---- which way ----------------------------------------------------------------------------------

// Stores past the caches fetch no line only to overwrite it, and leave a core's share of the last
// level to what was there. But a line that is there is overwritten faster where it is, and then is
// there for the next reader. No size tells: the same buffers are in the cache in one program and
// not in the other. So a call that writes much times loads of a few lines.
struct Way {
  bool past = false;   // the caches
  bool again = false;  // each line is asked for several times
  bool near = false;   // all of it is in the cache
};

constexpr int kLooked = 8;
struct Look {
  int count = 0;
  const char* from[kLooked];
  const char* to[kLooked];
};

// How many of these lines, or of those `beside` them, are in no cache of this core; `most` is more
// than enough, and so are half of the lines if none is missing.
#if defined(__SSE2__)
static EXN_SIMD int missing_of(const char* const* lines, int count, uintptr_t beside, int most) {
  int missing = 0;
  const auto load = [](uintptr_t at) EXN_FLAT {
    uint8_t value;
    __asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(at) : "memory");
  };
  const auto ticks = []() EXN_FLAT {
    _mm_lfence();
    const auto now = static_cast<int64_t>(__builtin_ia32_rdtsc());
    _mm_lfence();
    return now;
  };
  constexpr int kAtOnce = 4;
  for (int i = 0; i < count && missing < most && (missing > 0 || i < kAtOnce); ++i) {
    // Other lines of the same pages first: the translation of addresses is not to be timed.
    for (int k = i; i % kAtOnce == 0 && k < i + kAtOnce && k < count; ++k)
      load(reinterpret_cast<uintptr_t>(lines[k]) ^ 2048);
    const int64_t before = ticks();
    load(reinterpret_cast<uintptr_t>(lines[i]) ^ beside);
    missing += ticks() - before < tuning().cached_ticks ? 0 : 1;
  }
  return missing;
}
#else
static EXN_SIMD int missing_of(const char* const*, int, uintptr_t, int) { return 0; }
#endif

// The way of a call that reads and writes so much for each thread.
static EXN_SIMD Way way_of(const Look& look, int64_t bytes) {
  constexpr int64_t kRoom = int64_t{10} << 20;  // a third of a last level, which others use, too
  constexpr int kFew = kLooked / 8;
  const int from = missing_of(look.from, look.count, 0, kFew + 1);
  const int to = missing_of(look.to, look.count, 2 * kLine, kFew + 1);
  Way way;
  way.past = to > kFew;
  // Of a call past the caches these lines are left in them, and tell the next one whether what it
  // writes could have stayed there; those beside are like all others.
  if (way.past && from <= 1 && bytes <= kRoom) way.past = missing_of(look.to, look.count, 0, 2) > 1;
  way.again = from > kFew;
  way.near = !way.past && !way.again;
  return way;
}

// ---- one entry ----------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef uint8_t vector_t __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));

template <int kBytes>
static EXN_SIMD void move_bytes(char* to, const char* from) {
  struct Bytes {
    char all[kBytes];
  } bytes;
  __builtin_memcpy(&bytes, from, kBytes);
  __builtin_memcpy(to, &bytes, kBytes);
}

// Lines that are read before any of them is written, as many as registers hold: in one go with the
// lines prefetched they keep more reads under way than line after line does (every other line
// first: the hardware fetches neighbours along). Through the caches four in order do better.
#if defined(__AVX512F__)
constexpr int kMoveLines = 8;
#elif defined(__AVX__)
constexpr int kMoveLines = 4;
#else
constexpr int kMoveLines = 1;
#endif

static EXN_SIMD constexpr int nth_line(int i, int lines) {
  const int half = (lines + 1) / 2;
  return i < half ? 2 * i : 2 * (i - half) + 1;
}

static EXN_SIMD void write_vector(char* to, vector_t v) { *reinterpret_cast<vector_t*>(to) = v; }

// Goes past the caches, where the instruction set can do that. `to`: a multiple of the vector.
static EXN_SIMD void stream_vector(char* to, vector_t v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(v));
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(v));
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(v));
#else
  write_vector(to, v);
#endif
}

// kLines lines, one after another in memory; streamed: `to` is a multiple of 64.
template <bool kStream, int kLines>
static EXN_SIMD void move_lines(char* to, const char* from) {
  constexpr int kVectors = static_cast<int>(kLine) / kVectorBytes;
  vector_t vectors[kLines][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kLines; ++i) {
    const int line = kStream ? nth_line(i, kLines) : i;
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p)
      vectors[line][p] = *reinterpret_cast<const vector_t*>(from + line * kLine + p * kVectorBytes);
  }
#pragma GCC unroll 8
  for (int line = 0; line < kLines; ++line) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) {
      char* at = to + line * kLine + p * kVectorBytes;
      kStream ? stream_vector(at, vectors[line][p]) : write_vector(at, vectors[line][p]);
    }
  }
}

// What was streamed becomes visible before what is written next.
static EXN_SIMD void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Less than a line; the two halves of a move may overlap.
static EXN_SIMD void move_rest(char* to, const char* from, int64_t bytes) {
  if (bytes >= 32) {
    move_bytes<32>(to, from);
    move_bytes<32>(to + bytes - 32, from + bytes - 32);
  } else if (bytes >= 16) {
    move_bytes<16>(to, from);
    move_bytes<16>(to + bytes - 16, from + bytes - 16);
  } else if (bytes >= 8) {
    move_bytes<8>(to, from);
    move_bytes<8>(to + bytes - 8, from + bytes - 8);
  } else if (bytes >= 4) {
    move_bytes<4>(to, from);
    move_bytes<4>(to + bytes - 4, from + bytes - 4);
  } else if (bytes >= 2) {
    move_bytes<2>(to, from);
    move_bytes<2>(to + bytes - 2, from + bytes - 2);
  } else if (bytes == 1) {
    *to = *from;
  }
}

// kLines lines; kPrefetch: and prefetches as many at `next`.
template <bool kStream, bool kPrefetch, int kLines>
static EXN_SIMD void move_block(char* to, const char* from, const char* next) {
  if constexpr (kPrefetch) {
#pragma GCC unroll 8
    for (int k = 0; k < kLines; ++k) prefetch_l2(next + nth_line(k, kLines) * kLine);
    if constexpr (kLines > 1) in_order();  // or the loads come among them
  }
  constexpr int kMost = kStream || kMoveLines < 4 ? kMoveLines : 4;
  constexpr int kGroupLines = kLines < kMost ? kLines : kMost;
#pragma GCC unroll 4
  for (int k = 0; k < kLines; k += kGroupLines)
    move_lines<kStream, kGroupLines>(to + k * kLine, from + k * kLine);
}

// Moves `bytes` bytes; kPrefetch: and prefetches as many at `next`, which will be moved soon.
// Streamed: `to` is a multiple of 64.
template <bool kStream, bool kPrefetch>
static EXN_SIMD void move_aligned(char* to, const char* from, int64_t bytes, const char* next) {
  if constexpr (kMoveLines > 1) {  // pointers that advance: otherwise addresses crowd the registers
    constexpr int64_t kBlock = kMoveLines * kLine;
    for (; bytes >= kBlock; bytes -= kBlock, to += kBlock, from += kBlock) {
      move_block<kStream, kPrefetch, kMoveLines>(to, from, next);
      if constexpr (kPrefetch) next += kBlock;
    }
  }
  int64_t i = 0;
  const auto step = [&](auto lines) EXN_FLAT {
    move_block<kStream, kPrefetch, lines>(to + i, from + i, next + (kPrefetch ? i : 0));
    i += lines * kLine;
  };
  if (kMoveLines > 4 && i + 4 * kLine <= bytes) step(std::integral_constant<int, 4>());
  if (kMoveLines > 2 && i + 2 * kLine <= bytes) step(std::integral_constant<int, 2>());
  while (i + kLine <= bytes) step(std::integral_constant<int, 1>());
  if (i == bytes) return;
  if constexpr (kPrefetch) prefetch_l2(next + bytes - 1);
  move_rest(to + i, from + i, bytes - i);
}

// `to` and `from` do not overlap.
template <bool kStream, bool kPrefetch>
static EXN_SIMD void move_entry(char* to, const char* from, int64_t bytes, const char* next) {
  int64_t skewed = 0;
  if constexpr (kStream) {
    skewed = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & (kLine - 1));
    if (skewed >= bytes) return move_aligned<false, kPrefetch>(to, from, bytes, next);
    if constexpr (kPrefetch) prefetch_l2(next);
    move_rest(to, from, skewed);
  }
  if constexpr (kPrefetch) next += skewed;
  move_aligned<kStream, kPrefetch>(to + skewed, from + skewed, bytes - skewed, next);
}

// ---- entries of a list --------------------------------------------------------------------------

// Entries of kAbreastLeast to kAbreastMost bytes are streamed kAbreast at a time, a block of each
// in turn, while the same block of those kAbreast further down is prefetched: the loads of a single
// one run so far ahead that stores wait for buffers. Eight longer ones would be prefetched so early
// that L2 loses them again, eight shorter ones too late. With AVX2, made for an L2 half as large,
// longer entries go one after another, and what lies kWithin bytes further on, in this entry or the
// next, is prefetched.
constexpr int kAbreast = 8;
#if defined(__AVX512F__)
constexpr int64_t kAbreastLeast = int64_t{1} << 10, kAbreastMost = int64_t{32} << 10;
constexpr int64_t kWithin = 0;
#else
constexpr int64_t kAbreastLeast = int64_t{256}, kAbreastMost = int64_t{2} << 10;
constexpr int64_t kWithin = int64_t{2} << 10;
#endif
constexpr int64_t kShort = 512;

// Moves entries [begin, end) of `bytes` bytes, one after another: entry i from from(i), which is
// null if it is to be left out, to to(i). Those up to `last` come next. What lies side by side for
// longer than kDense bytes is left to the hardware's prefetcher, which is better at it.
template <bool kStream, class From, class To>
static EXN_SIMD void move_singly(int64_t begin, int64_t end, int64_t last, int64_t bytes,
                                 From&& from, To&& to) {
  constexpr int64_t kAhead = int64_t{16} << 10;  // bytes: about what is under way to the memory
  constexpr int64_t kDense = int64_t{64} << 10;
  const bool within = kWithin > 0 && bytes > kWithin;
  const int64_t ahead = within || bytes >= kAhead ? 1 : kAhead / (bytes < kLine ? kLine : bytes);
  const char* after = nullptr;  // the end of the last entry that came next
  int64_t dense = 0;
  for (int64_t i = begin; i < end; ++i) {
    const char* next = i + ahead < last ? from(i + ahead) : nullptr;
    dense = next != nullptr && next == after ? dense + bytes : 0;
    after = next != nullptr ? next + bytes : nullptr;
    const char* source = from(i);
    char* target = to(i);
    if (source == nullptr || source == target) continue;
    if (next != nullptr && dense < kDense) {
      const int64_t head = within ? bytes - kWithin : 0;
      if (within) move_entry<kStream, true>(target, source, head, source + kWithin);
      move_entry<kStream, true>(target + head, source + head, bytes - head, next);
    } else {
      move_entry<kStream, false>(target, source, bytes, nullptr);
    }
  }
}

static EXN_SIMD bool goes_abreast(int64_t bytes) {
  return bytes >= kAbreastLeast && bytes <= kAbreastMost;
}

// Targets: multiples of 64. In place an entry is written where one before it in the list is read:
// block by block that one comes first.
template <class From, class To>
static EXN_SIMD void move_abreast(int64_t first, int64_t last, int64_t bytes, From&& from,
                                  To&& to) {
  constexpr int kLines = 4;
  constexpr int64_t kBlock = kLines * kLine;
  const char* source[kAbreast];
  const char* next[kAbreast];
  char* target[kAbreast];
  for (int k = 0; k < kAbreast; ++k) {
    source[k] = from(first + k);
    target[k] = to(first + k);
    const char* ahead = first + k + kAbreast < last ? from(first + k + kAbreast) : nullptr;
    next[k] = ahead != nullptr ? ahead : source[k];
  }
  int64_t i = 0;
  for (; i + kBlock <= bytes; i += kBlock) {
    for (int k = 0; k < kAbreast; ++k)
      move_block<true, true, kLines>(target[k] + i, source[k] + i, next[k] + i);
  }
  for (int k = 0; i < bytes && k < kAbreast; ++k)
    move_aligned<true, true>(target[k] + i, source[k] + i, bytes - i, next[k] + i);
}

// Whether kAbreast entries may go so: all of them move, to whole lines.
template <class From, class To>
static EXN_SIMD bool may_go_abreast(int64_t first, From&& from, To&& to) {
  bool all = true;
  for (int64_t i = first; i < first + kAbreast; ++i) {
    all &= from(i) != nullptr && from(i) != to(i);
    all &= reinterpret_cast<uintptr_t>(to(i)) % kLine == 0;
  }
  return all;
}

// Streams entries of kShort bytes, as a head's 128 f32 of K or V, one after another in a loop that
// keeps nothing on the stack: so short an entry is moved in the time that it takes to keep eight
// abreast in order. The first line is prefetched further ahead than the others, which then find its
// page open. Returns where it stopped: at a target that is no multiple of 64, or at the end.
template <class From, class To>
static EXN_SIMD int64_t move_short(int64_t begin, int64_t end, int64_t last, From&& from, To&& to) {
  constexpr int64_t kFar = 8, kNear = 4;  // entries
  constexpr int kLines = 4;
  for (int64_t i = begin; i < end; ++i) {
    const char* source = from(i);
    char* target = to(i);
    if (source == nullptr || source == target) continue;
    if (reinterpret_cast<uintptr_t>(target) % kLine != 0) return i;
    const char* far = i + kFar < last ? from(i + kFar) : nullptr;
    const char* near = i + kNear < last ? from(i + kNear) : nullptr;
    if (far == nullptr) far = source;
    if (near == nullptr) near = source;
    prefetch_l2(far);
#pragma GCC unroll 8
    for (int64_t line = 1; line < kShort / kLine; ++line) prefetch_l2(near + line * kLine);
    in_order();  // or the loads come among them
#pragma GCC unroll 2
    for (int64_t at = 0; at < kShort; at += kLines * kLine)
      move_lines<true, kLines>(target + at, source + at);
  }
  return end;
}

// ---- entries prefetched again -------------------------------------------------------------------

// The load of a line whose request was lost waits for memory. So where requests are lost each line
// is asked for several times, which costs little where it is on its way already. Requests, loads
// and stores take turns line by line: of requests in bursts more are lost.

// Entries are cut into blocks of one size; the last one of an entry may begin within the one before
// it. Of four to eight lines those that overlap least.
static EXN_SIMD int64_t block_of(int64_t bytes) {
  constexpr int64_t kMost = 8;
  const int64_t lines = (bytes + kLine - 1) / kLine;
  if (lines <= kMost) return lines * kLine;
  int64_t best = kMost, least = kMost;
  for (int64_t n = kMost; n >= kMost / 2; --n) {
    const int64_t twice = (lines + n - 1) / n * n - lines;
    if (twice >= least) continue;
    least = twice;
    best = n;
  }
  return best * kLine;
}

// Goes through the blocks of entries, one after another; after the last block of all that one is
// repeated.
template <class From, class To>
struct BlockWalk {
  const From& from;
  const To& to;
  const int64_t last, bytes, block, to_next_list;
  int64_t named, stop_after;  // the next entry, and the end of those that are moved
  int64_t list = 0;
  const char *source = nullptr, *final = nullptr;  // this block, and the last one of its entry
  char* target = nullptr;

  // To the next block; false if it is the first one of an entry beyond `end`.
  EXN_SIMD bool step() {
    if (source != final) {
      const int64_t step = final - source < block ? final - source : block;
      source += step;
      target += step;
      return true;
    }
    if (named == last && list != to_next_list) {
      named = 0;
      stop_after = -1;
      list = to_next_list;
    }
    bool found = false;
    while (!found && named < last) {
      const char* entry = from(named);
      target = to(named);
      ++named;
      if (entry == nullptr || entry == target) continue;
      source = entry + list;
      final = source + (bytes - (bytes < block ? bytes : block));
      found = true;
    }
    return found && named <= stop_after;
  }
};

// Entries of at least a line.
template <bool kPast, class From, class To>
static EXN_SIMD void move_again(int64_t begin, int64_t end, int64_t last, int64_t bytes,
                                From&& from, To&& to, int64_t to_next_list) {
  constexpr uint64_t kTimes = kEntryTimes, kApart = kEntryBlocksApart;
  constexpr uint64_t kFar = kTimes * kApart, kRing = 64;
  static_assert(kFar < kRing, "");
  const int64_t block = block_of(bytes), moved = bytes < block ? bytes : block;

  // Block n down the list is at n % kRing. Block `stop` is the first of an entry beyond `end`.
  const char* sources[kRing];
  char* targets[kRing];
  uint64_t stop = UINT64_MAX;
  BlockWalk<std::remove_reference_t<From>, std::remove_reference_t<To>> walk = {
      from, to, last, bytes, block, to_next_list, begin, end};
  const auto queue = [&](uint64_t n) EXN_FLAT {
    if (!walk.step() && n < stop) stop = n;
    sources[n % kRing] = walk.source;
    targets[n % kRing] = walk.target;
  };
  for (uint64_t n = 0; n < kFar; ++n) queue(n);

  for (uint64_t n = 0; n < stop; ++n) {
    queue(n + kFar);
    const char* ahead[kTimes];
#pragma GCC unroll 8
    for (uint64_t k = 0; k < kTimes; ++k) {
      ahead[k] = sources[(n + (kTimes - k) * kApart) % kRing];
      __asm__("" : "+r"(ahead[k]));  // or the addresses of all its lines crowd the registers
    }
    const auto prefetch = [&](int64_t line) EXN_FLAT {
#pragma GCC unroll 8
      for (uint64_t k = 0; k < kTimes; ++k) prefetch_l2(ahead[k] + line);
      in_order();  // or the loads come among them
    };
    const char* read = sources[n % kRing];
    char* written = targets[n % kRing];
    if (moved == block && (!kPast || reinterpret_cast<uintptr_t>(written) % kLine == 0)) {
      for (int64_t line = 0; line < block; line += kLine) {
        prefetch(line);
        move_lines<kPast, 1>(written + line, read + line);
        in_order();
      }
    } else {
      for (int64_t line = 0; line < block; line += kLine) prefetch(line);
      move_entry<kPast, false>(written, read, moved, nullptr);
    }
  }
}

// ---- entries in the cache -----------------------------------------------------------------------

// Entries of at least a line. Of what is prefetched for long ones the hardware has most already.
template <class From, class To>
static EXN_SIMD void move_near(int64_t begin, int64_t end, int64_t last, int64_t bytes, From&& from,
                               To&& to) {
  constexpr int kLines = 2;
  constexpr int64_t kStep = kLines * kLine;
  const int64_t ahead = bytes < kNearLong ? kNearAhead / bytes : 0;
  for (int64_t i = begin; i < end; ++i) {
    const char* source = from(i);
    char* target = to(i);
    if (source == nullptr || source == target) continue;
    int64_t at = 0;
    if (ahead > 0) {
      const char* next = i + ahead < last ? from(i + ahead) : nullptr;
      if (next == nullptr) next = source;
      for (; at + kStep <= bytes; at += kStep) {
        prefetch_lines<kLines>(next + at);
        in_order();  // or the loads come among them
        move_lines<false, kLines>(target + at, source + at);
      }
    } else {
      for (; at + kStep <= bytes; at += kStep) move_lines<false, kLines>(target + at, source + at);
    }
    if (at < bytes) move_aligned<false, false>(target + at, source + at, bytes - at, nullptr);
  }
}

// ---- entries, whichever way ---------------------------------------------------------------------

// Entries [begin, end) of `bytes` bytes: entry i from from(i), which is null if it is to be left
// out, to to(i). Those up to `last` come next. If to_next_list is not 0, entries 0 to `last` follow
// then, from so many bytes further on.
template <class From, class To>
struct Moves {
  int64_t begin, end, last, bytes;
  From from;
  To to;
  int64_t to_next_list;
};
template <class From, class To>
Moves(int64_t, int64_t, int64_t, int64_t, From, To, int64_t) -> Moves<From, To>;

template <class M>
static EXN_SIMD void move_entries(Way way, const M& moves) {
  const M m = moves;  // a copy that no store can alias
  if (way.again && m.bytes >= kLine) {
    if (way.past)
      move_again<true>(m.begin, m.end, m.last, m.bytes, m.from, m.to, m.to_next_list);
    else
      move_again<false>(m.begin, m.end, m.last, m.bytes, m.from, m.to, m.to_next_list);
    return;
  }
  if (!way.past) {
    if (way.near && m.bytes >= kLine)
      return move_near(m.begin, m.end, m.last, m.bytes, m.from, m.to);
    return move_singly<false>(m.begin, m.end, m.last, m.bytes, m.from, m.to);
  }
  int64_t i = m.begin;
  if (m.bytes == kShort) i = move_short(i, m.end, m.last, m.from, m.to);
  for (; goes_abreast(m.bytes) && i + kAbreast <= m.end; i += kAbreast) {
    if (may_go_abreast(i, m.from, m.to)) {
      move_abreast(i, m.last, m.bytes, m.from, m.to);
    } else {
      move_singly<true>(i, i + kAbreast, m.last, m.bytes, m.from, m.to);
    }
  }
  move_singly<true>(i, m.end, m.last, m.bytes, m.from, m.to);
}

// ---- sharing ------------------------------------------------------------------------------------

// How `entries` entries of `bytes` bytes are cut into units: slices of the entries' bytes times
// blocks of the list. In place a unit passes through the whole list, or a thread would write
// entries that another has yet to read; between slices nothing is shared.
struct Cut {
  int64_t bytes, width, slices;
  int64_t entries, block, blocks;

  EXN_SIMD int64_t units() const { return slices * blocks; }
  EXN_SIMD int64_t first_byte(int64_t unit) const { return unit % slices * width; }
  EXN_SIMD int64_t width_of(int64_t unit) const {
    const int64_t rest = bytes - first_byte(unit);
    return rest < width ? rest : width;
  }
  EXN_SIMD int64_t begin(int64_t unit) const { return unit / slices * block; }
  EXN_SIMD int64_t end(int64_t unit) const {
    const int64_t end = begin(unit) + block;
    return end < entries ? end : entries;
  }
};

// `lanes`: how many such lists of entries there are beside this one.
static EXN_SIMD Cut cut_moves(int64_t entries, int64_t bytes, int64_t lanes, bool in_place) {
  constexpr int64_t kUnit = int64_t{128} << 10, kWidest = int64_t{256} << 10;
  Cut cut = {bytes, bytes, 1, entries, entries, 1};
  if (bytes == 0 || entries == 0 || lanes == 0) {
    cut.slices = 0;
    return cut;
  }
  if (in_place) {
    constexpr int64_t kNarrowest = 4096;  // slices of less read memory in too small pieces
    const int64_t wanted = threads() > 1 ? (2 * threads() + lanes - 1) / lanes : 1;
    cut.slices = wanted < bytes / kNarrowest ? wanted : bytes / kNarrowest;
    if (cut.slices < 1) cut.slices = 1;
  } else {
    cut.slices = (bytes + kWidest - 1) / kWidest;
  }
  cut.width = ((bytes + cut.slices - 1) / cut.slices + kLine - 1) / kLine * kLine;
  if (cut.width > bytes) cut.width = bytes;
  cut.slices = (bytes + cut.width - 1) / cut.width;
  if (in_place) return cut;
  cut.block = kUnit / cut.width + 1;
  if (goes_abreast(cut.width)) cut.block = (cut.block + kAbreast - 1) / kAbreast * kAbreast;
  cut.blocks = (entries + cut.block - 1) / cut.block;
  return cut;
}

// A call that writes so much looks; on processors where it does not, past the caches it goes from
// kStreamed bytes on.
constexpr int64_t kLookedAt = int64_t{2} << 20, kStreamed = int64_t{4} << 20;

// Shares `units` units that move `bytes` bytes in all: with_moves(unit, f) calls f(moves).
template <class With>
static EXN_SIMD void move_units(int64_t units, int64_t bytes, With&& with_moves) {
  constexpr int64_t kWorthSharing = int64_t{128} << 10;
  if (units == 0) return;
  Way way;
  Look look;
  const bool looks = tuning().cached_ticks > 0 && bytes >= kLookedAt;
  if (looks) {
    for (int64_t k = 0; k < kLooked; ++k) {  // in the chunk that this thread begins with
      with_moves(units * (3 * k % kLooked) / (kLooked * threads()), [&](const auto& m) EXN_FLAT {
        if (m.begin >= m.end) return;
        const int64_t i = m.begin + (m.end - m.begin) * (2 * k + 1) / (2 * kLooked);
        const char* const from = m.from(i);
        look.to[look.count] = m.to(i) + m.bytes / 2;
        look.from[look.count] = from != nullptr ? from + m.bytes / 2 : look.to[look.count];
        ++look.count;
      });
    }
    way = way_of(look, 2 * bytes / threads());
  } else if (tuning().cached_ticks == 0) {
    way.past = bytes >= kStreamed;
  }
  const int64_t of_one = bytes / units + 1;
  // Not too many pieces: at the end of one what was asked for ahead is another's. Not too few: for
  // the last one a thread may wait.
  const int64_t fair = bytes / (16 * threads());
  const int64_t least = kWorthSharing / of_one + 1;
  const int64_t chunk = fair / of_one > least ? fair / of_one : least;
  parallel_for(units, chunk, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit)
      with_moves(unit, [&](const auto& m) EXN_FLAT { move_entries(way, m); });
    if (way.past) end_stream();
  });
  // For the next call's way_of.
  for (int k = 0; way.past && k < look.count; ++k) prefetch_l2(look.to[k]);
}

}  // namespace exn::cpu::EXN_ISA
