// SPDX-License-Identifier: Apache-2.0
// The products of products.h.
//
// How the weights are walked decides the speed. A core reads far enough ahead only where it reads
// on and on in one direction, so for a single input rows are taken one at a time, and where that
// pays a line some KiB further on is prefetched with each; or, where the additions of a row take
// longer than its bytes, one each of four runs. That needs an input that stays in L1; otherwise,
// and for several inputs, rows are taken side by side and prefetched, well ahead, into L2, evenly
// over the time that their products take. From about five inputs on it is the multipliers that are
// waited for, which leave room for half a load each; see chain_rows, blocks_that_stay, and
// triple_rows where there are registers for the sums of all. docs/tuning.md has the figures.
#include "products.h"

namespace exn::cpu::EXN_ISA {

// How much of what comes next a block prefetches: all, half or none of the bytes that it reads
// itself. kHalfAgain, kAllAgain: each line several times, as it comes nearer. kOwn: so too, behind
// each of its rows.
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

// What lies further on behind the pair at p, if a row prefetches its own.
template <Prefetch kPrefetch, class T>
static EXN_SIMD void prefetch_own(const T* p) {
  if constexpr (kPrefetch == Prefetch::kOwn) {
    constexpr int kSize = static_cast<int>(sizeof(T));
    prefetch_lines<kPair * kSize / 64>(p + kStreamAhead / kSize, StreamAgain());
    in_order();
  }
}

// Accumulators of a product. Short vectors make long chains of additions, which a single row of
// weights would wait for.
constexpr int kChains = kLanes == 16 ? 1 : 2;

// out[x * out_stride + w] = <weight row w, input row x> for a block of kW x kX.
template <class T, int kW, int kX, Prefetch kPrefetch>
static EXN_SIMD void pair_block(const T* const* weight, const float* input, int64_t input_stride,
                                int64_t dim, float* out, int64_t out_stride, const char* next) {
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
      prefetch_own<kPrefetch>(rows[w] + k);
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
static EXN_SIMD void dot_block(const bf16* const* weight, const bf16* input, int64_t input_stride,
                               int64_t dim, float* out, int64_t out_stride, const char* next) {
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
      prefetch_own<kPrefetch>(rows[w] + k);
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
static EXN_SIMD void any_block(const T* const* weight, const Inputs& in, int64_t first_input,
                               int64_t dim, float* out, int64_t out_stride, const char* next) {
  const int64_t at = first_input * in.stride;
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      dot_block<kW, kX, kPrefetch>(weight, in.bf + at, in.stride, dim, out, out_stride, next);
      return;
    }
  }
#endif
  pair_block<T, kW, kX, kPrefetch>(weight, in.f32 + at, in.stride, dim, out, out_stride, next);
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

// Rows that lie about `bytes` further on, in whole blocks of rows.
static EXN_SIMD int64_t rows_ahead(int64_t bytes, int64_t row_bytes, int64_t block) {
  return (bytes / row_bytes / block + 1) * block;
}

// A single input that stays in L1: one row after another. A function of its own, as all loops here
// are: nothing else wants the registers.
template <class T, class U>
static __attribute__((noinline)) void prefetched_rows(const WeightRows<T>& weight, const U* input,
                                                      int64_t dim, float* out) {
  const int64_t ahead = rows_ahead(int64_t{8} << 10, dim * static_cast<int64_t>(sizeof(T)), 1);
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; ++w) {
    const T* const next = weight.at[w + ahead < limit ? w + ahead : w];
    single_row(weight.at[w], input, dim, reinterpret_cast<const char*>(next), out + w);
  }
}

// The same where the core is left to read ahead. Where rows jump it has nothing to guess by: the
// beginning of what follows is prefetched.
template <class T>
static __attribute__((noinline)) void plain_rows(const WeightRows<T>& weight, const Inputs& in,
                                                 int64_t dim, float* out) {
  constexpr int kJumpLines = 24;
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; ++w) {
    const T* const row = weight.at[w];
    if (w + 1 < limit && weight.at[w + 1] != row + dim) {
      prefetch_lines<kJumpLines>(weight.at[w + 1]);
    }
    any_block<T, 1, 1, Prefetch::kNothing>(&row, in, 0, dim, out + w, 0, nullptr);
  }
}

