// SPDX-License-Identifier: Apache-2.0
// Rows of weights as doubles, whatever their format.
#pragma once

#include <cmath>
#include <cstring>

#include "base/args.h"
#include "half.h"

namespace exn::cpu {

// A row's elements, and beside each what the sums of its products are made of.
class WeightReader {
 public:
  explicit WeightReader(const Matrix& m) : m_(m) {}

  void read(int64_t row, double* w, double* terms) const {
    if (m_.blocks == Blocks::kNone) {
      plain(row, w);
      for (int64_t i = 0; i < m_.cols; ++i) terms[i] = std::fabs(w[i]);
      return;
    }
    const auto* p = static_cast<const uint8_t*>(m_.data) + row * m_.stride;
    const BlockShape shape = shape_of(m_.blocks);
    for (int64_t at = 0; at < m_.cols; at += shape.elements, p += shape.bytes) {
      for (int i = 0; i < shape.elements; ++i) {
        const Element e = element(p, i);
        w[at + i] = e.scale * e.q + e.shift;
        terms[at + i] = std::fabs(e.scale * e.q) + std::fabs(e.shift) + std::fabs(e.scale);
      }
    }
  }

 private:
  struct Element {
    double scale;
    double q;
    double shift;
  };

  void plain(int64_t row, double* w) const {
    const char* const p = static_cast<const char*>(m_.data) + row * m_.stride * size_of(m_.dtype);
    for (int64_t i = 0; i < m_.cols; ++i) {
      if (m_.dtype == DType::kF32) {
        float f;
        std::memcpy(&f, p + 4 * i, 4);
        w[i] = static_cast<double>(f);
        continue;
      }
      uint16_t bits;
      std::memcpy(&bits, p + 2 * i, 2);
      if (m_.dtype == DType::kF16) {
        w[i] = static_cast<double>(float_of_half(bits));
      } else {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float f;
        std::memcpy(&f, &wide, 4);
        w[i] = static_cast<double>(f);
      }
    }
  }

  static double half_at(const uint8_t* p) {
    return static_cast<double>(float_of_half(static_cast<uint16_t>(p[0] | p[1] << 8)));
  }
  static int nibble(const uint8_t* p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
  static int fifth(const uint8_t* p, int i) { return (p[i / 8] >> i % 8 & 1) * 16; }

  Element element(const uint8_t* p, int i) const {
    switch (m_.blocks) {
      case Blocks::kNone:
      case Blocks::kPanelsF32:
      case Blocks::kPanelsF16:
      case Blocks::kPanelsBF16:
        break;
      case Blocks::kQ4_0:
        return {half_at(p), static_cast<double>(nibble(p + 2, i) - 8), 0};
      case Blocks::kQ4_1:
        return {half_at(p), static_cast<double>(nibble(p + 4, i)), half_at(p + 2)};
      case Blocks::kQ5_0:
        return {half_at(p), static_cast<double>(nibble(p + 6, i) + fifth(p + 2, i) - 16), 0};
      case Blocks::kQ5_1:
        return {half_at(p), static_cast<double>(nibble(p + 8, i) + fifth(p + 4, i)),
                half_at(p + 2)};
      case Blocks::kQ8_0:
        return {half_at(p), static_cast<double>(static_cast<int8_t>(p[2 + i])), 0};
      case Blocks::kQ4_K:
      case Blocks::kQ5_K:
        return of_group(p, i, m_.blocks == Blocks::kQ5_K);
      case Blocks::kQ6_K: {
        const int half = i / 128, l = i % 128;
        const int low = p[half * 64 + l % 64], two = p[128 + half * 32 + l % 32] >> l / 32 * 2 & 3;
        const int q = (l < 64 ? low & 15 : low >> 4) | two << 4;
        return {half_at(p + 208) * static_cast<int8_t>(p[192 + i / 16]),
                static_cast<double>(q - 32), 0};
      }
    }
    return {};
  }

  static Element of_group(const uint8_t* p, int i, bool five) {
    const int g = i / 32, l = i % 32;
    const uint8_t* const six = p + 4;
    const int s = g < 4 ? six[g] & 63 : (six[g + 4] & 15) | six[g - 4] >> 6 << 4;
    const int t = g < 4 ? six[g + 4] & 63 : six[g + 4] >> 4 | six[g] >> 6 << 4;
    const int pair = p[(five ? 48 : 16) + g / 2 * 32 + l];
    const int high = five ? (p[16 + l] >> g & 1) * 16 : 0;
    const int q = (g % 2 == 0 ? pair & 15 : pair >> 4) + high;
    return {half_at(p) * s, static_cast<double>(q), -half_at(p + 2) * t};
  }

  Matrix m_;
};

}  // namespace exn::cpu
