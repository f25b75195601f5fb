// SPDX-License-Identifier: Apache-2.0
// Weights of f32 or 16 bits in panels: 32 outputs side by side, one input after the other, so that
// a product multiplies whole vectors by one element of its input, for one row or for many.
#pragma once

#include <cstdint>

namespace exn::ort {

constexpr int64_t kPanel = 32;

// Bytes of the panels of weights [n,k].
int64_t panel_bytes(int32_t type, int64_t n, int64_t k);

// Lays out f32, f16 or bf16 weights [n,k], or [k,n] unless `transposed`. What the last panel has
// too many is 0. In those of bf16, a word holds output j and, above it, j + 16.
void lay_out(const void* weights, int32_t type, bool transposed, int64_t n, int64_t k,
             void* panels);

// out[m,j] = bias[j] + sum_k x[m,k] w[j,k] for the first `n` outputs of panels of f32 or bf16, with
// sums of f32 from k = 0 on. Strides are in elements; bias may be null.
void multiply(const float* x, int64_t x_stride, const void* panels, int32_t type, const float* bias,
              float* out, int64_t out_stride, int64_t m, int64_t n, int64_t k);

}  // namespace exn::ort