// Runs of rows into which a tile is parted for a single input: a core reads ahead of all of them as
// of one, and the additions of one row leave time for those of the others.
constexpr int kStreams = 4;

// Whether the rows of each stream lie behind one another.
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
static __attribute__((noinline)) void stream_rows(const WeightRows<T>& weight, const Inputs& in,
                                                  int64_t dim, float* out) {
  const int64_t each = weight.count / kStreams;
  for (int64_t w = 0; w < each; ++w) {
    const T* rows[kStreams];
    for (int i = 0; i < kStreams; ++i) rows[i] = weight.at[i * each + w];
    float sums[kStreams];
    any_block<T, kStreams, 1, kPrefetch>(rows, in, 0, dim, sums, 0, nullptr);
    for (int i = 0; i < kStreams; ++i) out[i * each + w] = sums[i];
  }
  for (int64_t w = kStreams * each; w < weight.count; ++w) {
    any_block<T, 1, 1, Prefetch::kNothing>(weight.at + w, in, 0, dim, out + w, 0, nullptr);
  }
}

// Weight rows of a block, and inputs that share it.
constexpr int kBlockRows = kRegisters == 32 ? 4 : 2;
constexpr int kBlockInputs = kChains == 1 ? 4 : 2;
// Weight rows side by side for a single input.
constexpr int kSideRows = kRegisters == 32 ? 8 : 4;

// A single input, rows side by side.
template <class T, Prefetch kPrefetch>
static __attribute__((noinline)) void side_rows(const WeightRows<T>& weight, const Inputs& in,
                                                int64_t dim, float* out) {
  const int64_t ahead =
      rows_ahead(int64_t{128} << 10, dim * static_cast<int64_t>(sizeof(T)), kSideRows);
  int64_t w = 0;
  for (; w + kSideRows <= weight.count; w += kSideRows) {
    const T* const* const rows = weight.at + w;
    if (w + ahead + kSideRows <= weight.count + weight.reach) {
      const char* next = reinterpret_cast<const char*>(rows[ahead]);
      any_block<T, kSideRows, 1, kPrefetch>(rows, in, 0, dim, out + w, 0, next);
    } else {
      any_block<T, kSideRows, 1, Prefetch::kNothing>(rows, in, 0, dim, out + w, 0, nullptr);
    }
  }
  for (; w < weight.count; ++w) {
    any_block<T, 1, 1, Prefetch::kNothing>(weight.at + w, in, 0, dim, out + w, 0, nullptr);
  }
}

// Weight rows [first, last) with inputs [x, end) in groups of kX, the last of which may begin
// earlier. The blocks prefetch the rows `ahead` further on, of which those before `limit` exist;
// with kHalf two groups share this, since all at once the requests would come in bursts with idle
// memory between them.
template <class T, int kX, Prefetch kPrefetch>
static __attribute__((noinline)) void block_rows(const T* const* weight, int64_t first,
                                                 int64_t last, int64_t limit, int64_t ahead,
                                                 const Inputs& in, int64_t x, int64_t end,
                                                 int64_t dim, float* out, int64_t out_stride) {
  const int64_t half = kBlockRows * dim * static_cast<int64_t>(sizeof(T)) / 2;
  int64_t w = first;
  for (; w + kBlockRows <= last; w += kBlockRows) {
    const char* next = nullptr;
    if (kPrefetch != Prefetch::kNothing) {
      next = reinterpret_cast<const char*>(weight[w + ahead + kBlockRows <= limit ? w + ahead : w]);
    }
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      any_block<T, kBlockRows, kX, kPrefetch>(weight + w, in, begin, dim,
                                              out + begin * out_stride + w, out_stride,
                                              group == 0 ? next : next + half);
    }
  }
  for (; w < last; ++w) {
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      any_block<T, 1, kX, Prefetch::kNothing>(weight + w, in, begin, dim,
                                              out + begin * out_stride + w, out_stride, nullptr);
    }
  }
}

