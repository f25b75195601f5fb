// SPDX-License-Identifier: Apache-2.0
// The probes: kernels with nothing to do but to be as fast as the machine. The read probe must read
// each byte once, the copy probe read and write it, the FMA probe moves nothing.
#include <cstring>

#include "moves.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kProbePiece = int64_t{256} << 10;

// Sums of lines, several side by side.
constexpr int kSums = 4;
struct Sums {
  probe_v all[kSums];

  EXN_SIMD Sums() {
    for (probe_v& sum : all) sum = probe_zero();
  }
  // kLines lines, of which each has a sum for itself as far as there are some.
  template <int kLines>
  EXN_SIMD void add(const char* p) {
#pragma GCC unroll 8
    for (int k = 0; k < kLines; ++k) all[k % kSums] = probe_add(all[k % kSums], p + k * kLine);
  }
  EXN_SIMD uint64_t total() const {
    const probe_v sum = probe_add(probe_add(all[0], all[1]), probe_add(all[2], all[3]));
    uint64_t words[sizeof(probe_v) / sizeof(uint64_t)], total = 0;
    std::memcpy(words, &sum, sizeof words);
    for (uint64_t word : words) total += word;
    return total;
  }
};

// How a processor reads fastest depends on where the bytes are, and on the processor.
enum class Prefetch { kNone, kL1, kL2 };

// Line after line, kLines in a step, prefetched so many bytes ahead.
template <int kLines, Prefetch kInto = Prefetch::kNone, int kAhead = 0>
void read_lines(const char* p, int64_t bytes, Sums* sums) {
  constexpr int64_t kStep = kLines * kLine;
  Sums own = *sums;
  int64_t i = 0;
  for (; i + kStep <= bytes; i += kStep) {
    if constexpr (kInto != Prefetch::kNone) {
      for (int k = 0; k < kLines; ++k) {
        const char* const line = p + i + kAhead + k * kLine;
        kInto == Prefetch::kL2 ? prefetch_l2(line) : prefetch_l1(line);
      }
    }
    own.add<kLines>(p + i);
  }
  for (; i + kLine <= bytes; i += kLine) own.add<1>(p + i);
  *sums = own;
}

using Reader = void (*)(const char* p, int64_t bytes, Sums* sums);
constexpr Reader kReaders[] = {read_lines<2>,
                               read_lines<8>,
                               read_lines<4, Prefetch::kL1, 2048>,
                               read_lines<4, Prefetch::kL1, 4096>,
                               read_lines<4, Prefetch::kL2, 2048>,
                               read_lines<4, Prefetch::kL2, 16384>};
static_assert(sizeof kReaders / sizeof *kReaders == EXN_READ_WAYS);

// Lines that are read before the first of them is written, as many as registers hold.
constexpr int kCopyLines = kVectorBytes > 16 ? 4 : 2;
constexpr int64_t kCopyBlock = kCopyLines * kLine;

template <bool kStream>
EXN_SIMD void copy_block(char* to, const char* from) {
  constexpr int kVectors = static_cast<int>(kCopyBlock) / kVectorBytes;
  vector_t vectors[kVectors];
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k)
    vectors[k] = *reinterpret_cast<const vector_t*>(from + k * kVectorBytes);
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k)
    kStream ? stream_vector(to + k * kVectorBytes, vectors[k])
            : write_vector(to + k * kVectorBytes, vectors[k]);
}

// Streamed: `to` is a multiple of 64. Lines are prefetched kTimes, each time kAhead bytes nearer,
// as requests are lost where many are under way. What is left is less than a block.
template <bool kStream, Prefetch kInto = Prefetch::kNone, int kAhead = 0, int kTimes = 1>
int64_t copy_blocks(char* to, const char* from, int64_t bytes) {
  int64_t i = 0;
  for (; i + kCopyBlock <= bytes; i += kCopyBlock) {
    if constexpr (kInto != Prefetch::kNone) {
      for (int k = 0; k < kTimes * kCopyLines; ++k) {
        const char* const line = from + i + (k / kCopyLines + 1) * kAhead + k % kCopyLines * kLine;
        kInto == Prefetch::kL2 ? prefetch_l2(line) : prefetch_l1(line);
      }
      if constexpr (kInto == Prefetch::kL2) in_order();
    }
    copy_block<kStream>(to + i, from + i);
  }
  return i;
}

using Copier = int64_t (*)(char* to, const char* from, int64_t bytes);
constexpr Copier kCopiers[] = {
    copy_blocks<false>, copy_blocks<true>, copy_blocks<true, Prefetch::kL1, 2048>,
    copy_blocks<true, Prefetch::kL2, 4096>, copy_blocks<true, Prefetch::kL2, 4096, 5>};
static_assert(sizeof kCopiers / sizeof *kCopiers == EXN_COPY_WAYS);

void copy_bytes(Copier copier, char* to, const char* from, int64_t bytes) {
  const auto skewed = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & (kLine - 1));
  int64_t i = skewed < bytes ? skewed : bytes;
  std::memcpy(to, from, static_cast<size_t>(i));
  i += copier(to + i, from + i, bytes - i);
  std::memcpy(to + i, from + i, static_cast<size_t>(bytes - i));
  end_stream();
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

uint64_t read_probe(const void* data, int64_t bytes, int32_t way) {
  const char* p = static_cast<const char*>(data);
  uint64_t total = 0;
  for_pieces(bytes, [&](int64_t first, int64_t count) {
    Sums sums;
    kReaders[way](p + first, count, &sums);
    uint64_t sum = sums.total();
    for (int64_t i = count / kLine * kLine; i < count; ++i)
      sum += static_cast<uint8_t>(p[first + i]);
    __atomic_fetch_add(&total, sum, __ATOMIC_RELAXED);
  });
  return total;
}

void copy_probe(void* to, const void* from, int64_t bytes, int32_t way) {
  char* target = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
  for_pieces(bytes, [&](int64_t first, int64_t count) {
    copy_bytes(kCopiers[way], target + first, source + first, count);
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
