// SPDX-License-Identifier: Apache-2.0
// The GEMM of products.cpp for five inputs and more, where vectors are long and registers many: a
// register tile of 3 x 8.
#pragma once

#include "gemm.h"

namespace exn::cpu::EXN_ISA {

// ---- five inputs and more, where vectors are long and registers many ----------------------------

// A register tile of 3 x 8, three rows and up to eight inputs: 11 loads for 24 multiplications, and
// each weight is widened once for all of them. Where these are all inputs, memory is the
// bottleneck.
constexpr int kLongMR = 3, kLongNR = 8;

// The microkernel of the 3 x kX tile: sums[x * kLongMR + w] becomes the vector whose lanes add up
// to <weight row w, input row x>; where kDepthBlocked, of `dim` columns from `column` on, and with
// what it was before if that is not 0. Prefetches from next_l1 into L1 and from next_l2 into L2.
// The loops are unrolled by order, or all sums would be stored in each step.
template <class T, int kX, bool kDepthBlocked>
static EXN_SIMD void long_microkernel(const T* const* weight, int64_t column, const float* input,
                                      int64_t input_stride, int64_t dim, const char* next_l1,
                                      const char* next_l2, f32v* sums) {
  constexpr int kLines = kLongMR * kPair * static_cast<int>(sizeof(T)) / 64;
  const T* rows[kLongMR];
  for (int w = 0; w < kLongMR; ++w) rows[w] = weight[w] + (kDepthBlocked ? column : 0);
  const float* inputs[(kX + 2) / 3];  // each third
  for (int i = 0; i < (kX + 2) / 3; ++i) {
    inputs[i] = input + 3 * i * input_stride + (kDepthBlocked ? column : 0);
  }
  f32v acc[kLongMR * kX];
#pragma GCC unroll 24
  for (int i = 0; i < kLongMR * kX; ++i) acc[i] = kDepthBlocked && column > 0 ? sums[i] : zero();
  int64_t k = 0;
  const auto half_pair = [&](auto load_weight, auto second, int64_t pitch) EXN_FLAT {
    constexpr int kSecond = decltype(second)::value ? 1 : 0;
    f32v v[kLongMR];
#pragma GCC unroll 3
    for (int w = 0; w < kLongMR; ++w) {
      f32v a, b;
      load_weight(rows[w] + k, a, b);
      v[w] = kSecond ? b : a;
    }
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) {
      in_order();
      // Each line into L2 far ahead, and one in three into L1 a block ahead.
      prefetch_turn<kLines, 2 * kX>(kSecond * kX + x, [&](int line) EXN_FLAT {
        if (line % 3 == 0) prefetch_l1(next_l1 + line * kLine);
        prefetch_l2(next_l2 + line * kLine);
      });
      const f32v p = load(inputs[x / 3] + x % 3 * pitch + kSecond * kLanes);
#pragma GCC unroll 3
      for (int w = 0; w < kLongMR; ++w) {
        acc[x * kLongMR + w] = add_product(v[w], p, acc[x * kLongMR + w]);
      }
    }
  };
  const auto step = [&](auto load_weight) EXN_FLAT {
    // Unknown in each step: the compiler would keep a pointer for each input and run out of
    // registers.
    int64_t pitch = input_stride;
    asm("" : "+r"(pitch) : "r"(k));
    half_pair(load_weight, std::false_type(), pitch);
    half_pair(load_weight, std::true_type(), pitch);
    for (const float*& p : inputs) p += kPair;
    next_l1 += kDepthBlocked ? kLines * 64 / kLongMR : kLines * 64;
    next_l2 += kLines * 64;
  };
  for (; k + kPair <= dim; k += kPair) {
    step([](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair(p, a, b); });
  }
  if (k < dim) {
    const int n = static_cast<int>(dim - k);
    step([n](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair_n(p, n, a, b); });
  }
#pragma GCC unroll 24
  for (int i = 0; i < kLongMR * kX; ++i) sums[i] = acc[i];
}

// Accumulators of kBlocks tiles, filled up to whole trees.
template <int kX, int kBlocks>
constexpr int kLongSums = (kBlocks * kLongMR * kX + kReduceTree - 1) / kReduceTree * kReduceTree;