// Many inputs: a block of weight rows stays in L1 while all of them pass by, and the first two
// groups share what it prefetches. The last block may begin earlier, and so may the last group.
template <class T, Prefetch kPrefetch>
static __attribute__((noinline)) void blocks_that_stay(const WeightRows<T>& weight,
                                                       const Inputs& in, int64_t inputs,
                                                       int64_t dim, float* out,
                                                       int64_t out_stride) {
  constexpr int kW = kBlockRows, kX = kBlockInputs;
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t ahead = rows_ahead(int64_t{64} << 10, row_bytes, kW);
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t w = 0; w < count; w += kW) {
    const int64_t first = w + kW <= count ? w : count - kW;
    const T* const* const rows = weight.at + first;
    const char* next = reinterpret_cast<const char*>(rows[first + ahead + kW <= limit ? ahead : 0]);
    for (int64_t group = 0; group < inputs; group += kX) {
      const int64_t x = group + kX <= inputs ? group : inputs - kX;
      float* const to = out + x * out_stride + first;
      if (group < 2 * kX) {
        any_block<T, kW, kX, kPrefetch>(rows, in, x, dim, to, out_stride, next);
        next += kW * row_bytes / 2;
      } else {
        any_block<T, kW, kX, Prefetch::kNothing>(rows, in, x, dim, to, out_stride, nullptr);
      }
    }
  }
}

// The same, panel by panel: the weights of a panel stay in cache while group after group of more
// inputs than kBlockInputs passes by.
template <class T, Prefetch kPrefetch>
static EXN_SIMD void panel_rows(const WeightRows<T>& weight, int64_t panel, int64_t ahead,
                                const Inputs& in, int64_t inputs, int64_t dim, float* out,
                                int64_t out_stride) {
  constexpr int kX = kBlockInputs;
  const int64_t count = weight.count, limit = count + weight.reach;
  for (int64_t first = 0; first < count; first += panel) {
    const int64_t last = first + panel < count ? first + panel : count;
    block_rows<T, kX, kPrefetch>(weight.at, first, last, limit, ahead, in, 0, kX, dim, out,
                                 out_stride);
    for (int64_t x = kX; x < inputs; x += kX) {
      const int64_t begin = x + kX <= inputs ? x : inputs - kX;
      if (x == kX) {
        block_rows<T, kX, kPrefetch>(weight.at, first, last, limit, ahead, in, begin, begin + kX,
                                     dim, out, out_stride);
      } else {
        block_rows<T, kX, Prefetch::kNothing>(weight.at, first, last, limit, ahead, in, begin,
                                              begin + kX, dim, out, out_stride);
      }
    }
  }
}

// ---- five inputs and more, where vectors are long and registers many ----------------------------

// A block of three rows holds the sums of up to eight inputs: 11 loads for 24 multiplications, and
// each weight is widened once for all of them. Where these are all inputs, memory is what is waited
// for.
constexpr int kTriple = 3, kAtOnce = 8;

