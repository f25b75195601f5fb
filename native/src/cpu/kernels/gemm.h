// SPDX-License-Identifier: Apache-2.0
// Microkernels of products.cpp with f32 accumulators, the GEMV of a single input, and the GEMM of a
// few.
#pragma once

#include "products.h"

namespace exn::cpu::EXN_ISA {

// How much of what comes next a block prefetches: all, half or none of the bytes that it reads
// itself. kHalfAgain, kAllAgain: each line several times, as it comes nearer. kOwn, kOwnAgain: each
// row ahead of itself.
enum class Prefetch { kNothing, kHalf, kAll, kHalfAgain, kAllAgain, kOwn, kOwnAgain };

template <Prefetch kPrefetch>
using PrefetchAs = std::integral_constant<Prefetch, kPrefetch>;

// Bytes that one step prefetches.
template <Prefetch kPrefetch>
constexpr int prefetched(int bytes) {
  if (kPrefetch == Prefetch::kNothing || kPrefetch >= Prefetch::kOwn) return 0;
  return kPrefetch == Prefetch::kAll || kPrefetch == Prefetch::kAllAgain ? bytes : bytes / 2;
}

template <Prefetch kPrefetch>
using Places = std::conditional_t<
    kPrefetch == Prefetch::kAllAgain, AllWeightsAgain,
    std::conditional_t<kPrefetch == Prefetch::kHalfAgain, HalfWeightsAgain, Before<0>>>;

// Input x's share of the kBytes that a step with kX inputs prefetches.
template <int kBytes, int kX, Prefetch kPrefetch>
static EXN_SIMD void prefetch_share(const char* next, int x) {
  prefetch_turn<(kBytes + 63) / 64, kX>(
      x, [&](int line) EXN_FLAT { prefetch_lines<1>(next + line * kLine, Places<kPrefetch>()); });
}

// What lies further on after the pair at p, if a row prefetches its own.
template <Prefetch kPrefetch, class T>
static EXN_SIMD void prefetch_own_row(const T* p) {
  if constexpr (kPrefetch >= Prefetch::kOwn) {
    constexpr int kSize = static_cast<int>(sizeof(T));
    using Requests = std::conditional_t<kPrefetch == Prefetch::kOwn, Before<0>, StreamAgain>;
    prefetch_lines<kPair * kSize / 64>(p + kStreamAhead / kSize, Requests());
    in_order();
  }
}

// Accumulators of a product. Short vectors make long dependency chains of additions, which a single
// row of weights would wait for.
constexpr int kChains = kLanes == 16 ? 1 : 2;

// out[x * out_stride + w] = <weight row w, input row x> for a register tile of kW rows x kX inputs.
template <class T, int kW, int kX, Prefetch kPrefetch>
static EXN_SIMD void f32_microkernel(const T* const* weight, const float* input,
                                     int64_t input_stride, int64_t dim, float* out,
                                     int64_t out_stride, const char* next) {
  constexpr int kSums = kW * kX, kSecond = (kChains - 1) * kSums;
  constexpr int kPrefetched = prefetched<kPrefetch>(kW * kPair * static_cast<int>(sizeof(T)));
  const T* rows[kW];
  for (int w = 0; w < kW; ++w) rows[w] = weight[w];
  f32v acc[kChains * kSums];
  for (f32v& v : acc) v = zero();
  int64_t k = 0;
  const auto step = [&](auto load_weight) EXN_FLAT {
    f32v a[kW], b[kW];
    for (int w = 0; w < kW; ++w) {
      prefetch_own_row<kPrefetch>(rows[w] + k);
      load_weight(rows[w] + k, a[w], b[w]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kX; ++x) {  // by order, or all sums are stored in each step
      prefetch_share<kPrefetched, kX, kPrefetch>(next, x);
      const f32v p = load(input + x * input_stride + k);
      const f32v q = load(input + x * input_stride + k + kLanes);
      for (int w = 0; w < kW; ++w) {
        f32v& first = acc[x * kW + w];
        f32v& second = acc[kSecond + x * kW + w];
        first = fma(a[w], p, first);
        second = fma(b[w], q, second);
      }
    }
    next += kPrefetched;
  };
  for (; k + kPair <= dim; k += kPair) {
    step([](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair(p, a, b); });
  }
  if (k < dim) {
    const int n = static_cast<int>(dim - k);
    step([n](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair_n(p, n, a, b); });
  }
  f32v all[kSums];
  for (int i = 0; i < kSums; ++i) all[i] = kChains == 2 ? add(acc[i], acc[kSecond + i]) : acc[i];
  float sums[kSums];
  fold_vectors(all, sums);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) out[x * out_stride + w] = sums[x * kW + w];
  }
}

