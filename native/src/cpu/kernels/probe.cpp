// SPDX-License-Identifier: Apache-2.0
// The probes: kernels with nothing to do but to be as fast as the machine. The read probe must read
// each byte once, the copy probe read and write it, the FMA probe moves nothing.
#include <cstring>

#include "moves.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kProbePiece = int64_t{256} << 10;

uint64_t read_lines(const char* p, int64_t bytes) {
  probe_v acc[4] = {probe_zero(), probe_zero(), probe_zero(), probe_zero()};
  int64_t i = 0;
  for (; i + 4 * kLine <= bytes; i += 4 * kLine) {
    for (int k = 0; k < 4; ++k) acc[k] = probe_add(acc[k], p + i + k * kLine);
  }
  for (; i + kLine <= bytes; i += kLine) acc[0] = probe_add(acc[0], p + i);
  const probe_v all = probe_add(probe_add(acc[0], acc[1]), probe_add(acc[2], acc[3]));
  uint64_t words[sizeof(probe_v) / sizeof(uint64_t)];
  std::memcpy(words, &all, sizeof words);
  uint64_t sum = 0;
  for (uint64_t word : words) sum += word;
  for (; i < bytes; ++i) sum += static_cast<uint8_t>(p[i]);
  return sum;
}

// Lines that are read before the first of them is written, as many as registers hold.
constexpr int kCopyLines = kPart > 16 ? 4 : 2;

// Whoever stores past the caches does so because memory is the limit, and then it pays to prefetch,
// into L2 or L1. Stores through the caches only lose by it.
template <bool kStream, bool kL2>
void copy_lines(char* to, const char* from, int64_t bytes) {
  constexpr int64_t kAhead = kL2 ? 4096 : 2048;
  constexpr int kBlock = kCopyLines * static_cast<int>(kLine), kParts = kBlock / kPart;
  int64_t i = 0;
  if constexpr (kStream) {
    const int64_t skewed = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & (kLine - 1));
    i = skewed < bytes ? skewed : bytes;
    std::memcpy(to, from, static_cast<size_t>(i));
  }
  for (; i + kBlock <= bytes; i += kBlock) {
    part_t parts[kParts];
    if constexpr (kStream) {
      if (i + kAhead + kBlock <= bytes) {
        for (int k = 0; k < kCopyLines; ++k) {
          const char* const line = from + i + kAhead + k * kLine;
          kL2 ? prefetch_l2(line) : prefetch_l1(line);
        }
        if constexpr (kL2) in_order();
      }
    }
#pragma GCC unroll 8
    for (int k = 0; k < kParts; ++k)
      parts[k] = *reinterpret_cast<const part_t*>(from + i + k * kPart);
#pragma GCC unroll 8
    for (int k = 0; k < kParts; ++k) {
      char* at = to + i + k * kPart;
      kStream ? stream_part(at, parts[k]) : write_part(at, parts[k]);
    }
  }
  std::memcpy(to + i, from + i, static_cast<size_t>(bytes - i));
  if constexpr (kStream) end_stream();
}

// Independent sums that hide the latency of a multiply-add and leave a register for its factor.
constexpr int kFmaSums = 12;
constexpr int64_t kRound = int64_t{kFmaSums} * kLanes;
// A sum counts its own multiply-adds, which f32 does exactly up to 2^24.
constexpr int64_t kRoundsOfAPiece = 4096;

uint64_t count_rounds(int64_t rounds) {
  // A factor that the compiler does not know keeps it from knowing the sums.
  volatile float unknown = 1.0f;
  const f32v one = set1(unknown);
  f32v sums[kFmaSums];
  for (f32v& sum : sums) sum = zero();
  for (int64_t i = 0; i < rounds; ++i) {
    for (f32v& sum : sums) sum = fma(sum, one, one);
  }
  uint64_t done = 0;
  for (const f32v& sum : sums) done += static_cast<uint64_t>(reduce_add(sum));
  return done;
}

// Pieces for all threads; f gets the first byte and the number of bytes of some neighbouring ones.
template <class F>
void for_pieces(int64_t bytes, F&& f) {
  const int64_t pieces = (bytes + kProbePiece - 1) / kProbePiece;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * kProbePiece < bytes ? end * kProbePiece : bytes;
    f(begin * kProbePiece, last - begin * kProbePiece);
  });
}

}  // namespace

uint64_t read_probe(const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  uint64_t total = 0;
  for_pieces(bytes, [&](int64_t first, int64_t count) {
    __atomic_fetch_add(&total, read_lines(p + first, count), __ATOMIC_RELAXED);
  });
  return total;
}

void copy_probe(void* to, const void* from, int64_t bytes, bool past_caches) {
  char* target = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
#if defined(__AVX512F__)
  const bool by_l2 = tuning().copy_by_l2;
#else
  const bool by_l2 = false;
#endif
  for_pieces(bytes, [&](int64_t first, int64_t count) {
    if (!past_caches) {
      copy_lines<false, false>(target + first, source + first, count);
    } else if (by_l2) {
      copy_lines<true, true>(target + first, source + first, count);
    } else {
      copy_lines<true, false>(target + first, source + first, count);
    }
  });
}

uint64_t fma_probe(uint64_t multiply_adds) {
  const int64_t rounds =
      static_cast<int64_t>(multiply_adds / kRound + (multiply_adds % kRound > 0 ? 1 : 0));
  const int64_t pieces = (rounds + kRoundsOfAPiece - 1) / kRoundsOfAPiece;
  uint64_t total = 0;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    uint64_t done = 0;
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t rest = rounds - piece * kRoundsOfAPiece;
      done += count_rounds(rest < kRoundsOfAPiece ? rest : kRoundsOfAPiece);
    }
    __atomic_fetch_add(&total, done, __ATOMIC_RELAXED);
  });
  return total;
}

}  // namespace exn::cpu::EXN_ISA
