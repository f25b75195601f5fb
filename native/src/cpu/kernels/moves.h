// SPDX-License-Identifier: Apache-2.0
// Moves of entries that a list names, to a place of their own or within one tensor.
//
// Entries that lie apart cost more than their bytes: at each the hardware's prefetcher starts anew,
// and so does the translation of addresses. So the lines of an entry some way down the list are
// asked for while this one is moved.
#pragma once

#include "isa.h"

namespace exn::cpu::EXN_ISA {

// ---- one entry ----------------------------------------------------------------------------------

constexpr int64_t kLine = 64;
#if defined(__AVX512F__)
constexpr int kPart = 64;
#elif defined(__AVX__)
constexpr int kPart = 32;
#else
constexpr int kPart = 16;
#endif
typedef uint8_t part_t __attribute__((vector_size(kPart), aligned(1), may_alias));

template <int kBytes>
static EXN_SIMD void move_bytes(char* to, const char* from) {
  struct Bytes {
    char all[kBytes];
  } bytes;
  __builtin_memcpy(&bytes, from, kBytes);
  __builtin_memcpy(to, &bytes, kBytes);
}

static EXN_SIMD void move_line(char* to, const char* from) {
  part_t parts[kLine / kPart];
  for (int i = 0; i < kLine / kPart; ++i)
    parts[i] = *reinterpret_cast<const part_t*>(from + i * kPart);
  for (int i = 0; i < kLine / kPart; ++i) *reinterpret_cast<part_t*>(to + i * kPart) = parts[i];
}

// A line at a multiple of 64 that goes past the caches, where the instruction set can do that.
static EXN_SIMD void stream_line(char* to, const char* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX__)
  const __m256i* parts = reinterpret_cast<const __m256i*>(from);
  const __m256i low = _mm256_loadu_si256(parts), high = _mm256_loadu_si256(parts + 1);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), low);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to) + 1, high);
#elif defined(__SSE2__)
  const __m128i* parts = reinterpret_cast<const __m128i*>(from);
  __m128i line[4];
  for (int i = 0; i < 4; ++i) line[i] = _mm_loadu_si128(parts + i);
  for (int i = 0; i < 4; ++i) _mm_stream_si128(reinterpret_cast<__m128i*>(to) + i, line[i]);
#else
  move_line(to, from);
#endif
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

static EXN_SIMD void ask_for(const char* line) { __builtin_prefetch(line, 0, 2); }

// `next` is as long and will be moved soon. `to` and `from` do not overlap.
template <bool kStream>
static EXN_SIMD void move_entry(char* to, const char* from, int64_t bytes, const char* next) {
  int64_t i = 0;
  if constexpr (kStream) {
    const int64_t skewed = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & (kLine - 1));
    if (skewed > 0 && skewed < bytes) {
      ask_for(next);
      move_rest(to, from, skewed);
      i = skewed;
    }
    if (skewed < bytes) {
      for (; i + kLine <= bytes; i += kLine) {
        ask_for(next + i);
        stream_line(to + i, from + i);
      }
    }
  }
  for (; i + kLine <= bytes; i += kLine) {
    ask_for(next + i);
    move_line(to + i, from + i);
  }
  if (i == bytes) return;
  ask_for(next + bytes - 1);
  move_rest(to + i, from + i, bytes - i);
}

// ---- entries of a list --------------------------------------------------------------------------

// Moves entries [begin, end) of `bytes` bytes, one after another: entry i from from(i), which is
// null if it is to be left out, to to(i). Those up to `last` come next.
template <bool kStream, class From, class To>
static EXN_SIMD void move_entries(int64_t begin, int64_t end, int64_t last, int64_t bytes,
                                  From&& from, To&& to) {
  constexpr int64_t kAhead = int64_t{16} << 10;  // bytes: about what is under way to the memory
  const int64_t ahead = bytes < kAhead ? kAhead / (bytes < kLine ? kLine : bytes) : 1;
  for (int64_t i = begin; i < end; ++i) {
    const char* source = from(i);
    char* target = to(i);
    if (source == nullptr || source == target) continue;
    const char* next = i + ahead < last ? from(i + ahead) : nullptr;
    move_entry<kStream>(target, source, bytes, next != nullptr ? next : source);
  }
  if constexpr (kStream) end_stream();
}

// A call that writes this much stores past the caches: no line is fetched only to be overwritten,
// and a core's share of the last level is left to what was there.
constexpr int64_t kStreamed = int64_t{4} << 20;

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
    constexpr int64_t kNarrowest = 1024;  // slices of less read memory in too small pieces
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
  cut.blocks = (entries + cut.block - 1) / cut.block;
  return cut;
}

// Shares `units` units that move `bytes` bytes in all.
template <class F>
static EXN_SIMD void for_units(int64_t units, int64_t bytes, F&& f) {
  constexpr int64_t kWorthSharing = int64_t{128} << 10;
  if (units == 0) return;
  const int64_t of_one = bytes / units + 1;
  parallel_for(units, kWorthSharing / of_one + 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) f(unit);
  });
}

}  // namespace exn::cpu::EXN_ISA
