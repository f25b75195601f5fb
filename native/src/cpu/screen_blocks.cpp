// SPDX-License-Identifier: Apache-2.0
// One block of a screen's quants: the scale of which they lose least, and their bits.
#include "screen_blocks.h"

#include <cmath>
#include <cstring>

#include "half.h"

namespace exn::cpu {
namespace {

// Quants of 32 values for one scale, by what they are worth.
struct Quants {
  float scale;
  float at[32];
};

float nearest(float x) {
  constexpr float kShift = 12582912.0f;
  return (x + kShift) - kShift;
}

// Quants for an inverse scale, and how much of the values their best scale explains.
float fitted(const float* v, const float* worth, float inverse, float least, float most,
             Quants* to) {
  float with[4] = {}, own[4] = {};
  for (int i = 0; i < 32; i += 4) {
    for (int k = 0; k < 4; ++k) {
      float q = v[i + k] * inverse;
      q = q < least ? least : q > most ? most : q;
      q = nearest(q);
      to->at[i + k] = q;
      with[k] += worth[i + k] * q * v[i + k];
      own[k] += worth[i + k] * q * q;
    }
  }
  const float product = (with[0] + with[1]) + (with[2] + with[3]);
  const float square = (own[0] + own[1]) + (own[2] + own[3]);
  to->scale = square > 0 ? product / square : 0;
  return square > 0 ? product * product / square : 0;
}

// The best of a few scales, as an f16, and quants for it.
Quants quantise(const float* v, const float* worth, float least, float most) {
  Quants best = {};
  float top = 0;
  for (int i = 0; i < 32; ++i) top = std::fabs(v[i]) > std::fabs(top) ? v[i] : top;
  if (top == 0 || !std::isfinite(top)) return best;
  float gained = -1;
  // The largest value meets the end of the range that has one more, or comes near it.
  const int tries = most > 100 ? 2 : 9;
  for (int n = -tries; n <= tries; ++n) {
    Quants next;
    const float gain =
        fitted(v, worth, (least + 0.12f * static_cast<float>(n)) / top, least, most, &next);
    if (gain > gained) {
      gained = gain;
      best = next;
    }
  }
  best.scale = float_of_half(half_of(best.scale));
  if (best.scale == 0) return {};
  fitted(v, worth, 1 / best.scale, least, most, &best);
  return best;
}

}  // namespace

void put_block(Blocks format, const float* v, const float* worth, uint8_t* to, double* stands) {
  const int bits = format == Blocks::kQ8_0 ? 8 : format == Blocks::kQ5_0 ? 5 : 4;
  const float end = static_cast<float>(1 << (bits - 1));
  Quants quants = quantise(v, worth, bits == 8 ? -127 : -end, end - 1);
  // fitted() has made a scale of its own, the quants are for the one before.
  float scale = 0;
  bool any = false;
  for (const float q : quants.at) any = any || q != 0;
  if (any) scale = float_of_half(half_of(quants.scale));
  const uint16_t half = half_of(scale);
  if (scale == 0) quants = {};
  to[0] = static_cast<uint8_t>(half);
  to[1] = static_cast<uint8_t>(half >> 8);
  uint8_t raw[32];
  for (int i = 0; i < 32; ++i) {
    stands[i] = static_cast<double>(scale) * static_cast<double>(quants.at[i]);
    raw[i] =
        static_cast<uint8_t>(static_cast<int>(quants.at[i]) + (bits == 8 ? 0 : 1 << (bits - 1)));
  }
  if (bits == 8) {
    std::memcpy(to + 2, raw, sizeof raw);
    return;
  }
  uint8_t* const low = to + (bits == 5 ? 6 : 2);
  for (int i = 0; i < 16; ++i)
    low[i] = static_cast<uint8_t>((raw[i] & 15) | (raw[i + 16] & 15) << 4);
  if (bits == 4) return;
  uint32_t high = 0;
  for (int i = 0; i < 32; ++i) high |= static_cast<uint32_t>(raw[i] >> 4) << i;
  for (int i = 0; i < 4; ++i) to[2 + i] = static_cast<uint8_t>(high >> 8 * i);
}

}  // namespace exn::cpu