#if defined(EXN_HAS_BF16_DOT)
template <int kW, int kX, Prefetch kPrefetch>
static EXN_SIMD void bf16_microkernel(const bf16* const* weight, const bf16* input,
                                      int64_t input_stride, int64_t dim, float* out,
                                      int64_t out_stride, const char* next) {
  constexpr int kPrefetched =
      prefetched<kPrefetch>(kW * kDotLanes * static_cast<int>(sizeof(bf16)));
  const bf16* rows[kW];
  for (int w = 0; w < kW; ++w) rows[w] = weight[w];
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  int64_t k = 0;
  const auto step = [&](auto load_weight) EXN_FLAT {
    bf16v v[kW];
    for (int w = 0; w < kW; ++w) {
      prefetch_own_row<kPrefetch>(rows[w] + k);
      v[w] = load_weight(rows[w] + k);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kX; ++x) {  // by order, or all sums are stored in each step
      prefetch_share<kPrefetched, kX, kPrefetch>(next, x);
      const bf16v p = load_pairs(input + x * input_stride + k);
      for (int w = 0; w < kW; ++w) acc[x * kW + w] = dot_pairs(v[w], p, acc[x * kW + w]);
    }
    next += kPrefetched;
  };
  for (; k + kDotLanes <= dim; k += kDotLanes) {
    step([](const bf16* p) EXN_FLAT { return load_pairs(p); });
  }
  if (k < dim) {
    const int n = static_cast<int>(dim - k);
    step([n](const bf16* p) EXN_FLAT { return load_pairs_n(p, n); });
  }
  float sums[kW * kX];
  fold_vectors(acc, sums);
  for (int x = 0; x < kX; ++x) {
    for (int w = 0; w < kW; ++w) out[x * out_stride + w] = sums[x * kW + w];
  }
}
#endif

template <class T, int kW, int kX, Prefetch kPrefetch>
static EXN_SIMD void microkernel(const T* const* weight, const Inputs& in, int64_t first_input,
                                 int64_t dim, float* out, int64_t out_stride, const char* next) {
  const int64_t at = first_input * in.stride;
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      bf16_microkernel<kW, kX, kPrefetch>(weight, in.bf + at, in.stride, dim, out, out_stride,
                                          next);
      return;
    }
  }
#endif
  f32_microkernel<T, kW, kX, kPrefetch>(weight, in.f32 + at, in.stride, dim, out, out_stride, next);
}