// sums[x * kTriple + w] becomes the vector whose lanes add up to <weight row w, input row x>; where
// kPart, of `dim` columns from `column` on, and with what it was before if that is not 0. The loops
// are unrolled by order, or all sums would be stored in each step.
template <class T, int kX, bool kPart>
static EXN_SIMD void triple_block(const T* const* weight, int64_t column, const float* input,
                                  int64_t input_stride, int64_t dim, const char* soon,
                                  const char* later, f32v* sums) {
  constexpr int kLines = kTriple * kPair * static_cast<int>(sizeof(T)) / 64;
  const T* rows[kTriple];
  for (int w = 0; w < kTriple; ++w) rows[w] = weight[w] + (kPart ? column : 0);
  const float* inputs[(kX + 2) / 3];  // each third
  for (int i = 0; i < (kX + 2) / 3; ++i) {
    inputs[i] = input + 3 * i * input_stride + (kPart ? column : 0);
  }
  f32v acc[kTriple * kX];
#pragma GCC unroll 24
  for (int i = 0; i < kTriple * kX; ++i) acc[i] = kPart && column > 0 ? sums[i] : zero();
  int64_t k = 0;
  const auto half = [&](auto load_weight, auto which, int64_t pitch) EXN_FLAT {
    constexpr int kSecond = decltype(which)::value ? 1 : 0;
    f32v v[kTriple];
#pragma GCC unroll 3
    for (int w = 0; w < kTriple; ++w) {
      f32v a, b;
      load_weight(rows[w] + k, a, b);
      v[w] = kSecond ? b : a;
    }
#pragma GCC unroll 8
    for (int x = 0; x < kX; ++x) {
      in_order();
      // Each line into L2 far ahead, and one in three into L1 a block ahead.
      prefetch_turn<kLines, 2 * kX>(kSecond * kX + x, [&](int line) EXN_FLAT {
        if (line % 3 == 0) prefetch_l1(soon + line * kLine);
        prefetch_l2(later + line * kLine);
      });
      const f32v p = load(inputs[x / 3] + x % 3 * pitch + kSecond * kLanes);
#pragma GCC unroll 3
      for (int w = 0; w < kTriple; ++w) {
        acc[x * kTriple + w] = add_product(v[w], p, acc[x * kTriple + w]);
      }
    }
  };
  const auto step = [&](auto load_weight) EXN_FLAT {
    // Unknown in each step: the compiler would keep a pointer for each input and run out of
    // registers.
    int64_t pitch = input_stride;
    asm("" : "+r"(pitch) : "r"(k));
    half(load_weight, std::false_type(), pitch);
    half(load_weight, std::true_type(), pitch);
    for (const float*& p : inputs) p += kPair;
    soon += kPart ? kLines * 64 / kTriple : kLines * 64;
    later += kLines * 64;
  };
  for (; k + kPair <= dim; k += kPair) {
    step([](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair(p, a, b); });
  }
  if (k < dim) {
    const int n = static_cast<int>(dim - k);
    step([n](const T* p, f32v& a, f32v& b) EXN_FLAT { load_pair_n(p, n, a, b); });
  }
#pragma GCC unroll 24
  for (int i = 0; i < kTriple * kX; ++i) sums[i] = acc[i];
}

// Vectors of kBlocks blocks, filled up to whole trees.
template <int kX, int kBlocks>
constexpr int kTripleSums = (kBlocks * kTriple * kX + kReduceTree - 1) / kReduceTree * kReduceTree;

// What the vectors of blocks add up to. A function of its own: its constants would take registers
// from the sums.
template <int kX, int kBlocks>
static __attribute__((noinline)) void fold_triples(const f32v* vectors, float* out,
                                                   int64_t out_stride) {
  constexpr int kCount = kTripleSums<kX, kBlocks>;
  float sums[kCount];
  for (int i = 0; i < kCount; i += kReduceTree) reduce_add_tree(vectors + i, sums + i);
  in_order();  // one by one is faster than what the compiler makes of it
  for (int x = 0; x < kX; ++x) {
    for (int b = 0; b < kBlocks; ++b) {
      for (int w = 0; w < kTriple; ++w) {
        out[x * out_stride + b * kTriple + w] = sums[(b * kX + x) * kTriple + w];
      }
    }
  }
}

// Weight rows [first, last), two blocks at a time, whose sums fill trees better than those of one;
// the last ones may begin earlier. What is prefetched into L2 lies `later` rows further on.
template <class T, int kX>
static __attribute__((noinline)) void triple_rows(const WeightRows<T>& weight, int64_t first,
                                                  int64_t last, int64_t later, const float* input,
                                                  int64_t input_stride, int64_t dim, float* out,
                                                  int64_t out_stride) {
  const int64_t limit = weight.count + weight.reach - kTriple;
  f32v sums[kTripleSums<kX, 2>];
  for (f32v& v : sums) v = zero();
  for (int64_t w = first; w < last; w += 2 * kTriple) {
    const int64_t blocks = last - w > kTriple ? 2 : 1, end = w + blocks * kTriple;
    const int64_t begin = end <= last ? w : last - blocks * kTriple;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t at = begin + b * kTriple;
      triple_block<T, kX, false>(
          weight.at + at, 0, input, input_stride, dim,
          reinterpret_cast<const char*>(weight.at[at + kTriple <= limit ? at + kTriple : at]),
          reinterpret_cast<const char*>(weight.at[at + later <= limit ? at + later : at]),
          sums + b * kTriple * kX);
    }
    if (blocks == 2) {
      fold_triples<kX, 2>(sums, out + begin, out_stride);
    } else {
      fold_triples<kX, 1>(sums, out + begin, out_stride);
    }
  }
}

