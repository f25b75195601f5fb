// SPDX-License-Identifier: Apache-2.0
#include "elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// Loops without branches over arrays, compiled once for each of these and chosen when the library
// is loaded.
#if defined(__x86_64__)
#define EXN_VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EXN_VECTORISED
#endif

namespace exn::ort {
namespace {

// e^x for x <= 88: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; relative error 2e-7. Below -87
// it stays at e^-87.
inline __attribute__((always_inline)) float exp_of(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // rounds: the integer is in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  const uint32_t scale = (bits << 23) + (127u << 23);
  float power;
  std::memcpy(&power, &scale, sizeof power);
  return p * power;
}

// erf(x), absolute error 1.5e-7: Abramowitz and Stegun, 7.1.26.
inline __attribute__((always_inline)) float erf_of(float x) {
  const float a = std::fabs(x), t = 1.0f / (1.0f + 0.3275911f * a);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float y = 1.0f - p * t * exp_of(-a * a);
  return std::copysign(y, x);
}

EXN_VECTORISED void relu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] < 0.0f ? 0.0f : x[i];
}

EXN_VECTORISED void gelu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i];
    x[i] = 0.5f * v * (1.0f + erf_of(v * 0.70710678f));
  }
}

// x/2 (1 + tanh u) = x / (1 + e^-2u)
EXN_VECTORISED void gelu_tanh(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i], u = 0.79788456f * (v + 0.044715f * v * v * v);
    x[i] = v / (1.0f + exp_of(-2.0f * u));
  }
}

EXN_VECTORISED void silu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] / (1.0f + exp_of(-x[i]));
}

EXN_VECTORISED void sum(const float* x, const float* y, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] + y[i];
}

template <class T>
void transpose_of(const T* in, int64_t rows, int64_t cols, T* out) {
  constexpr int64_t kBlock = 32;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    for (int64_t c0 = 0; c0 < cols; c0 += kBlock) {
      const int64_t r1 = std::min(rows, r0 + kBlock), c1 = std::min(cols, c0 + kBlock);
      for (int64_t c = c0; c < c1; ++c) {
        for (int64_t r = r0; r < r1; ++r) out[c * rows + r] = in[r * cols + c];
      }
    }
  }
}

}  // namespace

void activate(Activation activation, float* x, int64_t rows, int64_t cols, int64_t stride) {
  if (activation == Activation::kNone) return;
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    switch (activation) {
      case Activation::kNone:
        break;
      case Activation::kRelu:
        relu(x, cols);
        break;
      case Activation::kGelu:
        gelu(x, cols);
        break;
      case Activation::kGeluTanh:
        gelu_tanh(x, cols);
        break;
      case Activation::kSilu:
        silu(x, cols);
        break;
    }
  }
}

void accumulate(const float* residual, float* out, int64_t rows, int64_t cols, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r, residual += stride, out += stride) {
    sum(out, residual, out, cols);
  }
}

void transpose(const void* in, int64_t rows, int64_t cols, int64_t bytes, void* out) {
  if (bytes == 4) {
    transpose_of(static_cast<const uint32_t*>(in), rows, cols, static_cast<uint32_t*>(out));
  } else {
    transpose_of(static_cast<const uint16_t*>(in), rows, cols, static_cast<uint16_t*>(out));
  }
}

// To nearest, ties to even.
uint16_t half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = std::fabs(value);
  if (!(magnitude < 65520.0f))
    return static_cast<uint16_t>(sign | (value != value ? 0x7e00 : 0x7c00));
  if (magnitude == 0.0f) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int shift = std::max(exponent - 11, -24);  // of the last bit that is kept
  const auto q = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, -shift)));
  // A subnormal is its own code; else the hidden bit counts as the exponent's first.
  return static_cast<uint16_t>(sign | (shift == -24 ? q : q + (uint32_t(shift + 24) << 10)));
}

bool holds_bf16(const TensorView& f32) {
  const auto* words = f32.as<uint32_t>();
  return std::all_of(words, words + f32.count(), [](uint32_t w) { return (w & 0xffff) == 0; });
}

}  // namespace exn::ort
