// SPDX-License-Identifier: Apache-2.0
// Random numbers that are a function of who asks for them: the generator Philox4x32-10 of Salmon,
// Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", and the noise of
// Gumbel's distribution that is made of its words. To draw an id from softmax(z) is to take the
// largest z + noise (Gumbel 1954; Maddison, Tarlow and Minka 2014).
//
// A row has a key and a counter of 64 bits each. Bits of the noise of vocabulary id `i`:
//
//   block    Philox4x32-10 of the counter words {i / 128 * 32 + i % 32, 0, counter % 2^32,
//            counter / 2^32} with the key words {key % 2^32, key / 2^32}
//   w        word i / 32 % 4 of the block, so that 32 neighbours use the same word of 32 blocks
//   share(w) (w + 1/2) / 2^32, rounded once: (w / 65536) * 65536 + (w % 65536 + 1/2), times 2^-32
//   noise    -ln(e), e = -ln(u), u = share(~w)
//
// The second counter word is 0 for this noise; other uses of a row's key and counter take another.
// All of it is f32, every operation is rounded to nearest by itself, none is fused:
//
//   ln x     for x = m 2^k, with m from 0.70710677 (0x3f3504f3) up to twice that, and f = m - 1,
//            but f = -share(w) for the u that has k = 0, of which m - 1 has lost the last bits:
//            s = f / (2 + f); z = s s; p = ((2/9 z + 2/7) z + 2/5) z + 2/3;
//            ln x = k 0.69314718 + ((s + s) + s (z p))
//
// So the CPU, in every instruction set, and CUDA (cuda/philox.cuh) have the same bits. e is from
// 2^-33 on, and its distance from that of real numbers 3e-7 relative: an id is drawn with its
// probability times 1 + 2e-6 at most, but for what a grid of 2^-32 leaves of probabilities near it.
#pragma once

#include <cstring>

#include "args.h"

namespace exn {

struct PhiloxBlock {
  uint32_t words[4];
};

EXN_INLINE PhiloxBlock philox(PhiloxBlock counter, uint64_t key) {
  uint32_t (&c)[4] = counter.words;
  uint32_t low = static_cast<uint32_t>(key), high = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53} * c[0], b = uint64_t{0xcd9e8d57} * c[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ c[1] ^ low, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ c[3] ^ high, static_cast<uint32_t>(a)}};
    low += 0x9e3779b9;
    high += 0xbb67ae85;
  }
  return counter;
}

EXN_INLINE float share_of(uint32_t w) {
  return (static_cast<float>(w >> 16) * 65536.0f + (static_cast<float>(w & 0xffff) + 0.5f)) *
         0x1p-32f;
}

// x = (1 + f) 2^k
struct Split {
  float k, f;
};

EXN_INLINE Split split_of(float x) {
  constexpr uint32_t kLeast = 0x3f3504f3;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits += 0x3f800000 - kLeast;
  const uint32_t mantissa = (bits & 0x7fffff) + kLeast;
  float m;
  std::memcpy(&m, &mantissa, sizeof m);
  return {static_cast<float>(static_cast<int32_t>(bits >> 23) - 127), m - 1};
}

EXN_INLINE float log_of(const Split& x) {
  const float s = x.f / (2 + x.f), z = s * s;
  const float p = ((2 / 9.0f * z + 2 / 7.0f) * z + 2 / 5.0f) * z + 2 / 3.0f;
  return x.k * 0.69314718f + ((s + s) + s * (z * p));
}

EXN_INLINE float gumbel_of(uint32_t w) {
  Split u = split_of(share_of(~w));
  if (u.k == 0) u.f = -share_of(w);
  return -log_of(split_of(-log_of(u)));
}

// That of a vocabulary id.
EXN_INLINE float noise_of(uint64_t key, uint64_t counter, int32_t id) {
  const uint32_t i = static_cast<uint32_t>(id);
  const PhiloxBlock block = philox({{i / 128 * 32 + i % 32, 0, static_cast<uint32_t>(counter),
                                     static_cast<uint32_t>(counter >> 32)}},
                                   key);
  return gumbel_of(block.words[i / 32 % 4]);
}

}  // namespace exn
