// SPDX-License-Identifier: Apache-2.0
// What exit_head makes of hidden states before they meet the head.
#pragma once

#include "base/args/exit_head.h"
#include "matrix_products.h"
#include "normalise.h"

namespace exn::cpu::EXN_ISA {

static EXN_SIMD void load_row(const Matrix& m, int64_t row, float* x, int64_t stride) {
  with_float_type(m.dtype,
                  [&](auto type) { convert(row_of<EXN_TYPE_OF(type)>(m, row), m.cols, x); });
  for (int64_t i = m.cols; i < stride; ++i) x[i] = 0;
}

// to[r] = translator * from[r] + bias for all rows; `from` is left in the order
// of the translator's pairs.
static EXN_SIMD void translate(const ExitHeadArgs& a, float* from, float* to, int64_t stride,
                               char* rounded, ProductScratch* own) {
  const int64_t rows = a.hidden.rows, dim = a.hidden.cols;
  with_weight_type(a.translator, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows; ++row) order_pairs<T>(from + row * stride, stride);
    Inputs in;
    in.f32 = from;
    in.stride = stride;
    into_blocks(a.translator, rows, rounded, &in);
    matrix_products<T>(a.translator, in, rows, 64, to, stride, own);
  });
  for (int64_t row = 0; row < rows; ++row) {
    float* x = to + row * stride;
    for (int64_t i = dim; i < stride; ++i) x[i] = 0;
    if (a.translator_bias == nullptr) continue;
    for_vectors(dim, [&](int64_t i, int n) {
      store_part(x + i, add(load_part(x + i, n, 0.0f), load_part(a.translator_bias + i, n, 0.0f)),
                 n);
    });
  }
}

// x = the rows in f32, translated where there is a translator, which needs `raw`.
static EXN_SIMD void load_rows(const ExitHeadArgs& a, float* x, float* raw, int64_t stride,
                               char* rounded, ProductScratch* own) {
  const bool translated = a.translator.data != nullptr;
  const int64_t dim = a.hidden.cols;
  float* loaded = translated ? raw : x;
  for (int64_t row = 0; row < a.hidden.rows; ++row) {
    float* to = loaded + row * stride;
    load_row(a.hidden, row, to, stride);
    if (translated && a.translate == EXN_TRANSLATE_RMS) {
      const f32v scale = set1(moments_of(to, dim, EXN_NORM_RMS, a.norm_eps).scale);
      for_vectors(dim, [&](int64_t i, int n) {
        store_part(to + i, mul(load_part(to + i, n, 0.0f), scale), n);
      });
    }
  }
  if (translated) translate(a, raw, x, stride, rounded, own);
}

// Normalises the rows and rounds them to their own type, as the layer that follows does: in place,
// or into `narrowed` if that is given.
static EXN_SIMD void normalise_rows(const ExitHeadArgs& a, float* x, bf16* narrowed,
                                    int64_t stride) {
  const bool narrows = a.hidden.dtype == a.weight.dtype && a.hidden.dtype != DType::kF32;
  const int64_t dim = a.hidden.cols;
  for (int64_t row = 0; row < a.hidden.rows; ++row) {
    float* to = x + row * stride;
    if (a.norm != EXN_NORM_NONE) {
      normalise_row(to, dim, moments_of(to, dim, a.norm, a.norm_eps), a.norm_weight, a.norm_bias,
                    to);
    }
    if (narrowed != nullptr) {
      convert(to, stride, narrowed + row * stride);
    } else if (narrows) {
      round_row(a.hidden.dtype, to, dim);
    }
  }
}

}  // namespace exn::cpu::EXN_ISA
