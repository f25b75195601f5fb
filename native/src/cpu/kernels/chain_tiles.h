// SPDX-License-Identifier: Apache-2.0
// The GEMM of products.cpp for several inputs, where vectors are long and registers few: one
// accumulator chain after the other.
#pragma once

#include "gemm.h"

namespace exn::cpu::EXN_ISA {

#if defined(EXN_HAS_ODD_LOADS)
// ---- several inputs, where vectors are long and registers few -----------------------------------

// One accumulator chain after the other: with one accumulator per product instead of two, a
// register tile of 3 x 4 fits and each vector that it loads serves more products, 7 loads for 12
// multiplications. The sums of a chain wait in memory until those of the other join them.
constexpr int kChainMR = 3, kChainNR = 4;
constexpr int kChainSums = kChainMR * kChainNR;
constexpr int64_t kChainBlockSums = 2 * kChainSums * kLanes;

// Columns [begin, end) of rows of `dim`. While they are multiplied, what comes next is prefetched
// evenly, `pace` bytes in each step.
struct Chains {
  int64_t begin, end, dim;
  int64_t input_stride, out_stride;
  const char* next;
  int64_t pace;
};

// One step of the chains where a row ends within a pair.
template <class T, int kX>
static __attribute__((noinline)) void chain_tail(const T* const* weight, const float* input,
                                                 float* sums, const Chains& c, int64_t k) {
  for (int w = 0; w < kChainMR; ++w) {
    f32v v[2];
    load_pair_n(weight[w] + k, static_cast<int>(c.end - k), v[0], v[1]);
    for (int chain = 0; chain < 2; ++chain) {
      for (int x = 0; x < kX; ++x) {
        float* const sum = sums + ((chain * kChainMR + w) * kX + x) * kLanes;
        const f32v p = load(input + x * c.input_stride + k + chain * kLanes);
        store(sum, fma(v[chain], p, load(sum)));
      }
    }
  }
}

// `groups` blocks of kChainMR x kX, whose sums are two times kChainSums vectors each; those of
// the columns before `begin` come in.
template <class T, int kX, int kLines>
static __attribute__((noinline)) void chain_blocks(const T* const* weight, const float* input,
                                                   int64_t groups, float* sums, float* out,
                                                   Chains* c) {
  constexpr int kW = kChainMR, kSums = kW * kX;
  const int64_t begin = c->begin, whole = c->end - (c->end - begin) % kPair;
  const int64_t stride = c->input_stride, pace = c->pace;
  const char* next = c->next;
  for (int64_t g = 0; g < groups; ++g) {
    const auto chain = [&](auto second) EXN_FLAT {
      constexpr bool kSecond = decltype(second)::value;
      float* const to = sums + (kSecond ? kSums * kLanes : 0);
      f32v acc[kSums];
      for (int i = 0; i < kSums; ++i) acc[i] = begin == 0 ? zero() : load(to + i * kLanes);
      for (int64_t k = begin; k < whole; k += kPair) {
        prefetch_lines<kLines>(next);
        if constexpr (kLines > 0) next += pace;
        f32v v[kW];
        load_halves<kSecond, T>([&](int w) EXN_FLAT { return weight[w] + k; }, k, v);
        for (int x = 0; x < kX; ++x) {
          const f32v p = load(input + x * stride + k + (kSecond ? kLanes : 0));
          for (int w = 0; w < kW; ++w) acc[w * kX + x] = fma(v[w], p, acc[w * kX + x]);
        }
      }
      for (int i = 0; i < kSums; ++i) store(to + i * kLanes, acc[i]);
    };
    chain(std::false_type());
    chain(std::true_type());
    if (whole < c->end) chain_tail<T, kX>(weight, input, sums, *c, whole);
    if (c->end == c->dim) {
      f32v all[kSums];
      for (int i = 0; i < kSums; ++i) {
        all[i] = add(load(sums + i * kLanes), load(sums + (kSums + i) * kLanes));
      }
      float folded[kSums];
      fold_vectors(all, folded);
      for (int x = 0; x < kX; ++x) {
        for (int w = 0; w < kW; ++w) out[x * c->out_stride + w] = folded[w * kX + x];
      }
    }
    input += kX * stride;
    out += kX * c->out_stride;
    sums += kChainBlockSums;
  }
  c->next = next;
}

// The same for two to kChainNR inputs a block.
template <class T>
static EXN_SIMD void chain_inputs(const T* const* weight, const float* input, int64_t size,
                                  int64_t groups, float* sums, float* out, Chains* c) {
  with_count<2, kChainNR>(size, [&](auto n) EXN_FLAT {
    constexpr int kX = decltype(n)::value;
    if (c->pace == 0) {
      chain_blocks<T, kX, 0>(weight, input, groups, sums, out, c);
    } else if (c->pace <= kLine) {
      chain_blocks<T, kX, 1>(weight, input, groups, sums, out, c);
    } else {
      chain_blocks<T, kX, 2>(weight, input, groups, sums, out, c);
    }
  });
}

// Two groups of inputs, [from, middle) and [middle, to).
struct ChainPair {
  int64_t from, middle, to;
  EXN_SIMD bool even() const { return to - middle == middle - from; }
};

// Columns of a panel of `count` weight rows, where all have as many, with two groups of inputs.
// Of the `scattered` rows after the panel, which do not lie in one run, the same columns are
// prefetched. Sums of the next rows lie `pitch` further on.
template <class T>
static EXN_SIMD void chain_panel(const T* const* weight, int64_t count, int64_t scattered,
                                 const Inputs& in, const ChainPair& pair, float* sums,
                                 int64_t pitch, float* out, Chains* c) {
  for (int64_t w = 0; w < count; w += kChainMR, sums += pitch) {
    const int64_t at = w + kChainMR <= count ? w : count - kChainMR;
    for (int64_t i = w; i < scattered && i < w + kChainMR; ++i) {
      const T* const end = weight[count + i] + c->end;
      for (const T* p = weight[count + i] + c->begin; p < end; p += kLineOf<T>) prefetch_l2(p);
    }
    for (int64_t x = pair.from, end = pair.middle; x < end; x = end, end = pair.to) {
      if (x > pair.from && pair.even()) break;  // they went together
      chain_inputs(weight + at, in.f32 + x * in.stride, end - x, pair.even() ? 2 : 1,
                   sums + (x > pair.from ? kChainBlockSums : 0), out + x * c->out_stride + at, c);
    }
  }
}

// The weights of a panel stay in L2 while the inputs pass by, two groups at a time: of these so
// many columns as stay in L1 while the panel passes by.
template <class T>
static EXN_SIMD void chain_gemm(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                int64_t dim, float* out, int64_t out_stride,
                                ProductScratch& scratch) {
  constexpr int64_t kPanelBytes = int64_t{128} << 10, kPanelRows = 24, kColumns = 640;
  // Groups that share what is prefetched: with more of them memory has time enough.
  constexpr int64_t kSharing = 4;
  static_assert(kPanelRows / kChainMR * 2 * kChainBlockSums <= ProductScratch::kFloats);
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t fit = kPanelBytes / row_bytes / kChainMR * kChainMR;
  const int64_t panel = fit < kChainMR ? kChainMR : fit < kPanelRows ? fit : kPanelRows;
  const int64_t groups = (inputs + kChainNR - 1) / kChainNR;
  const int64_t sharing = groups < kSharing ? groups : kSharing;
  const int64_t most = groups == 1 ? 2 * kColumns : kColumns,
                depth_blocks = (dim + most - 1) / most;
  const int64_t columns = ((dim + depth_blocks - 1) / depth_blocks + 31) / 32 * 32;
  const int64_t pitch = depth_blocks > 1 ? 2 * kChainBlockSums : 0;
  for (int64_t first = 0; first < weight.count; first += panel) {
    const T* const* const rows = weight.at + first;
    const int64_t count = first + panel < weight.count ? panel : weight.count - first;
    const int64_t left = weight.count + weight.reach - first - count;
    const int64_t ahead = left < panel ? left : panel;
    const bool scattered = ahead > 0 && rows[count + ahead - 1] != rows[count] + (ahead - 1) * dim;
    Chains c = {0, 0, dim, in.stride, out_stride, nullptr, 0};
    if (ahead > 0 && !scattered) {
      const int64_t steps = sharing * 2 * ((count + kChainMR - 1) / kChainMR) * (dim / kPair + 1);
      c.next = reinterpret_cast<const char*>(rows[count]);
      c.pace = (ahead * row_bytes + steps - 1) / steps;
    }
    for (int64_t g = 0; g < groups; g += 2) {
      const int64_t after = g + 2 < groups ? g + 2 : groups;  // as even as can be
      const ChainPair pair = {inputs * g / groups, inputs * (g + 1) / groups,
                              inputs * after / groups};
      if (g >= sharing) c.pace = 0;
      for (c.begin = 0; c.begin < dim; c.begin = c.end) {
        c.end = c.begin + columns < dim ? c.begin + columns : dim;
        chain_panel(rows, count, scattered && g == 0 ? ahead : 0, in, pair, scratch.at, pitch,
                    out + first, &c);
      }
    }
  }
}
#endif

}  // namespace exn::cpu::EXN_ISA