// What the accumulators of tiles add up to. A function of its own: its constants would take
// registers from the accumulators.
template <int kX, int kBlocks>
static __attribute__((noinline)) void fold_long(const f32v* vectors, float* out,
                                                int64_t out_stride) {
  constexpr int kCount = kLongSums<kX, kBlocks>;
  float sums[kCount];
  for (int i = 0; i < kCount; i += kReduceTree) reduce_add_tree(vectors + i, sums + i);
  in_order();  // one by one is faster than what the compiler makes of it
  for (int x = 0; x < kX; ++x) {
    for (int b = 0; b < kBlocks; ++b) {
      for (int w = 0; w < kLongMR; ++w) {
        out[x * out_stride + b * kLongMR + w] = sums[(b * kX + x) * kLongMR + w];
      }
    }
  }
}

// Weight rows [first, last), two tiles at a time, whose sums fill trees better than those of one;
// the last ones may begin earlier. The prefetch distance of L2 is `next_l2` rows.
template <class T, int kX>
static __attribute__((noinline)) void long_rows(const WeightRows<T>& weight, int64_t first,
                                                int64_t last, int64_t next_l2, const float* input,
                                                int64_t input_stride, int64_t dim, float* out,
                                                int64_t out_stride) {
  const int64_t limit = weight.count + weight.reach - kLongMR;
  f32v sums[kLongSums<kX, 2>];
  for (f32v& v : sums) v = zero();
  for (int64_t w = first; w < last; w += 2 * kLongMR) {
    const int64_t blocks = last - w > kLongMR ? 2 : 1, end = w + blocks * kLongMR;
    const int64_t begin = end <= last ? w : last - blocks * kLongMR;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t at = begin + b * kLongMR;
      long_microkernel<T, kX, false>(
          weight.at + at, 0, input, input_stride, dim,
          reinterpret_cast<const char*>(weight.at[at + kLongMR <= limit ? at + kLongMR : at]),
          reinterpret_cast<const char*>(weight.at[at + next_l2 <= limit ? at + next_l2 : at]),
          sums + b * kLongMR * kX);
    }
    if (blocks == 2) {
      fold_long<kX, 2>(sums, out + begin, out_stride);
    } else {
      fold_long<kX, 1>(sums, out + begin, out_stride);
    }
  }
}

// The same for all rows and for inputs that leave L1, blocked along the depth: a panel of rows is
// multiplied by `depth_block` columns of them after the other, and its accumulators wait in memory.
template <class T, int kX>
static __attribute__((noinline)) void long_depth_blocks(const WeightRows<T>& weight,
                                                        int64_t depth_block, const float* input,
                                                        int64_t input_stride, int64_t dim,
                                                        float* out, int64_t out_stride,
                                                        ProductScratch& scratch) {
  constexpr int kSums = kLongSums<kX, 2>;
  constexpr int64_t kBoth = 2 * kLongMR, kPanel = 4 * kBoth;
  static_assert(kPanel / kBoth * kSums * kLanes <= ProductScratch::kFloats);
  const int64_t count = weight.count, limit = count + weight.reach - kLongMR;
  f32v* const sums = reinterpret_cast<f32v*>(scratch.at);
  for (int64_t i = 0; i < kPanel / kBoth * kSums; ++i) sums[i] = zero();
  for (int64_t first = 0; first < count; first += kPanel) {
    const int64_t last = first + kPanel < count ? first + kPanel : count;
    for (int64_t column = 0; column < dim; column += depth_block) {
      const int64_t columns = dim - column < depth_block ? dim - column : depth_block;
      f32v* own = sums;
      for (int64_t w = first; w < last; w += kBoth, own += kSums) {
        const int64_t blocks = last - w > kLongMR ? 2 : 1, end = w + blocks * kLongMR;
        const int64_t begin = end <= last ? w : last - blocks * kLongMR;
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t at = begin + b * kLongMR;
          // Of the next rows the same columns, of the next panel its share in the order of memory.
          const T* const next_l1 = weight.at[at + kLongMR <= limit ? at + kLongMR : at] + column;
          const T* const next_l2 =
              weight.at[at + kPanel <= limit ? at + kPanel : at] + kLongMR * column;
          long_microkernel<T, kX, true>(weight.at + at, column, input, input_stride, columns,
                                        reinterpret_cast<const char*>(next_l1),
                                        reinterpret_cast<const char*>(next_l2),
                                        own + b * kLongMR * kX);
        }
        if (column + columns < dim) continue;
        if (blocks == 2) {
          fold_long<kX, 2>(own, out + begin, out_stride);
        } else {
          fold_long<kX, 1>(own, out + begin, out_stride);
        }
      }
    }
  }
}

