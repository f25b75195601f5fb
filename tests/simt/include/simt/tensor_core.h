// SPDX-License-Identifier: Apache-2.0
//
// What a tensor core computes, for the emulator and for the interpreter of machine code.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace simt {

inline double widened_bf16(uint32_t bits) {
  const uint32_t word = bits << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline double power_of_two(int exponent) {
  const uint64_t bits = static_cast<uint64_t>(exponent + 1023) << 52;
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

// A value cut to f32, towards zero, unless it is beyond.
inline float cut_to_float(double value) {
  const auto rounded = static_cast<float>(value);
  const bool grew = std::fabs(static_cast<double>(rounded)) > std::fabs(value);
  return grew && std::isfinite(rounded) ? std::nextafterf(rounded, 0.0f) : rounded;
}

// sum + a[0] b[0] + ... of eight exact products. All nine are cut to one bit more than the largest
// of them has as f32, added exactly, and the sum is cut to f32. Tensor cores are known to keep at
// least as much, and to add eight products or more at a time.
inline float add_products(float sum, const double* a, const double* b) {
  double terms[9], largest = std::fabs(static_cast<double>(sum)), plain = sum;
  terms[8] = sum;
  for (int i = 0; i < 8; ++i) {
    terms[i] = a[i] * b[i];
    plain += terms[i];
    largest = std::max(largest, std::fabs(terms[i]));
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  if (largest == 0) return sum;
  uint64_t bits;
  std::memcpy(&bits, &largest, sizeof bits);
  const int exponent = std::max(static_cast<int>(bits >> 52) - 1023, -126);
  const double to_units = power_of_two(24 - exponent);
  int64_t units = 0;
  for (const double term : terms) units += static_cast<int64_t>(term * to_units);
  return cut_to_float(static_cast<double>(units) * power_of_two(exponent - 24));
}

// The registers of a lane.
struct MmaLane {
  const uint32_t* a;
  const uint32_t* b;
  float* sums;
};

// mma.m16n8k16 of bf16, by the layout of fragments in the PTX ISA.
inline void mma_m16n8k16_bf16(const std::array<MmaLane, 32>& lanes) {
  double a[16][16], b[8][16];
  bool is_zero[8];
  std::fill_n(is_zero, 8, true);
  bool is_finite = true;
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, in_group = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const int row = group + (i / 2 % 2) * 8, column = in_group * 2 + i % 2 + (i / 4) * 8;
      const uint32_t bits = lanes[lane].a[i / 2] >> i % 2 * 16 & 0xffff;
      a[row][column] = widened_bf16(bits);
      is_finite &= (bits & 0x7f80) != 0x7f80;
    }
    for (int i = 0; i < 4; ++i) {
      const int row = in_group * 2 + i % 2 + (i / 2) * 8;
      const uint32_t bits = lanes[lane].b[i / 2] >> i % 2 * 16 & 0xffff;
      b[group][row] = widened_bf16(bits);
      is_zero[group] &= (bits & 0x7fff) == 0;
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;
      if (is_zero[column] && is_finite) continue;  // much of what is padded
      float& sum = lanes[lane].sums[i];
      sum = add_products(sum, a[row], b[column]);
      sum = add_products(sum, a[row] + 8, b[column] + 8);
    }
  }
}

// The same of signed bytes, with sums of integers: so many steps of 16 columns of mma.m16n8k16, or
// those of mma.m16n8k32.
struct MmaBytesLane {
  const uint32_t* a;
  const uint32_t* b;
  int32_t* sums;
};

inline void mma_m16n8_s8(const std::array<MmaBytesLane, 32>& lanes, int steps) {
  for (int step = 0; step < steps; ++step) {
    int8_t a[16][16], b[8][16];
    for (int lane = 0; lane < 32; ++lane) {
      const MmaBytesLane& own = lanes[lane];
      for (int i = 0; i < 2; ++i)
        std::memcpy(&a[lane / 4 + i * 8][lane % 4 * 4], own.a + 2 * step + i, 4);
      std::memcpy(&b[lane / 4][lane % 4 * 4], own.b + step, 4);
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        int32_t sum = 0;
        for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
        auto& to = lanes[lane].sums[i];
        to = static_cast<int32_t>(static_cast<uint32_t>(to) + static_cast<uint32_t>(sum));
      }
    }
  }
}

}  // namespace simt