// *out = <weight row, input>. Prefetches as many bytes at `next`, a line before each that it reads.
template <class T>
static EXN_SIMD void single_row(const T* weight, const float* input, int64_t dim, const char* next,
                                float* out) {
  constexpr int kSize = static_cast<int>(sizeof(T)), kElements = kLineOf<T>;
  f32v acc[kChains];
  for (f32v& v : acc) v = zero();
  const auto join = [&](f32v a, f32v b, int64_t k) EXN_FLAT {
    acc[0] = fma(a, load(input + k), acc[0]);
    acc[kChains - 1] = fma(b, load(input + k + kLanes), acc[kChains - 1]);
  };
  int64_t k = 0;
  if constexpr (kElements < kPair) {
    for (; k + kPair <= dim; k += kPair) {
      for (int i = 0; i < 2; ++i) {
        const int64_t at = k + i * kLanes;
        prefetch_l2(next + at * kSize);
        in_order();
        f32v& sum = acc[i * (kChains - 1)];
        sum = fma(load(weight + at), load(input + at), sum);
        in_order();
      }
    }
  } else {
    for (; k + kElements <= dim; k += kElements) {
      prefetch_l2(next + k * kSize);
      in_order();
      for (int i = 0; i < kElements; i += kPair) {
        f32v a, b;
        load_pair(weight + k + i, a, b);
        join(a, b, k + i);
      }
      in_order();
    }
  }
  for (; k < dim; k += kPair) {
    const int n = dim - k < kPair ? static_cast<int>(dim - k) : kPair;
    f32v a, b;
    if (n == kPair) {
      load_pair(weight + k, a, b);
    } else {
      load_pair_n(weight + k, n, a, b);
    }
    join(a, b, k);
  }
  *out = reduce_add(kChains == 2 ? add(acc[0], acc[1]) : acc[0]);
}

#if defined(EXN_HAS_BF16_DOT)
static EXN_SIMD void single_row(const bf16* weight, const bf16* input, int64_t dim,
                                const char* next, float* out) {
  f32v sum = zero();
  int64_t k = 0;
  for (; k + kDotLanes <= dim; k += kDotLanes) {
    prefetch_l2(next + k * static_cast<int>(sizeof(bf16)));
    in_order();
    sum = dot_pairs(load_pairs(weight + k), load_pairs(input + k), sum);
    in_order();
  }
  if (k < dim) {
    const int n = static_cast<int>(dim - k);
    sum = dot_pairs(load_pairs_n(weight + k, n), load_pairs(input + k), sum);
  }
  *out = reduce_add(sum);
}
#endif

// Calls f(integral_constant n) for n in [kLeast, kMost].
template <int kLeast, int kMost, class F>
static EXN_SIMD void with_count(int64_t n, F&& f) {
  if constexpr (kMost > kLeast) {
    if (n < kMost) {
      with_count<kLeast, kMost - 1>(n, f);
      return;
    }
  }
  f(std::integral_constant<int, kMost>());
}

// Inputs that stay in L1 beside the weights that pass by, and beside those of several streams.
constexpr int64_t kInputBytes = int64_t{20} << 10, kNearInput = int64_t{8} << 10;

// The prefetch distance of about `bytes` in rows, as whole blocks of rows.
static EXN_SIMD int64_t prefetch_distance(int64_t bytes, int64_t row_bytes, int64_t block) {
  return (bytes / row_bytes / block + 1) * block;
}

// A single input that stays in L1: one row after another. A function of its own, as all loops here
// are: nothing else wants the registers.
template <class T, class U>
static __attribute__((noinline)) void prefetched_gemv(const WeightRows<T>& weight, const U* input,
                                                      int64_t dim, float* out) {
  const int64_t ahead =
      prefetch_distance(int64_t{8} << 10, dim * static_cast<int64_t>(sizeof(T)), 1);
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; ++w) {
    const T* const next = weight.at[w + ahead < limit ? w + ahead : w];
    single_row(weight.at[w], input, dim, reinterpret_cast<const char*>(next), out + w);
  }
}

// The same where the core is left to read ahead. Where rows jump it has nothing to guess by: the
// beginning of what follows is prefetched.
template <class T>
static __attribute__((noinline)) void plain_gemv(const WeightRows<T>& weight, const Inputs& in,
                                                 int64_t dim, float* out) {
  constexpr int kJumpLines = 24;
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; ++w) {
    const T* const row = weight.at[w];
    if (w + 1 < limit && weight.at[w + 1] != row + dim) {
      prefetch_lines<kJumpLines>(weight.at[w + 1]);
    }
    microkernel<T, 1, 1, Prefetch::kNothing>(&row, in, 0, dim, out + w, 0, nullptr);
  }
}

