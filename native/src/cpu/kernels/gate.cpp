// SPDX-License-Identifier: Apache-2.0
// gate on the CPU: for each block of up to 64 rows, every weight is read once.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/args/gate.h"
#include "matrix_products.h"

namespace exn::cpu::EXN_ISA {
namespace {

float sigmoid(float x) {
  const float t = ::expf(-::fabsf(x));  // never overflows; NaN stays NaN
  return x >= 0 ? 1 / (1 + t) : t / (1 + t);
}

// Scratch memory for the rows in the form that a weight takes.
struct Forms {
  float* ordered;
  char* rounded;
};

// to[r][w] = <weight row w, from row r>.
void project(const Matrix& weight, const float* from, int64_t stride, int64_t rows, float* to,
             int64_t to_stride, const Forms& forms, ProductScratch* own) {
  with_weight_type(weight, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    Inputs in;
    in.f32 = from;
    in.stride = stride;
    into_blocks(weight, rows, forms.rounded, &in);
    if constexpr (std::is_same_v<T, bf16>) {
      std::memcpy(forms.ordered, from, static_cast<size_t>(rows * stride) * sizeof(float));
      for (int64_t row = 0; row < rows; ++row) order_pairs<T>(forms.ordered + row * stride, stride);
      in.f32 = forms.ordered;
    }
    matrix_products<T>(weight, in, rows, 65536 / weight.cols + 1, to, to_stride, own);
  });
}

// One hidden layer: y <- y + SiLU(H y + h), or y <- tanh(H y + h).
void hidden_layer(const GateArgs& a, int32_t layer, float* y, float* t, int64_t stride,
                  const Forms& forms, ProductScratch* own) {
  const int64_t rows = a.features.rows, dim = a.features.cols;
  const bool residual = a.kind == EXN_GATE_RESIDUAL;
  const int64_t which = residual ? 0 : layer;  // the residual blocks share one matrix
  Matrix weight = a.hidden_weight;
  weight.data =
      static_cast<char*>(weight.data) + which * dim * weight.stride * size_of(weight.dtype);
  weight.rows = dim;
  project(weight, y, stride, rows, t, stride, forms, own);
  for (int64_t row = 0; row < rows; ++row) {
    for_vectors(dim, [&](int64_t i, int n) EXN_FLAT {
      f32v x = load_part(t + row * stride + i, n, 0.0f);
      if (a.hidden_bias != nullptr) x = add(x, load_part(a.hidden_bias + which * dim + i, n, 0.0f));
      float* out = y + row * stride + i;
      store_part(out, residual ? add(load_part(out, n, 0.0f), silu(x)) : tanh(x), n);
    });
  }
}

bool needs_order(const GateArgs& a) {
  return a.out_weight.dtype == DType::kBF16 || a.hidden_weight.dtype == DType::kBF16;
}

}  // namespace

exn_status gate(const GateArgs& a, Workspace& ws) {
  const int64_t rows = a.features.rows, dim = a.features.cols, stride = padded(dim, ws.tiles());
  const bool hidden = a.kind != EXN_GATE_LINEAR && a.repeats > 0;
  float* y = ws.take<float>(rows * stride);
  float* t = ws.take<float>(hidden ? rows * stride : 0);
  float* logits = ws.take<float>(rows * 2);
  Forms forms;
  forms.ordered = ws.take<float>(needs_order(a) ? rows * stride : 0);
  forms.rounded = ws.take<char>(product(rows, rounded_bytes(a.out_weight, a.hidden_weight)));
  ProductScratch* own = ws.take<ProductScratch>(1);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "gate"));
  if (rows == 0) return EXN_OK;

  with_float_type(a.features.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    for (int64_t row = 0; row < rows; ++row) {
      float* to = y + row * stride;
      const T* from = row_of<T>(a.features, row);
      for_vectors(dim,
                  [&](int64_t i, int n) { store_part(to + i, load_part(from + i, n, 0.0f), n); });
      for (int64_t i = dim; i < stride; ++i) to[i] = 0;
    }
  });
  if (hidden) {
    for (int32_t layer = 0; layer < a.repeats; ++layer) {
      hidden_layer(a, layer, y, t, stride, forms, own);
    }
  }
  const int64_t outputs = a.out_weight.rows;
  project(a.out_weight, y, stride, rows, logits, 2, forms, own);
  for (int64_t row = 0; row < rows; ++row) {
    const float* o = logits + row * 2;
    const float b0 = a.out_bias != nullptr ? a.out_bias[0] : 0;
    const float b1 = a.out_bias != nullptr && outputs == 2 ? a.out_bias[1] : 0;
    // softmax of two logits is the sigmoid of their difference
    a.prob[row] = outputs == 1 ? sigmoid(o[0] + b0) : sigmoid((o[1] + b1) - (o[0] + b0));
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
