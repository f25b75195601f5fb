// SPDX-License-Identifier: Apache-2.0
// The products of products.h: one input is a matrix-vector product (GEMV), several are a small
// matrix product (GEMM). A microkernel holds a register tile of MR weight rows x NR inputs in
// accumulators.
//
// How the weights are read decides the speed. A core reads far enough ahead only where it reads on
// in one direction, so the GEMV takes rows one at a time, and where that pays prefetches a line
// some KiB further on with each; or, where the additions of a row take longer than its bytes, one
// row each of four streams. That needs an input that stays in L1; otherwise, and for several
// inputs, rows are taken side by side and prefetched, well ahead, into L2, evenly over the time
// that their products take. From about five inputs on the multipliers are the bottleneck, which
// leave half a load to each; see chain_gemm, weight_stationary_gemm, and long_rows, where there are
// registers for the accumulators of all. docs/tuning.md has the figures.
#include "products.h"

namespace exn::cpu::EXN_ISA {

// How much of what comes next a block prefetches: all, half or none of the bytes that it reads
// itself. kHalfAgain, kAllAgain: each line several times, as it comes nearer. kOwn: several times
// too, each row ahead of itself.
enum class Prefetch { kNothing, kHalf, kAll, kHalfAgain, kAllAgain, kOwn };

template <Prefetch kPrefetch>
using PrefetchAs = std::integral_constant<Prefetch, kPrefetch>;

// Bytes that one step prefetches.
template <Prefetch kPrefetch>
constexpr int prefetched(int bytes) {
  if (kPrefetch == Prefetch::kNothing || kPrefetch == Prefetch::kOwn) return 0;
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
  if constexpr (kPrefetch == Prefetch::kOwn) {
    constexpr int kSize = static_cast<int>(sizeof(T));
    prefetch_lines<kPair * kSize / 64>(p + kStreamAhead / kSize, StreamAgain());
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

// Calls f(integral_constant n) for n in [1, kMost].
template <int kMost, class F>
static EXN_SIMD void with_count(int64_t n, F&& f) {
  if constexpr (kMost > 1) {
    if (n < kMost) {
      with_count<kMost - 1>(n, f);
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

// Weight rows [first, last) with inputs [x, end) in groups of kX, the last of which may begin
// earlier. The blocks prefetch the rows `ahead` further on, of which those before `limit` exist;
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
  for (; w < last; ++w) {
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      microkernel<T, 1, kX, Prefetch::kNothing>(weight + w, in, begin, dim,
                                                out + begin * out_stride + w, out_stride, nullptr);
    }
  }
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
  with_count<kLongNR>(size, [&](auto n) EXN_FLAT {
    constexpr int kX = decltype(n)::value;
    if constexpr (kX > kNR) {
      if (groups == 1 && kX * in.stride * 4 > kInputBytes) {
        long_depth_blocks<T, kX>(weight, l1_columns(kX, dim), in.f32, in.stride, dim, out,
                                 out_stride, scratch);
        return;
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

// For many inputs, each weight is widened once, not once per register tile. The products are the
// same.
static EXN_SIMD bool widening_pays(int64_t inputs, int64_t dim) {
  return inputs > 16 && padded(dim) * kMR <= ProductScratch::kFloats;
}

template <class T>
static EXN_SIMD void widened_gemm(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                  int64_t dim, float* out, int64_t out_stride,
                                  ProductScratch& scratch) {
  float* const wide = scratch.at;
  const float** const wide_rows = scratch.rows;
  const int64_t stride = padded(dim);
  const int64_t panel = (4096 / stride / kMR + 1) * kMR;
  const int64_t rows = panel * stride <= ProductScratch::kFloats ? panel : kMR;
  for (int64_t r = 0; r < rows; ++r) wide_rows[r] = wide + r * stride;
  for (int64_t first = 0; first < weight.count; first += rows) {
    const int64_t count = weight.count - first < rows ? weight.count - first : rows;
    for (int64_t r = 0; r < count; ++r) {
      const T* from = weight.at[first + r];
      float* to = wide + r * stride;
      for (int64_t k = 0; k < dim; k += kPair) {
        f32v a, b;
        if (k + kPair <= dim) {
          load_pair(from + k, a, b);
        } else {
          load_pair_n(from + k, static_cast<int>(dim - k), a, b);
        }
        store(to + k, a);
        store(to + k + kLanes, b);
      }
    }
    // A pair of bf16 fills its two vectors even where the row ends in between.
    const int64_t wide_dim = (dim + kPair - 1) / kPair * kPair;
    for (int64_t x = 0; x < inputs; x += kNR) {
      const int64_t begin = x + kNR <= inputs ? x : inputs - kNR;
      block_gemm<float, kNR, Prefetch::kNothing>(wide_rows, 0, count, count, 0, in, begin,
                                                 begin + kNR, wide_dim, out + first, out_stride);
    }
  }
}

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

// The same for one to kChainNR inputs a block.
template <class T>
static EXN_SIMD void chain_inputs(const T* const* weight, const float* input, int64_t size,
                                  int64_t groups, float* sums, float* out, Chains* c) {
  with_count<kChainNR>(size, [&](auto n) EXN_FLAT {
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

// Whether lines are prefetched several times: what lies before one must be what is read before it.
template <class T>
static EXN_SIMD bool prefetches_again(const WeightRows<T>& weight, int64_t dim) {
  const int64_t last = weight.count - 1;
  return last > 0 && weight.at[last] == weight.at[0] + last * dim && tuning().prefetch_again;
}

template <class T>
static EXN_SIMD void gemv(const WeightRows<T>& weight, const Inputs& in, int64_t dim, float* out,
                          bool again) {
  // The two chains of a row of 16-bit weights take AVX2 as long as memory does, or longer; but
  // short rows from memory come slower side by side.
  const bool chains_wait = kChainwise && sizeof(T) == 2 && dim >= 1024;
  const int64_t input_bytes = dim * (in.bf != nullptr ? 2 : 4);
  if constexpr (kLanes == 16) {
    const bool narrow = sizeof(T) == 2;
    const bool near = input_bytes <= (in.bf != nullptr ? kInputBytes : kNearInput);
    if (!tuning().prefetch_streams && in_streams(weight, dim)) {
      // Sums of f32 weights keep up with memory: there it is long inputs that four rows read less
      // often. Requests cost more than they bring where a cache has kept the weights.
      if (in.far ? narrow || !near : narrow && !near && input_bytes < kInputBytes) {
        streamed_gemv<T, Prefetch::kOwn>(weight, in, dim, out);
        return;
      }
      if (narrow && near) {
        streamed_gemv<T, Prefetch::kNothing>(weight, in, dim, out);
        return;
      }
    }
  }
  if (chains_wait || input_bytes >= kInputBytes) {
    again ? row_block_gemv<T, Prefetch::kAllAgain>(weight, in, dim, out)
          : row_block_gemv<T, Prefetch::kAll>(weight, in, dim, out);
    return;
  }
  if (!tuning().prefetch_streams) {
    plain_gemv(weight, in, dim, out);
    return;
  }
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      prefetched_gemv(weight, in.bf, dim, out);
      return;
    }
  }
#endif
  prefetched_gemv(weight, in.f32, dim, out);
}

template <class T>
void row_products(const WeightRows<T>& weight, const Inputs& in, int64_t inputs, int64_t dim,
                  float* out, int64_t out_stride, ProductScratch& scratch) {
  if (inputs == 0) return;
  if constexpr (kTiles && std::is_same_v<T, bf16>) {
    if (in.tiles != nullptr) {
      tile_products(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
  const bool again = prefetches_again(weight, dim);
  if (inputs == 1) {
    gemv(weight, in, dim, out, again);
    return;
  }
  if constexpr (kLanes == 16) {
    // Four weight rows of bf16 and four inputs of it fill L1 from 2048 columns on; of f32 inputs
    // L2 delivers enough.
    const bool fits = in.bf == nullptr || dim < 2048;
    if (inputs >= 3 * kNR && weight.count >= kMR && fits && tuning().blocks_stay) {
      if (again) {
        weight_stationary_gemm<T, Prefetch::kHalfAgain>(weight, in, inputs, dim, out, out_stride);
      } else {
        weight_stationary_gemm<T, Prefetch::kHalf>(weight, in, inputs, dim, out, out_stride);
      }
      return;
    }
  }
  if constexpr (kChains == 1) {
    if (long_tile_pays(weight, in, inputs, dim)) {
      long_gemm(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
#if defined(EXN_HAS_ODD_LOADS)
  // Fewer inputs wait for memory, and short ones for the ends of rows: the blocks below suit them.
  constexpr int64_t kFew = std::is_same_v<T, float> ? 4 : 2;
  if (inputs > kFew && weight.count >= kChainMR && dim >= (dim % kPair == 0 ? 4 : 24) * kPair) {
    chain_gemm(weight, in, inputs, dim, out, out_stride, scratch);
    return;
  }
#endif
  if constexpr (!std::is_same_v<T, float>) {
    if (in.bf == nullptr && widening_pays(inputs, dim)) {
      widened_gemm(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t input_bytes = inputs * in.stride * (in.bf != nullptr ? 2 : 4);
  if (inputs <= 2 * kNR && (inputs <= kNR || input_bytes <= kInputBytes)) {
    const int64_t ahead = prefetch_distance(int64_t{64} << 10, row_bytes, kMR);
    const int64_t group = inputs <= kNR ? inputs : (inputs + 1) / 2;
    const int64_t count = weight.count, limit = count + weight.reach;
    with_count<kNR>(group, [&](auto size) EXN_FLAT {
      constexpr int kX = decltype(size)::value;
      const auto run = [&](auto all, auto half) EXN_FLAT {
        if (inputs <= kX) {
          block_gemm<T, kX, decltype(all)::value>(weight.at, 0, count, limit, ahead, in, 0, kX, dim,
                                                  out, out_stride);
        } else {
          block_gemm<T, kX, decltype(half)::value>(weight.at, 0, count, limit, ahead, in, 0, inputs,
                                                   dim, out, out_stride);
        }
      };
      again ? run(PrefetchAs<Prefetch::kAllAgain>(), PrefetchAs<Prefetch::kHalfAgain>())
            : run(PrefetchAs<Prefetch::kAll>(), PrefetchAs<Prefetch::kHalf>());
    });
    return;
  }
  // Where the inputs stay in L1, so do the weights of a panel; otherwise these stay in L2.
  const int64_t panel_bytes = int64_t{input_bytes <= kInputBytes ? 12 : 128} << 10;
  const int64_t panel = prefetch_distance(panel_bytes, row_bytes, kMR);
  const int64_t ahead = prefetch_distance(int64_t{64} << 10, row_bytes, panel);
  const auto run = [&](auto half) EXN_FLAT {
    panel_gemm<T, decltype(half)::value>(weight, panel, ahead, in, inputs, dim, out, out_stride);
  };
  again ? run(PrefetchAs<Prefetch::kHalfAgain>()) : run(PrefetchAs<Prefetch::kHalf>());
}

template void row_products(const WeightRows<float>&, const Inputs&, int64_t, int64_t, float*,
                           int64_t, ProductScratch&);
template void row_products(const WeightRows<f16>&, const Inputs&, int64_t, int64_t, float*, int64_t,
                           ProductScratch&);
template void row_products(const WeightRows<bf16>&, const Inputs&, int64_t, int64_t, float*,
                           int64_t, ProductScratch&);

}  // namespace exn::cpu::EXN_ISA
