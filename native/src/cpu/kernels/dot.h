// SPDX-License-Identifier: Apache-2.0
// Products of weight rows with a block of input rows: the inner loop of exit_head and gate.
//
// One accumulator vector per (weight row, input row), columns in ascending order, folded as reduce_add folds. So a product
// has the same bits whatever block it is computed in, and a row's result does not depend on its batch.
//
// Weights are walked linearly: several rows side by side read at half the bandwidth of one row after another, unless what
// comes next is prefetched in address order. A single input row needs several weight rows at once all the same, or
// each product waits for the one before it in its only accumulator.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Input rows that share one load of a weight vector, and weight rows that share one load of an input vector.
constexpr int kInputBlock = kLanes == 16 ? 8 : 4;
constexpr int kWeightBlock = kLanes == 16 ? 2 : 3;
// Weight rows at once for a single input row.
constexpr int kSingleBlock = 4;

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
  float sums[kW * kX];
  reduce_add_all(acc, sums);
  for (int w = 0; w < kW; ++w) {
    for (int x = 0; x < kX; ++x) out[x * out_stride + w] = sums[w * kX + x];
  }
}

// What a block prefetches while it computes: `stride` bytes further on for each vector of columns. Without a branch: where nothing
// comes next, the same line again and again costs less than a test in the innermost loop.
struct Ahead {
  const char* at;
  int64_t stride;
};

// A single input computes faster than memory delivers: it asks for each line once, or repeated requests hold up its loads.
template <int kBytes, int kX>
static EXN_SIMD void prefetch_ahead(Ahead& ahead) {
  if constexpr (kX == 1) {
    const int64_t into_line = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(ahead.at) % 64);
    for (int64_t i = 0; i < kBytes; i += 64) {
      if (into_line + i < ahead.stride) prefetch(ahead.at + into_line + i);
    }
  } else {
    for (int i = 0; i < kBytes; i += 64) prefetch(ahead.at + i);
  }
  ahead.at += ahead.stride;
}

// out[x * out_stride + w] = <weight row w, input row x> for a block of kW x kX.
template <class T, int kW, int kX>
static EXN_SIMD void block_f32(const T* const* weight, const float* input, int64_t input_stride, int64_t dim, float* out,
                               int64_t out_stride, Ahead ahead) {
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  for_vectors(dim, [&](int64_t k, int n) EXN_FLAT {
    prefetch_ahead<kW * kLanes * static_cast<int>(sizeof(T)), kX>(ahead);
    f32v w[kW];
    for (int i = 0; i < kW; ++i) w[i] = load_part(weight[i] + k, n, 0.0f);
    for (int x = 0; x < kX; ++x) {
      const f32v in = load(input + x * input_stride + k);
      for (int i = 0; i < kW; ++i) acc[i * kX + x] = fma(w[i], in, acc[i * kX + x]);
    }
  });
  fold_products<kW, kX>(acc, out, out_stride);
}

#if defined(EXN_HAS_BF16_DOT)
template <int kW, int kX>
static EXN_SIMD void block_bf16(const bf16* const* weight, const bf16* input, int64_t input_stride, int64_t dim, float* out,
                                int64_t out_stride, Ahead ahead) {
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  int64_t k = 0;
  ahead.stride *= kDotLanes / kLanes;
  const auto step = [&](auto load_weight) EXN_FLAT {
    prefetch_ahead<kW * kDotLanes * static_cast<int>(sizeof(bf16)), kX>(ahead);
    bf16v w[kW];
    for (int i = 0; i < kW; ++i) w[i] = load_weight(weight[i] + k);
    for (int x = 0; x < kX; ++x) {
      const bf16v in = load_pairs(input + x * input_stride + k);
      for (int i = 0; i < kW; ++i) acc[i * kX + x] = dot_pairs(w[i], in, acc[i * kX + x]);
    }
  };
  for (; k + kDotLanes <= dim; k += kDotLanes) step([](const bf16* p) EXN_FLAT { return load_pairs(p); });
  if (k < dim) step([&](const bf16* p) EXN_FLAT { return load_pairs_n(p, static_cast<int>(dim - k)); });
  fold_products<kW, kX>(acc, out, out_stride);
}
#endif

template <class T, int kW, int kX>
static EXN_SIMD void block(const T* const* weight, const Inputs& in, int64_t first_input, int64_t dim, float* out,
                           int64_t out_stride, const Ahead& ahead) {
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      block_bf16<kW, kX>(weight, in.bf + first_input * in.stride, in.stride, dim, out, out_stride, ahead);
      return;
    }
  }
#endif
  block_f32<T, kW, kX>(weight, in.f32 + first_input * in.stride, in.stride, dim, out, out_stride, ahead);
}

// Up to kInputBlock input rows with kW weight rows.
template <class T, int kW>
static EXN_SIMD void weight_rows(const T* const* weight, const Inputs& in, int64_t inputs, int64_t dim, float* out,
                                 int64_t out_stride, const Ahead& ahead) {
  if (inputs == kInputBlock) {
    block<T, kW, kInputBlock>(weight, in, 0, dim, out, out_stride, ahead);
    return;
  }
  const Ahead none = {reinterpret_cast<const char*>(weight[0]), 0};
  int64_t x = 0;
  if constexpr (kInputBlock > 4) {
    for (; x + 4 <= inputs; x += 4) block<T, kW, 4>(weight, in, x, dim, out + x * out_stride, out_stride, x == 0 ? ahead : none);
  }
  for (; x + 2 <= inputs; x += 2) block<T, kW, 2>(weight, in, x, dim, out + x * out_stride, out_stride, x == 0 ? ahead : none);
  for (; x < inputs; ++x) block<T, kW, 1>(weight, in, x, dim, out + x * out_stride, out_stride, x == 0 ? ahead : none);
}

