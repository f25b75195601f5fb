// SPDX-License-Identifier: Apache-2.0
// Products of weight rows with a block of input rows: the inner loop of exit_head and gate.
//
// One accumulator vector per (weight row, input row), columns in ascending order, folded as reduce_add folds. So a product
// has the same bits whatever block it is computed in, and a row's result does not depend on its batch.
//
// Weights are walked linearly: a memory-bound loop over one row after another reads at full bandwidth, several
// rows side by side at half of it. Blocks of weight rows small enough for L1 are therefore the unit of reuse.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Input rows that share one load of a weight vector, and weight rows that share one load of an input vector.
constexpr int kInputBlock = kLanes == 16 ? 8 : 4;
constexpr int kWeightBlock = 2;

// Inputs are padded with zeros to whole vectors of either kind.
constexpr int64_t kInputPad = 32;
static EXN_SIMD int64_t padded(int64_t dim) { return (dim + kInputPad - 1) / kInputPad * kInputPad; }

// Input rows in the form the products read: f32, or bf16 where both sides are bf16 and the set multiplies it natively.
struct Inputs {
  const float* f32 = nullptr;
  const bf16* bf = nullptr;  // takes precedence
  int64_t stride = 0;        // elements between rows, padded
};

template <int kW, int kX>
static EXN_SIMD void fold_products(f32v (&acc)[kW * kX], float* out, int64_t out_stride) {
#if defined(__AVX512F__)
  if constexpr (kW * kX == 16) {
    float sums[16];
    reduce_add_16(acc, sums);
    for (int w = 0; w < kW; ++w) {
      for (int x = 0; x < kX; ++x) out[x * out_stride + w] = sums[w * kX + x];
    }
    return;
  }
#endif
  for (int w = 0; w < kW; ++w) {
    for (int x = 0; x < kX; ++x) out[x * out_stride + w] = reduce_add(acc[w * kX + x]);
  }
}

// out[x * out_stride + w] = <weight row w, input row x> for a block of kW x kX.
template <class T, int kW, int kX>
static EXN_SIMD void block_f32(const T* const* weight, const float* input, int64_t input_stride, int64_t dim, float* out,
                               int64_t out_stride) {
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  const auto step = [&](int64_t k, int n) {
    f32v w[kW];
    for (int i = 0; i < kW; ++i) w[i] = load_part(weight[i] + k, n, 0.0f);
    for (int x = 0; x < kX; ++x) {
      const f32v in = load(input + x * input_stride + k);
      for (int i = 0; i < kW; ++i) acc[i * kX + x] = fma(w[i], in, acc[i * kX + x]);
    }
  };
  for_vectors(dim, step);
  fold_products<kW, kX>(acc, out, out_stride);
}

#if defined(EXN_HAS_BF16_DOT)
template <int kW, int kX>
static EXN_SIMD void block_bf16(const bf16* const* weight, const bf16* input, int64_t input_stride, int64_t dim, float* out,
                                int64_t out_stride) {
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  int64_t k = 0;
  const auto step = [&](auto load_weight) {
    bf16v w[kW];
    for (int i = 0; i < kW; ++i) w[i] = load_weight(weight[i] + k);
    for (int x = 0; x < kX; ++x) {
      const bf16v in = load_pairs(input + x * input_stride + k);
      for (int i = 0; i < kW; ++i) acc[i * kX + x] = dot_pairs(w[i], in, acc[i * kX + x]);
    }
  };
  for (; k + kDotLanes <= dim; k += kDotLanes) step([](const bf16* p) { return load_pairs(p); });
  if (k < dim) step([&](const bf16* p) { return load_pairs_n(p, static_cast<int>(dim - k)); });
  fold_products<kW, kX>(acc, out, out_stride);
}
#endif

template <class T, int kW, int kX>
static EXN_SIMD void block(const T* const* weight, const Inputs& in, int64_t first_input, int64_t dim, float* out,
                           int64_t out_stride) {
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      block_bf16<kW, kX>(weight, in.bf + first_input * in.stride, in.stride, dim, out, out_stride);
      return;
    }
  }
#endif
  block_f32<T, kW, kX>(weight, in.f32 + first_input * in.stride, in.stride, dim, out, out_stride);
}

// All input rows with kW weight rows.
template <class T, int kW>
static EXN_SIMD void weight_rows(const T* const* weight, const Inputs& in, int64_t inputs, int64_t dim, float* out,
                                 int64_t out_stride) {
  int64_t x = 0;
  for (; x + kInputBlock <= inputs; x += kInputBlock) {
    block<T, kW, kInputBlock>(weight, in, x, dim, out + x * out_stride, out_stride);
  }
  if constexpr (kInputBlock > 4) {
    for (; x + 4 <= inputs; x += 4) block<T, kW, 4>(weight, in, x, dim, out + x * out_stride, out_stride);
  }
  for (; x + 2 <= inputs; x += 2) block<T, kW, 2>(weight, in, x, dim, out + x * out_stride, out_stride);
  for (; x < inputs; ++x) block<T, kW, 1>(weight, in, x, dim, out + x * out_stride, out_stride);
}

// out[x * out_stride + w] for weight rows w in [0, count), given by row_at(w), and inputs [0, inputs).
template <class T, class RowAt>
static EXN_SIMD void products(RowAt&& row_at, int64_t count, const Inputs& in, int64_t inputs, int64_t dim, float* out,
                              int64_t out_stride) {
  if (inputs == 1) {
    for (int64_t w = 0; w < count; ++w) {
      const T* row = row_at(w);
      block<T, 1, 1>(&row, in, 0, dim, out + w, out_stride);
    }
    return;
  }
  // The weight rows of a panel stay in L1 while block after block of inputs passes by.
  const int64_t bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t panel = inputs <= kInputBlock ? kWeightBlock : (16384 / bytes + 1 + kWeightBlock) / kWeightBlock * kWeightBlock;
  for (int64_t first = 0; first < count; first += panel) {
    const int64_t last = first + panel < count ? first + panel : count;
    for (int64_t x = 0; x < inputs; x += kInputBlock) {
      const int64_t group = inputs - x < kInputBlock ? inputs - x : kInputBlock;
      Inputs part = in;
      if (part.f32 != nullptr) part.f32 += x * in.stride;
      if (part.bf != nullptr) part.bf += x * in.stride;
      int64_t w = first;
      for (; w + kWeightBlock <= last; w += kWeightBlock) {
        const T* rows[kWeightBlock];
        for (int i = 0; i < kWeightBlock; ++i) rows[i] = row_at(w + i);
        weight_rows<T, kWeightBlock>(rows, part, group, dim, out + x * out_stride + w, out_stride);
      }
      for (; w < last; ++w) {
        const T* row = row_at(w);
        weight_rows<T, 1>(&row, part, group, dim, out + x * out_stride + w, out_stride);
      }
    }
  }
}

}  // namespace exn::cpu::EXN_ISA