// The same of all rows and of inputs that leave L1: a panel of rows meets `part` columns of them
// after the other, and its sums wait in memory.
template <class T, int kX>
static __attribute__((noinline)) void triple_parts(const WeightRows<T>& weight, int64_t part,
                                                   const float* input, int64_t input_stride,
                                                   int64_t dim, float* out, int64_t out_stride,
                                                   ProductScratch& scratch) {
  constexpr int kSums = kTripleSums<kX, 2>;
  constexpr int64_t kBoth = 2 * kTriple, kPanel = 4 * kBoth;
  static_assert(kPanel / kBoth * kSums * kLanes <= ProductScratch::kFloats);
  const int64_t count = weight.count, limit = count + weight.reach - kTriple;
  f32v* const sums = reinterpret_cast<f32v*>(scratch.at);
  for (int64_t i = 0; i < kPanel / kBoth * kSums; ++i) sums[i] = zero();
  for (int64_t first = 0; first < count; first += kPanel) {
    const int64_t last = first + kPanel < count ? first + kPanel : count;
    for (int64_t column = 0; column < dim; column += part) {
      const int64_t columns = dim - column < part ? dim - column : part;
      f32v* own = sums;
      for (int64_t w = first; w < last; w += kBoth, own += kSums) {
        const int64_t blocks = last - w > kTriple ? 2 : 1, end = w + blocks * kTriple;
        const int64_t begin = end <= last ? w : last - blocks * kTriple;
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t at = begin + b * kTriple;
          // Of the next rows the same columns, of the next panel its share in the order of memory.
          const T* const soon = weight.at[at + kTriple <= limit ? at + kTriple : at] + column;
          const T* const later =
              weight.at[at + kPanel <= limit ? at + kPanel : at] + kTriple * column;
          triple_block<T, kX, true>(weight.at + at, column, input, input_stride, columns,
                                    reinterpret_cast<const char*>(soon),
                                    reinterpret_cast<const char*>(later), own + b * kTriple * kX);
        }
        if (column + columns < dim) continue;
        if (blocks == 2) {
          fold_triples<kX, 2>(own, out + begin, out_stride);
        } else {
          fold_triples<kX, 1>(own, out + begin, out_stride);
        }
      }
    }
  }
}

// Columns that so many inputs have in L1, in parts of about one size. A small share of it: what is
// read there once for a panel must not push out the sums and weights that stay.
static EXN_SIMD int64_t near_columns(int64_t inputs, int64_t dim) {
  constexpr int64_t kBytes = int64_t{6} << 10;
  const int64_t most = kBytes / (inputs * 4), parts = (dim + most - 1) / most;
  return ((dim + parts - 1) / parts + kPair - 1) / kPair * kPair;
}