// Streams of rows into which a tile is split for a single input: a core reads ahead of all of them
// as of one, and the additions of one row leave time for those of the others.
constexpr int kStreams = 4;

// Whether the rows of each stream lie one after another.
template <class T>
static EXN_SIMD bool in_streams(const WeightRows<T>& weight, int64_t dim) {
  const int64_t each = weight.count / kStreams;
  if (each == 0) return false;
  for (int i = 0; i < kStreams; ++i) {
    const T* const* const rows = weight.at + i * each;
    if (rows[each - 1] != rows[0] + (each - 1) * dim) return false;
  }
  return true;
}

template <class T, Prefetch kPrefetch>
static __attribute__((noinline)) void streamed_gemv(const WeightRows<T>& weight, const Inputs& in,
                                                    int64_t dim, float* out) {
  const int64_t each = weight.count / kStreams;
  for (int64_t w = 0; w < each; ++w) {
    const T* rows[kStreams];
    for (int i = 0; i < kStreams; ++i) rows[i] = weight.at[i * each + w];
    float sums[kStreams];
    microkernel<T, kStreams, 1, kPrefetch>(rows, in, 0, dim, sums, 0, nullptr);
    for (int i = 0; i < kStreams; ++i) out[i * each + w] = sums[i];
  }
  for (int64_t w = kStreams * each; w < weight.count; ++w) {
    microkernel<T, 1, 1, Prefetch::kNothing>(weight.at + w, in, 0, dim, out + w, 0, nullptr);
  }
}

// The register tile, MR x NR: weight rows, and inputs that share what is loaded of them.
constexpr int kMR = kRegisters == 32 ? 4 : 2;
constexpr int kNR = kChains == 1 ? 4 : 2;
// Weight rows side by side for a single input.
constexpr int kGemvRows = kRegisters == 32 ? 8 : 4;

// A single input, kGemvRows rows side by side.
template <class T, Prefetch kPrefetch>
static __attribute__((noinline)) void row_block_gemv(const WeightRows<T>& weight, const Inputs& in,
                                                     int64_t dim, float* out) {
  const int64_t ahead =
      prefetch_distance(int64_t{128} << 10, dim * static_cast<int64_t>(sizeof(T)), kGemvRows);
  int64_t w = 0;
  for (; w + kGemvRows <= weight.count; w += kGemvRows) {
    const T* const* const rows = weight.at + w;
    if (w + ahead + kGemvRows <= weight.count + weight.reach) {
      const char* next = reinterpret_cast<const char*>(rows[ahead]);
      microkernel<T, kGemvRows, 1, kPrefetch>(rows, in, 0, dim, out + w, 0, next);
    } else {
      microkernel<T, kGemvRows, 1, Prefetch::kNothing>(rows, in, 0, dim, out + w, 0, nullptr);
    }
  }
  for (; w < weight.count; ++w) {
    microkernel<T, 1, 1, Prefetch::kNothing>(weight.at + w, in, 0, dim, out + w, 0, nullptr);
  }
}

// Weight rows [first, last), one at a time, with inputs [x, end) in groups of kX, the last of which
// may begin earlier.
template <class T, int kX>
static __attribute__((noinline)) void row_by_row_gemm(const T* const* weight, int64_t first,
                                                      int64_t last, const Inputs& in, int64_t x,
                                                      int64_t end, int64_t dim, float* out,
                                                      int64_t out_stride) {
  for (int64_t w = first; w < last; ++w) {
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      microkernel<T, 1, kX, Prefetch::kNothing>(weight + w, in, begin, dim,
                                                out + begin * out_stride + w, out_stride, nullptr);
    }
  }
}

