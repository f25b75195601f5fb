// SPDX-License-Identifier: Apache-2.0
// What no op of exeunt does alone: activations in place, sums with broadcasting, weights in other
// layouts.
#pragma once

#include <cstdint>

#include "match.h"

namespace exn::ort {

// act(x) of rows of `cols` elements that lie `stride` apart.
void activate(Activation activation, float* x, int64_t rows, int64_t cols, int64_t stride);

// out += residual; rows of both lie `stride` apart.
void accumulate(const float* residual, float* out, int64_t rows, int64_t cols, int64_t stride);

// out[cols,rows] = in[rows,cols] of elements of 2 or 4 bytes.
void transpose(const void* in, int64_t rows, int64_t cols, int64_t bytes, void* out);

uint16_t half_of(float value);

// Whether f32 is bf16 in all but name, as constants that were folded after a Cast are.
bool holds_bf16(const TensorView& f32);

}  // namespace exn::ort