// More than eight inputs pass by in groups of one size while the weights of a panel stay in L2. Not
// inlined, as a single input would have to step over it.
template <class T>
static __attribute__((noinline)) void triple_panels(const WeightRows<T>& weight, const Inputs& in,
                                                    int64_t inputs, int64_t dim, float* out,
                                                    int64_t out_stride, ProductScratch& scratch) {
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T)), count = weight.count;
  const int64_t groups = (inputs + kAtOnce - 1) / kAtOnce, size = (inputs + groups - 1) / groups;
  // Not so far that much of a tile has gone by before anything was asked for; untimed where requests
  // are lost.
  const int64_t far = int64_t{tuning().prefetch_again ? 64 : 16} << 10;
  const int64_t later = rows_ahead(far, row_bytes, 2 * kTriple);
  const int64_t panel = groups == 1 ? count : rows_ahead(int64_t{64} << 10, row_bytes, 2 * kTriple);
  with_count<kAtOnce>(size, [&](auto n) EXN_FLAT {
    constexpr int kX = decltype(n)::value;
    if constexpr (kX > kBlockInputs) {
      if (groups == 1 && kX * in.stride * 4 > kInputBytes) {
        triple_parts<T, kX>(weight, near_columns(kX, dim), in.f32, in.stride, dim, out, out_stride,
                            scratch);
        return;
      }
      for (int64_t first = 0; first < count; first += panel) {
        const int64_t last = first + panel < count ? first + panel : count;
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t even = inputs * g / groups;
          const int64_t x = even + size <= inputs ? even : inputs - size;
          triple_rows<T, kX>(weight, first, last, later, in.f32 + x * in.stride, in.stride, dim,
                             out + x * out_stride, out_stride);
        }
      }
    }
  });
}

// Whether the rows of a tile lie behind one another, or those of each half, as of gate and up.
template <class T>
static EXN_SIMD bool in_one_or_two(const WeightRows<T>& weight, int64_t dim) {
  const int64_t half = weight.count / 2, last = weight.count - 1;
  const T* const* const at = weight.at;
  return at[last] == at[0] + last * dim ||
         (half > 0 && weight.count == 2 * half && at[half - 1] == at[0] + (half - 1) * dim &&
          at[last] == at[half] + (half - 1) * dim);
}

// Whether they pay: not for rows so short that their ends weigh, nor for more than eight inputs that
// leave L1; of f32, two groups of four do as well for seven or eight, and for all that leave L1. What
// is prefetched has to lie in memory as it comes.
template <class T>
static EXN_SIMD bool in_triples(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                int64_t dim) {
  if (kChains != 1 || kRegisters != 32 || in.bf != nullptr || inputs <= kBlockInputs) return false;
  const int64_t row = in.stride * 4;
  const bool near = inputs * row <= kInputBytes, parts = sizeof(T) == 2 && !tuning().prefetch_again;
  const bool few = dim > 8 * kPair && (near ? sizeof(T) == 2 || inputs <= 6 : parts);
  const bool many = dim >= 16 * kPair && kAtOnce * row <= (int64_t{24} << 10);
  const bool pays = inputs <= kAtOnce ? few : many;
  return pays && weight.count >= 8 * kTriple && in_one_or_two(weight, dim);
}

// Where many inputs pass by, each weight is widened once, not once per block. The products are the
// same.
static EXN_SIMD bool worth_widening(int64_t inputs, int64_t dim) {
  return inputs > 16 && padded(dim) * kBlockRows <= ProductScratch::kFloats;
}

template <class T>
static EXN_SIMD void widened_rows(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                  int64_t dim, float* out, int64_t out_stride,
                                  ProductScratch& scratch) {
  float* const wide = scratch.at;
  const float** const wide_rows = scratch.rows;
  const int64_t stride = padded(dim);
  const int64_t panel = (4096 / stride / kBlockRows + 1) * kBlockRows;
  const int64_t rows = panel * stride <= ProductScratch::kFloats ? panel : kBlockRows;
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
    for (int64_t x = 0; x < inputs; x += kBlockInputs) {
      const int64_t begin = x + kBlockInputs <= inputs ? x : inputs - kBlockInputs;
      block_rows<float, kBlockInputs, Prefetch::kNothing>(wide_rows, 0, count, count, 0, in, begin,
                                                          begin + kBlockInputs, wide_dim,
                                                          out + first, out_stride);
    }
  }
}

#if defined(EXN_HAS_ODD_LOADS)
// ---- several inputs, where vectors are long and registers few -----------------------------------

