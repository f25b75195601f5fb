// SPDX-License-Identifier: Apache-2.0
// The rotation of rope, shared by rope and kv_propagate.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Pairs rotated at a time.
constexpr int64_t kRotationPairs = 256;

// Cosines and sines of up to kRotationPairs pairs at one position, laid out like the elements that
// they multiply.
struct Rotation {
  int32_t style;
  int64_t pairs;
  alignas(64) float cosine[2 * kRotationPairs];
  alignas(64) float sine[2 * kRotationPairs];  // interleaved: -sine for the first of a pair
};

static EXN_SIMD void load_rotation(const RopeTable& table, int64_t position, int64_t first,
                                   int64_t pairs, int32_t style, Rotation* out) {
  const float* entry = table.data + (position * table.pairs + first) * 2;
  out->style = style;
  out->pairs = pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    const float c = entry[2 * i], s = entry[2 * i + 1];
    if (style == EXN_ROPE_HALF) {
      out->cosine[i] = c;
      out->sine[i] = s;
    } else {
      out->cosine[2 * i] = out->cosine[2 * i + 1] = c;
      out->sine[2 * i] = -s;
      out->sine[2 * i + 1] = s;
    }
  }
}

// Rotates the pairs of `x` into `to`, which may be x. Half: the second elements of the pairs begin
// at x + second.
template <class T>
static EXN_SIMD void rotate(const Rotation& r, const T* x, int64_t second, T* to) {
  if (r.style == EXN_ROPE_HALF) {
    for_vectors(r.pairs, [&](int64_t i, int n) EXN_FLAT {
      const f32v c = load_part(r.cosine + i, n, 0.0f), s = load_part(r.sine + i, n, 0.0f);
      const f32v a = load_part(x + i, n, 0.0f), b = load_part(x + second + i, n, 0.0f);
      store_part(to + i, fms(a, c, mul(b, s)), n);
      store_part(to + second + i, fma(b, c, mul(a, s)), n);
    });
  } else {
    for_vectors(2 * r.pairs, [&](int64_t i, int n) EXN_FLAT {
      const f32v v = load_part(x + i, n, 0.0f);
      const f32v crossed = mul(swap_pairs(v), load_part(r.sine + i, n, 0.0f));
      store_part(to + i, fma(v, load_part(r.cosine + i, n, 0.0f), crossed), n);
    });
  }
}

}  // namespace exn::cpu::EXN_ISA
