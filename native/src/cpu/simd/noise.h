// SPDX-License-Identifier: Apache-2.0
// The words and the noise of base/philox.h, operation by operation, for vectors of blocks and words:
// the same bits.
#pragma once

#include "simd.h"

namespace exn::cpu::EXN_ISA {

typedef uint32_t word_v __attribute__((vector_size(4 * kLanes)));
typedef int32_t level_v __attribute__((vector_size(4 * kLanes)));
typedef float noise_v __attribute__((vector_size(4 * kLanes)));
// Of each two lanes of words one, in the lower half; what is in the upper half means nothing.
typedef uint64_t wide_v __attribute__((vector_size(4 * kLanes)));

static EXN_SIMD f32v floats_of(noise_v x) {
  f32v floats;
  std::memcpy(&floats, &x, sizeof floats);
  return floats;
}

// The words times a factor.
static EXN_SIMD wide_v times(wide_v a, uint32_t factor) {
#if defined(__AVX512F__)
  return reinterpret_cast<wide_v>(
      _mm512_mul_epu32(reinterpret_cast<__m512i>(a), _mm512_set1_epi32(static_cast<int>(factor))));
#elif defined(__AVX2__)
  // Of 64 bytes, where AVX-512 is emulated, both halves.
  constexpr int kHalves = sizeof a / sizeof(__m256i);
  __m256i half[kHalves];
  std::memcpy(half, &a, sizeof a);
  for (__m256i& h : half) h = _mm256_mul_epu32(h, _mm256_set1_epi32(static_cast<int>(factor)));
  std::memcpy(&a, half, sizeof a);
  return a;
#elif defined(__aarch64__)
  return reinterpret_cast<wide_v>(vmull_n_u32(vmovn_u64(reinterpret_cast<uint64x2_t>(a)), factor));
#else
  return reinterpret_cast<wide_v>(
      _mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi32(static_cast<int>(factor))));
#endif
}

// What the blocks of a row have in common. Half of the products in the first two rounds are the same
// for all of them.
struct NoiseRow {
  uint32_t key[20];                             // of each round two
  uint32_t counter_high, first, second, third;  // with the keys that they meet
};

static EXN_SIMD NoiseRow noise_row(uint64_t key, uint64_t counter) {
  NoiseRow row;
  for (uint32_t round = 0; round < 10; ++round) {
    row.key[2 * round] = static_cast<uint32_t>(key) + round * 0x9e3779b9u;
    row.key[2 * round + 1] = static_cast<uint32_t>(key >> 32) + round * 0xbb67ae85u;
  }
  const uint64_t b = uint64_t{0xcd9e8d57} * static_cast<uint32_t>(counter);
  const uint64_t a = uint64_t{0xd2511f53} * (static_cast<uint32_t>(b >> 32) ^ row.key[0]);
  row.first = static_cast<uint32_t>(b) ^ row.key[2];
  row.counter_high = static_cast<uint32_t>(counter >> 32) ^ row.key[1];
  row.second = static_cast<uint32_t>(a >> 32) ^ row.key[3];
  row.third = static_cast<uint32_t>(a);
  return row;
}

struct WideWords {
  wide_v words[4];
};

static EXN_SIMD WideWords noise_words(wide_v block, const NoiseRow& row) {
  const auto both = [](uint32_t x) EXN_FLAT { return reinterpret_cast<wide_v>(word_v{} + x); };
  wide_v c[4];
  const wide_v a = times(block, 0xd2511f53),
               b = times(a >> 32 ^ both(row.counter_high), 0xcd9e8d57);
  c[0] = b >> 32 ^ both(row.first);
  c[1] = b;
  c[2] = a ^ both(row.second);
  c[3] = both(row.third);
  for (int round = 2; round < 10; ++round) {
    const wide_v d = times(c[0], 0xd2511f53), e = times(c[2], 0xcd9e8d57);
    c[0] = e >> 32 ^ c[1] ^ both(row.key[2 * round]);
    c[1] = e;
    c[2] = d >> 32 ^ c[3] ^ both(row.key[2 * round + 1]);
    c[3] = d;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

static EXN_SIMD word_v join(wide_v even, wide_v odd) {
  return reinterpret_cast<word_v>((even & 0xffffffff) | odd << 32);
}

// All words of the blocks of each lane.
struct NoiseWords {
  word_v words[4];
};

static EXN_SIMD NoiseWords noise_words(word_v blocks, const NoiseRow& row) {
  const auto even = reinterpret_cast<wide_v>(blocks);
  const WideWords a = noise_words(even, row), b = noise_words(even >> 32, row);
  NoiseWords all;
  for (int i = 0; i < 4; ++i) all.words[i] = join(a.words[i], b.words[i]);
  return all;
}

static EXN_SIMD word_v lane_numbers() {
  word_v lanes;
  for (int l = 0; l < kLanes; ++l) lanes[l] = static_cast<uint32_t>(l);
  return lanes;
}

static EXN_SIMD noise_v share_of(word_v w) {
  const auto whole = [](word_v n) EXN_FLAT {  // below 2^16
    return __builtin_convertvector(reinterpret_cast<level_v>(n), noise_v);
  };
  return (whole(w >> 16) * 65536.0f + (whole(w & 0xffff) + 0.5f)) * 0x1p-32f;
}

// x = (1 + f) 2^k
struct Splits {
  noise_v k, f;
};

static EXN_SIMD Splits split_of(noise_v x) {
  constexpr uint32_t kLeast = 0x3f3504f3;
  const word_v bits = reinterpret_cast<word_v>(x) + (0x3f800000 - kLeast);
  const auto k = reinterpret_cast<level_v>(bits >> 23) - 127;
  return {__builtin_convertvector(k, noise_v),
          reinterpret_cast<noise_v>((bits & 0x7fffff) + kLeast) - 1.0f};
}

static EXN_SIMD noise_v log_of(const Splits& x) {
  const noise_v s = x.f / (2.0f + x.f), z = s * s;
  const noise_v p = ((2 / 9.0f * z + 2 / 7.0f) * z + 2 / 5.0f) * z + 2 / 3.0f;
  return x.k * 0.69314718f + ((s + s) + s * (z * p));
}

static EXN_SIMD f32v gumbel_of(word_v w) {
  Splits u = split_of(share_of(~w));
  u.f = u.k == 0.0f ? -share_of(w) : u.f;
  return floats_of(-log_of(split_of(-log_of(u))));
}

// At least that, and where it is 3 or more at most .1 above it. With v = share(w) it is at most
// -ln v, and the bits of a float x are, as a number, at most 2^23 (127 + log2 x). Half of w is a
// signed number. 1e-4 is thrice what all roundings may come to.
static EXN_SIMD f32v gumbel_bound(word_v w) {
  constexpr float kLn2 = 0.69314718f;
  const noise_v half = __builtin_convertvector(reinterpret_cast<level_v>(w >> 1), noise_v);
  const noise_v level = __builtin_convertvector(reinterpret_cast<level_v>(half), noise_v);
  return floats_of((158 * kLn2 + 1e-4f) - level * (kLn2 * 0x1p-23f));
}

static EXN_SIMD word_v smaller(word_v a, word_v b) { return a < b ? a : b; }

}  // namespace exn::cpu::EXN_ISA