// The depth block: columns of so many inputs that stay in L1, in blocks of about one size. A small
// share of L1: what is read there once for a panel must not evict the sums and weights that stay.
static EXN_SIMD int64_t l1_columns(int64_t inputs, int64_t dim) {
  constexpr int64_t kBytes = int64_t{6} << 10;
  const int64_t most = kBytes / (inputs * 4), depth_blocks = (dim + most - 1) / most;
  return ((dim + depth_blocks - 1) / depth_blocks + kPair - 1) / kPair * kPair;
}

// More than eight inputs pass by in groups of one size while the weights of a panel stay in L2. Not
// inlined, as a single input would have to step over it.
template <class T>
static __attribute__((noinline)) void long_gemm(const WeightRows<T>& weight, const Inputs& in,
                                                int64_t inputs, int64_t dim, float* out,
                                                int64_t out_stride, ProductScratch& scratch) {
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T)), count = weight.count;
  const int64_t groups = (inputs + kLongNR - 1) / kLongNR, size = (inputs + groups - 1) / groups;
  // Not so far that much of a tile has gone by before anything was asked for; untimed where
  // requests are lost.
  const int64_t far = int64_t{tuning().prefetch_again ? 64 : 16} << 10;
  const int64_t next_l2 = prefetch_distance(far, row_bytes, 2 * kLongMR);
  const int64_t panel =
      groups == 1 ? count : prefetch_distance(int64_t{64} << 10, row_bytes, 2 * kLongMR);
  with_count<kNR + 1, kLongNR>(size, [&](auto n) EXN_FLAT {
    constexpr int kX = decltype(n)::value;
    if constexpr (sizeof(T) == 2) {  // of f32 it does not pay, see long_tile_pays
      if (groups == 1 && kX * in.stride * 4 > kInputBytes) {
        long_depth_blocks<T, kX>(weight, l1_columns(kX, dim), in.f32, in.stride, dim, out,
                                 out_stride, scratch);
        return;
      }
    }
    for (int64_t first = 0; first < count; first += panel) {
      const int64_t last = first + panel < count ? first + panel : count;
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t even = inputs * g / groups;
        const int64_t x = even + size <= inputs ? even : inputs - size;
        long_rows<T, kX>(weight, first, last, next_l2, in.f32 + x * in.stride, in.stride, dim,
                         out + x * out_stride, out_stride);
      }
    }
  });
}

// Whether the rows of a tile lie one after another, or those of each half, as of gate and up.
template <class T>
static EXN_SIMD bool in_one_or_two_runs(const WeightRows<T>& weight, int64_t dim) {
  const int64_t half = weight.count / 2, last = weight.count - 1;
  const T* const* const at = weight.at;
  return at[last] == at[0] + last * dim ||
         (half > 0 && weight.count == 2 * half && at[half - 1] == at[0] + (half - 1) * dim &&
          at[last] == at[half] + (half - 1) * dim);
}

// Whether the 3 x 8 tile pays: not for rows so short that their ends weigh, nor for more than eight
// inputs that leave L1; of f32, two groups of four do as well for seven or eight, and for all that
// leave L1. What is prefetched has to lie in memory as it comes.
template <class T>
static EXN_SIMD bool long_tile_pays(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                    int64_t dim) {
  if (kChains != 1 || kRegisters != 32 || in.bf != nullptr || inputs <= kNR) return false;
  const int64_t row = in.stride * 4;
  const bool near = inputs * row <= kInputBytes,
             depth_blocks = sizeof(T) == 2 && !tuning().prefetch_again;
  const bool few = dim > 8 * kPair && (near ? sizeof(T) == 2 || inputs <= 6 : depth_blocks);
  const bool many = dim >= 16 * kPair && kLongNR * row <= (int64_t{24} << 10);
  const bool pays = inputs <= kLongNR ? few : many;
  return pays && weight.count >= 8 * kLongMR && in_one_or_two_runs(weight, dim);
}

}  // namespace exn::cpu::EXN_ISA