// The same of kMR rows at a time. The blocks prefetch the rows `ahead` further on, of which those before `limit` exist;
// with kHalf two groups share this, since all at once the requests would come in bursts with idle
// memory between them.
template <class T, int kX, Prefetch kPrefetch>
static __attribute__((noinline)) void block_gemm(const T* const* weight, int64_t first,
                                                 int64_t last, int64_t limit, int64_t ahead,
                                                 const Inputs& in, int64_t x, int64_t end,
                                                 int64_t dim, float* out, int64_t out_stride) {
  const int64_t half = kMR * dim * static_cast<int64_t>(sizeof(T)) / 2;
  int64_t w = first;
  for (; w + kMR <= last; w += kMR) {
    const char* next = nullptr;
    if (kPrefetch != Prefetch::kNothing) {
      next = reinterpret_cast<const char*>(weight[w + ahead + kMR <= limit ? w + ahead : w]);
    }
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      microkernel<T, kMR, kX, kPrefetch>(weight + w, in, begin, dim, out + begin * out_stride + w,
                                         out_stride, group == 0 ? next : next + half);
    }
  }
  if (w < last) row_by_row_gemm<T, kX>(weight, w, last, in, x, end, dim, out, out_stride);
}

// Many inputs, weight stationary: kMR weight rows stay in L1 while all inputs pass by, and the
// first two groups share what they prefetch. The last rows may begin earlier, and so may the last
// group.
template <class T, Prefetch kPrefetch>
static __attribute__((noinline)) void weight_stationary_gemm(const WeightRows<T>& weight,
                                                             const Inputs& in, int64_t inputs,
                                                             int64_t dim, float* out,
                                                             int64_t out_stride) {
  constexpr int kW = kMR, kX = kNR;
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = prefetch_distance(int64_t{64} << 10, row_bytes, kW);
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; w += kW) {
    const int64_t first = w + kW <= count ? w : count - kW;
    const T* const* const rows = weight.at + first;
    const char* next = reinterpret_cast<const char*>(rows[first + ahead + kW <= limit ? ahead : 0]);
    for (int64_t group = 0; group < inputs; group += kX) {
      const int64_t x = group + kX <= inputs ? group : inputs - kX;
      float* const to = out + x * out_stride + first;
      if (group < 2 * kX) {
        microkernel<T, kW, kX, kPrefetch>(rows, in, x, dim, to, out_stride, next);
        next += kW * row_bytes / 2;
      } else {
        microkernel<T, kW, kX, Prefetch::kNothing>(rows, in, x, dim, to, out_stride, nullptr);
      }
    }
  }
}

// block_gemm panel by panel: the weights of a panel stay in cache while group after group of more
// inputs than kNR passes by.
template <class T, Prefetch kPrefetch>
static EXN_SIMD void panel_gemm(const WeightRows<T>& weight, int64_t panel, int64_t ahead,
                                const Inputs& in, int64_t inputs, int64_t dim, float* out,
                                int64_t out_stride) {
  constexpr int kX = kNR;
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t first = 0; first < count; first += panel) {
    const int64_t last = first + panel < count ? first + panel : count;
    block_gemm<T, kX, kPrefetch>(weight.at, first, last, limit, ahead, in, 0, kX, dim, out,
                                 out_stride);
    for (int64_t x = kX; x < inputs; x += kX) {
      const int64_t begin = x + kX <= inputs ? x : inputs - kX;
      if (x == kX) {
        block_gemm<T, kX, kPrefetch>(weight.at, first, last, limit, ahead, in, begin, begin + kX,
                                     dim, out, out_stride);
      } else {
        block_gemm<T, kX, Prefetch::kNothing>(weight.at, first, last, limit, ahead, in, begin,
                                              begin + kX, dim, out, out_stride);
      }
    }
  }
}

}  // namespace exn::cpu::EXN_ISA
