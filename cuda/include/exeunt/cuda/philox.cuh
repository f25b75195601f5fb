// SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011) and the Gumbel noise of rows: operation by
// operation what native/src/base/philox.h specifies, so that the bits are those of the CPU.
#pragma once

#include <cstdint>

#include "portable.cuh"

namespace exn::cuda {

__device__ __forceinline__ uint4 philox(uint4 c, uint64_t key) {
  unsigned low = static_cast<unsigned>(key), high = static_cast<unsigned>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned a = 0xd2511f53u, b = 0xcd9e8d57u;
    c = make_uint4(__umulhi(b, c.z) ^ c.y ^ low, b * c.z, __umulhi(a, c.x) ^ c.w ^ high, a * c.x);
    low += 0x9e3779b9u;
    high += 0xbb67ae85u;
  }
  return c;
}

__device__ __forceinline__ float share_of(unsigned w) {
  const float high = __fmul_rn(static_cast<float>(w >> 16), 65536.0f);
  return __fmul_rn(__fadd_rn(high, __fadd_rn(static_cast<float>(w & 0xffffu), 0.5f)), 0x1p-32f);
}

// x = (1 + f) 2^k
struct Split {
  float k, f;
};

__device__ __forceinline__ Split split_of(float x) {
  constexpr unsigned kLeast = 0x3f3504f3u;
  const unsigned bits = __float_as_uint(x) + (0x3f800000u - kLeast);
  return {static_cast<float>(static_cast<int>(bits >> 23) - 127),
          __fadd_rn(__uint_as_float((bits & 0x7fffffu) + kLeast), -1.0f)};
}

__device__ __forceinline__ float log_of(const Split& x) {
  const float s = __fdiv_rn(x.f, __fadd_rn(2.0f, x.f)), z = __fmul_rn(s, s);
  float p = __fadd_rn(__fmul_rn(2 / 9.0f, z), 2 / 7.0f);
  p = __fadd_rn(__fmul_rn(p, z), 2 / 5.0f);
  p = __fadd_rn(__fmul_rn(p, z), 2 / 3.0f);
  return __fadd_rn(__fmul_rn(x.k, 0.69314718f),
                   __fadd_rn(__fadd_rn(s, s), __fmul_rn(s, __fmul_rn(z, p))));
}

__device__ __forceinline__ float gumbel_of(unsigned w) {
  Split u = split_of(share_of(~w));
  if (u.k == 0.0f) u.f = -share_of(w);
  return -log_of(split_of(-log_of(u)));
}

// The words of vocabulary id `id`, and of those 32, 64 and 96 beyond where id / 32 is a multiple
// of 4.
__device__ __forceinline__ uint4 noise_words(uint64_t key, uint64_t counter, int32_t id) {
  const unsigned i = static_cast<unsigned>(id);
  return philox(make_uint4(i / 128 * 32 + i % 32, 0, static_cast<unsigned>(counter),
                           static_cast<unsigned>(counter >> 32)),
                key);
}

// That of a vocabulary id.
__device__ __forceinline__ float noise_of(uint64_t key, uint64_t counter, int32_t id) {
  const uint4 words = noise_words(key, counter, id);
  const int word = id / 32 % 4;
  return gumbel_of(word == 0 ? words.x : word == 1 ? words.y : word == 2 ? words.z : words.w);
}

}  // namespace exn::cuda