// Weight rows [first, last) with up to kInputBlock input rows, kW at a time. While it computes, it prefetches the `part`-th of
// `parts` shares of what the rows `distance` further on hold, so that the memory never idles while inputs pass by; `count` rows exist.
template <class T, int kW, class RowAt>
static EXN_SIMD void panel_rows(RowAt& row_at, int64_t first, int64_t last, int64_t count, int64_t distance, int64_t part,
                                int64_t parts, const Inputs& in, int64_t inputs, int64_t dim, float* out, int64_t out_stride) {
  const int64_t share = kW * dim * static_cast<int64_t>(sizeof(T)) / parts;
  const int64_t stride = kW * kLanes * static_cast<int64_t>(sizeof(T)) / parts;
  int64_t w = first;
  for (; w + kW <= last; w += kW) {
    const T* rows[kW];
    for (int i = 0; i < kW; ++i) rows[i] = row_at(w + i);
    Ahead ahead = {reinterpret_cast<const char*>(rows[0]), 0};
    if (w + distance + kW <= count) ahead = {reinterpret_cast<const char*>(row_at(w + distance)) + part * share, stride};
    weight_rows<T, kW>(rows, in, inputs, dim, out + w, out_stride, ahead);
  }
  for (; w < last; ++w) {
    const T* row = row_at(w);
    weight_rows<T, 1>(&row, in, inputs, dim, out + w, out_stride, Ahead{reinterpret_cast<const char*>(row), 0});
  }
}

// Inputs [0, inputs) with weight rows [first, last), a group of inputs after the other. The rows before `limit` exist.
template <class T, class RowAt>
static EXN_SIMD void panel_groups(RowAt& row_at, int64_t first, int64_t last, int64_t limit, int64_t panel,
                                  const Inputs& in, int64_t inputs, int64_t dim, float* out,
                                  int64_t out_stride) {
  const int64_t groups = (inputs + kInputBlock - 1) / kInputBlock;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t x = group * kInputBlock;
    Inputs part = in;
    if (part.f32 != nullptr) part.f32 += x * in.stride;
    if (part.bf != nullptr) part.bf += x * in.stride;
    const int64_t here = inputs - x < kInputBlock ? inputs - x : kInputBlock;
    panel_rows<T, kWeightBlock>(row_at, first, last, limit, panel, group, groups, part, here, dim,
                                out + x * out_stride, out_stride);
  }
}

// Where many inputs pass by, each weight is widened to f32 once, not once per group. The products are the same.
constexpr int64_t kWidePanel = 16384;  // floats
static EXN_SIMD bool widens(int64_t inputs, int64_t dim) {
  return inputs > 2 * kInputBlock && padded(dim) * kWeightBlock <= kWidePanel;
}

template <class T, class RowAt>
static EXN_SIMD void wide_products(RowAt& row_at, int64_t count, const Inputs& in, int64_t inputs, int64_t dim,
                                   float* out, int64_t out_stride) {
  alignas(64) float wide[kWidePanel];
  const int64_t stride = padded(dim);
  const int64_t panel = (4096 / stride / kWeightBlock + 1) * kWeightBlock;
  const int64_t rows = panel * stride <= kWidePanel ? panel : kWeightBlock;
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t last = first + rows < count ? first + rows : count;
    for (int64_t w = first; w < last; ++w) {
      const T* from = row_at(w);
      float* to = wide + (w - first) * stride;
      for_vectors(dim, [&](int64_t k, int n) EXN_FLAT { store_part(to + k, load_part(from + k, n, 0.0f), n); });
    }
    const auto wide_at = [&](int64_t w) EXN_FLAT { return static_cast<const float*>(wide + (w - first) * stride); };
    panel_groups<float>(wide_at, first, last, last, rows, in, inputs, dim, out, out_stride);
  }
}

// out[x * out_stride + w] for weight rows w in [0, count), given by row_at(w), and inputs [0, inputs). The `reach` rows
// after them exist too and are needed next: the last products prefetch the first of them.
template <class T, class RowAt>
static EXN_SIMD void products(RowAt&& row_at, int64_t count, const Inputs& in, int64_t inputs, int64_t dim, float* out,
                              int64_t out_stride, int64_t reach = 0) {
  if (inputs == 1) {
    panel_rows<T, kSingleBlock>(row_at, 0, count, count + reach, kSingleBlock, 0, 1, in, 1, dim, out, out_stride);
    return;
  }
  if constexpr (!std::is_same_v<T, float>) {
    if (in.bf == nullptr && widens(inputs, dim)) {
      wide_products<T>(row_at, count, in, inputs, dim, out, out_stride);
      return;
    }
  }
  // The weight rows of a panel stay in L1 while block after block of inputs passes by.
  const int64_t bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t panel = inputs <= kInputBlock ? kWeightBlock : (16384 / bytes / kWeightBlock + 1) * kWeightBlock;
  for (int64_t first = 0; first < count; first += panel) {
    const int64_t last = first + panel < count ? first + panel : count;
    panel_groups<T>(row_at, first, last, count + reach, panel, in, inputs, dim, out, out_stride);
  }
}

}  // namespace exn::cpu::EXN_ISA
