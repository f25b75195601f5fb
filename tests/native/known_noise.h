// SPDX-License-Identifier: Apache-2.0
// Words of Philox4x32-10 as Random123 publishes them (kat_vectors), and bits of noise by a program
// of twenty lines that rounds each operation of base/philox.h from double precision.
#pragma once

#include <cstdint>

namespace exn::test {

struct KnownBlock {
  uint32_t counter[4];
  uint64_t key;
  uint32_t words[4];
};

constexpr KnownBlock kKnownBlocks[] = {
    {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     0xffffffffffffffff,
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     0x299f31d0a4093822,
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

// A word, and its noise.
constexpr uint32_t kKnownGumbel[][2] = {
    {0x00000000, 0x41b6fda9}, {0x00000001, 0x41ae33b3}, {0x7fffffff, 0x3ebba795},
    {0x80000000, 0x3ebba795}, {0xffffffff, 0xc04851d5}, {0x12345678, 0x4026d6b8},
    {0x4afb0ccc, 0x3f87a2f1}, {0x4afb0ccd, 0x3f87a2f1}, {0xdeadbeef, 0xbf36631e},
};

// The noise of a row: that of the first and the last id there may be, and the sum over ids below
// kDigested of bits 31^(kDigested - 1 - id), modulo 2^64.
constexpr int32_t kDigested = 1024, kLastId = 0x7ffffffe;
struct KnownNoise {
  uint64_t key, counter;
  uint32_t first, last;
  uint64_t digest;
};

constexpr KnownNoise kKnownNoise[] = {
    {0, 0, 0x3f2cc257, 0x401ae4a0, 0xe28d198ee78d3793},
    {0x123456789abcdef0, 0xfedcba9876543210, 0x3e3b865b, 0xbc24942f, 0x719057d750d0d48b},
    {0xffffffffffffffff, 7, 0xbf25c8ab, 0xbe217687, 0xce58132efcb00135},
};

}  // namespace exn::test
