// SPDX-License-Identifier: Apache-2.0
// Products of quantised weight rows (exeunt/blocks.h) with the rows of a batch: what into_blocks
// and row_products of products.h do for them.
//
// Each 32 elements of an input are rounded to integers of 16 bits and a power of two, or of 8 bits
// and a scale, once; all products with the integers of a block are exact, and so are their sums, one
// or more for each scale. The f32 operations on these, a step after the other in the lanes of one
// vector, are the only ones that round: so a row has the same bits in whatever batch, and wherever
// its weights lie.
#pragma once

#include <cmath>

#include "products.h"

namespace exn::cpu::EXN_ISA {

// The prefetch distance in bytes for few inputs, wherever weights lie: from a cache they come as
// fast with it.
constexpr int kBlockPrefetchDistance = 4 << 10;

// What is known of blocks when they are compiled.
template <Blocks kFormat>
struct BlockTraits {
  static constexpr Blocks kBlocks = kFormat;
  static constexpr int kElements = shape_of(kBlocks).elements, kBytes = shape_of(kBlocks).bytes;
  static constexpr bool kSuperBlock = kElements == 256;
  static constexpr bool kFiveBits =
      kBlocks == Blocks::kQ5_0 || kBlocks == Blocks::kQ5_1 || kBlocks == Blocks::kQ5_K;
  // Elements are d q + m: they have a minimum, m or dmin, beside the scale.
  static constexpr bool kHasMin = kBlocks == Blocks::kQ4_1 || kBlocks == Blocks::kQ5_1 ||
                                  kBlocks == Blocks::kQ4_K || kBlocks == Blocks::kQ5_K;
  // The zero point: what is taken off the quants, as far as they are unsigned.
  static constexpr int kZeroPoint = kBlocks == Blocks::kQ4_0   ? 8
                                    : kBlocks == Blocks::kQ5_0 ? 16
                                    : kBlocks == Blocks::kQ6_K ? 32
                                                               : 0;
  // Of a short block: where its quants, or their lower halves, begin, and their highest bits.
  static constexpr int kHigh = kHasMin ? 4 : 2, kLow = kHigh + (kFiveBits ? 4 : 0);
};

// 32 elements of an input.
struct Rounded {
  int32_t q[32];
  float scale;

  EXN_SIMD explicit Rounded(const float* x, bool int8 = false) {
    constexpr int kFraction = 23;
    f32v top = zero(), none = zero();
    for (int i = 0; i < 32; i += kLanes) {
      top = max(abs(load(x + i)), top);
      none = fma(load(x + i), zero(), none);  // NaN where an element is not finite
    }
    // No scale times d is subnormal.
    constexpr uint32_t kLeast = (127u - 88) << kFraction;
    const uint32_t largest = float_to_bits(reduce_max(top));
    float factor;
    if (int8) {
      const float most = bits_to_float(largest < kLeast ? kLeast : largest);
      scale = most / 127 + reduce_add(none);
      factor = most < HUGE_VALF ? 127 / most : 0;
    } else {
      // Integers above 127 * 256 + 127 have no halves of eight bits: what would be rounded to one
      // takes twice the scale.
      constexpr uint32_t kBeyond = 257u << (kFraction - 15);  // 2 - (127 * 256 + 127.5) / 2^14
      uint32_t e = (largest + kBeyond) & (255u << kFraction);
      if (e < kLeast) e = kLeast;
      scale = bits_to_float(e - (14u << kFraction)) + reduce_add(none);
      factor = bits_to_float(((2 * 127u + 14) << kFraction) - e);
    }
    const f32v up = set1(factor);
    // In the last bits of a float.
    constexpr float kShift = 12582912.0f;
    for (int i = 0; i < 32; i += kLanes) {
      const f32v v = select(less(abs(load(x + i)), set1(HUGE_VALF)), load(x + i), zero());
      float shifted[kLanes];
      store(shifted, add(mul(v, up), set1(kShift)));
      std::memcpy(q + i, shifted, sizeof shifted);
    }
    for (int32_t& n : q) n -= 0x4b400000;
  }
  EXN_SIMD int32_t sum(int begin, int end) const {
    int32_t total = 0;
    for (int i = begin; i < end; ++i) total += q[i];
    return total;
  }
};

}  // namespace exn::cpu::EXN_ISA