// One chain after the other: with one accumulator per product instead of two, a block holds more
// products and each vector that it loads serves more of them, 7 loads for 12 multiplications. The
// sums of a chain wait in memory until those of the other join them.
constexpr int kChainRows = 3, kChainInputs = 4;
constexpr int kChainSums = kChainRows * kChainInputs;
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
  for (int w = 0; w < kChainRows; ++w) {
    f32v v[2];
    load_pair_n(weight[w] + k, static_cast<int>(c.end - k), v[0], v[1]);
    for (int chain = 0; chain < 2; ++chain) {
      for (int x = 0; x < kX; ++x) {
        float* const sum = sums + ((chain * kChainRows + w) * kX + x) * kLanes;
        const f32v p = load(input + x * c.input_stride + k + chain * kLanes);
        store(sum, fma(v[chain], p, load(sum)));
      }
    }
  }
}

// `groups` blocks of kChainRows x kX, whose sums are two times kChainSums vectors each; those of
// the columns before `begin` come in.
template <class T, int kX, int kLines>
static __attribute__((noinline)) void chain_blocks(const T* const* weight, const float* input,
                                                   int64_t groups, float* sums, float* out,
                                                   Chains* c) {
  constexpr int kW = kChainRows, kSums = kW * kX;
  const int64_t begin = c->begin, whole = c->end - (c->end - begin) % kPair;
  const int64_t stride = c->input_stride, pace = c->pace;
  const char* next = c->next;
  for (int64_t g = 0; g < groups; ++g) {
    const auto chain = [&](auto which) EXN_FLAT {
      constexpr bool kSecond = decltype(which)::value;
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

// The same for one to kChainInputs inputs a block.
template <class T>
static EXN_SIMD void chain_inputs(const T* const* weight, const float* input, int64_t size,
                                  int64_t groups, float* sums, float* out, Chains* c) {
  with_count<kChainInputs>(size, [&](auto n) EXN_FLAT {
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
// Of the `apart` rows behind the panel, which lie apart, the same columns are prefetched. Sums of
// the next rows lie `pitch` further on.
template <class T>
static EXN_SIMD void chain_panel(const T* const* weight, int64_t count, int64_t apart,
                                 const Inputs& in, const ChainPair& pair, float* sums,
                                 int64_t pitch, float* out, Chains* c) {
  for (int64_t w = 0; w < count; w += kChainRows, sums += pitch) {
    const int64_t at = w + kChainRows <= count ? w : count - kChainRows;
    for (int64_t i = w; i < apart && i < w + kChainRows; ++i) {
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
static EXN_SIMD void chain_rows(const WeightRows<T>& weight, const Inputs& in, int64_t inputs,
                                int64_t dim, float* out, int64_t out_stride,
                                ProductScratch& scratch) {
  constexpr int64_t kPanelBytes = int64_t{128} << 10, kPanelRows = 24, kColumns = 640;
  // Groups that share what is prefetched: with more of them memory has time enough.
  constexpr int64_t kSharing = 4;
  static_assert(kPanelRows / kChainRows * 2 * kChainBlockSums <= ProductScratch::kFloats);
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t fit = kPanelBytes / row_bytes / kChainRows * kChainRows;
  const int64_t panel = fit < kChainRows ? kChainRows : fit < kPanelRows ? fit : kPanelRows;
  const int64_t groups = (inputs + kChainInputs - 1) / kChainInputs;
  const int64_t sharing = groups < kSharing ? groups : kSharing;
  const int64_t most = groups == 1 ? 2 * kColumns : kColumns, parts = (dim + most - 1) / most;
  const int64_t columns = ((dim + parts - 1) / parts + 31) / 32 * 32;
  const int64_t pitch = parts > 1 ? 2 * kChainBlockSums : 0;
  for (int64_t first = 0; first < weight.count; first += panel) {
    const T* const* const rows = weight.at + first;
    const int64_t count = first + panel < weight.count ? panel : weight.count - first;
    const int64_t left = weight.count + weight.reach - first - count;
    const int64_t ahead = left < panel ? left : panel;
    const bool apart = ahead > 0 && rows[count + ahead - 1] != rows[count] + (ahead - 1) * dim;
    Chains c = {0, 0, dim, in.stride, out_stride, nullptr, 0};
    if (ahead > 0 && !apart) {
      const int64_t steps =
          sharing * 2 * ((count + kChainRows - 1) / kChainRows) * (dim / kPair + 1);
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
        chain_panel(rows, count, apart && g == 0 ? ahead : 0, in, pair, scratch.at, pitch,
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
static EXN_SIMD void single_input(const WeightRows<T>& weight, const Inputs& in, int64_t dim,
                                  float* out, bool again) {
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
        stream_rows<T, Prefetch::kOwn>(weight, in, dim, out);
        return;
      }
      if (narrow && near) {
        stream_rows<T, Prefetch::kNothing>(weight, in, dim, out);
        return;
      }
    }
  }
  if (chains_wait || input_bytes >= kInputBytes) {
    again ? side_rows<T, Prefetch::kAllAgain>(weight, in, dim, out)
          : side_rows<T, Prefetch::kAll>(weight, in, dim, out);
    return;
  }
  if (!tuning().prefetch_streams) {
    plain_rows(weight, in, dim, out);
    return;
  }
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      prefetched_rows(weight, in.bf, dim, out);
      return;
    }
  }
#endif
  prefetched_rows(weight, in.f32, dim, out);
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
    single_input(weight, in, dim, out, again);
    return;
  }
  if constexpr (kLanes == 16) {
    // Four weight rows of bf16 and four inputs of it fill L1 from 2048 columns on; of f32 inputs
    // L2 delivers enough.
    const bool fits = in.bf == nullptr || dim < 2048;
    if (inputs >= 3 * kBlockInputs && weight.count >= kBlockRows && fits && tuning().blocks_stay) {
      if (again) {
        blocks_that_stay<T, Prefetch::kHalfAgain>(weight, in, inputs, dim, out, out_stride);
      } else {
        blocks_that_stay<T, Prefetch::kHalf>(weight, in, inputs, dim, out, out_stride);
      }
      return;
    }
  }
  if constexpr (kChains == 1) {
    if (in_triples(weight, in, inputs, dim)) {
      triple_panels(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
#if defined(EXN_HAS_ODD_LOADS)
  // Fewer inputs wait for memory, and short ones for the ends of rows: the blocks below suit them.
  constexpr int64_t kFew = std::is_same_v<T, float> ? 4 : 2;
  if (inputs > kFew && weight.count >= kChainRows && dim >= (dim % kPair == 0 ? 4 : 24) * kPair) {
    chain_rows(weight, in, inputs, dim, out, out_stride, scratch);
    return;
  }
#endif
  if constexpr (!std::is_same_v<T, float>) {
    if (in.bf == nullptr && worth_widening(inputs, dim)) {
      widened_rows(weight, in, inputs, dim, out, out_stride, scratch);
      return;
    }
  }
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t input_bytes = inputs * in.stride * (in.bf != nullptr ? 2 : 4);
  if (inputs <= 2 * kBlockInputs && (inputs <= kBlockInputs || input_bytes <= kInputBytes)) {
    const int64_t ahead = rows_ahead(int64_t{64} << 10, row_bytes, kBlockRows);
    const int64_t group = inputs <= kBlockInputs ? inputs : (inputs + 1) / 2;
    const int64_t count = weight.count, limit = count + weight.reach;
    with_count<kBlockInputs>(group, [&](auto size) EXN_FLAT {
      constexpr int kX = decltype(size)::value;
      const auto run = [&](auto all, auto half) EXN_FLAT {
        if (inputs <= kX) {
          block_rows<T, kX, decltype(all)::value>(weight.at, 0, count, limit, ahead, in, 0, kX, dim,
                                                  out, out_stride);
        } else {
          block_rows<T, kX, decltype(half)::value>(weight.at, 0, count, limit, ahead, in, 0, inputs,
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
  const int64_t panel = rows_ahead(panel_bytes, row_bytes, kBlockRows);
  const int64_t ahead = rows_ahead(int64_t{64} << 10, row_bytes, panel);
  const auto run = [&](auto half) EXN_FLAT {
    panel_rows<T, decltype(half)::value>(weight, panel, ahead, in, inputs, dim, out, out_stride);
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
