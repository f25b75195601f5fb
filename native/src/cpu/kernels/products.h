// SPDX-License-Identifier: Apache-2.0
// Products of weight rows that come from memory with the rows of a batch, for linear, ffn,
// kv_propagate, exit_head and gate.
//
// A product adds up the pairs of columns that load_pair gives in ascending order: the first and the
// second vectors in one accumulator each, or, where vectors are long, both in one; folded as
// reduce_add folds. So it has the same bits whatever block it is computed in, and a row's result
// does not depend on its batch.
//
// How the weights are walked decides the speed. A core asks for lines far enough ahead only where
// it reads on and on in one direction: one row after another comes at the speed of memory, two
// side by side at less than half of it, and with every line asked for by the program at 85 %. So
// for a single input rows are taken one at a time. That needs an input that stays in L1; for longer
// ones, and for several, rows are taken side by side and asked for, well ahead, into L2, evenly
// over the time that their products take.
#pragma once

#include "elements.h"

namespace exn::cpu::EXN_ISA {

// Elements of an input row with its padding: zeros, up to whole vectors of f32 pairs and of bf16.
static EXN_SIMD int64_t padded(int64_t dim) { return (dim + 31) / 32 * 32; }

// Input rows in the form the products read: f32, or bf16 where both sides are bf16 and the set
// multiplies it natively.
struct Inputs {
  const float* f32 = nullptr;
  const bf16* bf = nullptr;  // takes precedence
  int64_t stride = 0;        // elements between rows, padded
};

// Brings an input row, padded with zeros, into the order of columns that pairs of T have.
template <class T>
static EXN_SIMD void order_pairs(float* x, int64_t padded_dim) {
  if constexpr (std::is_same_v<T, bf16>) {
    for (int64_t k = 0; k < padded_dim; k += kPair) {
      float plain[kPair];
      std::memcpy(plain, x + k, sizeof plain);
      for (int i = 0; i < kLanes; ++i) {
        x[k + i] = plain[2 * i];
        x[k + kLanes + i] = plain[2 * i + 1];
      }
    }
  }
}

// And back.
template <class T>
static EXN_SIMD void reorder_pairs(float* x, int64_t padded_dim) {
  if constexpr (std::is_same_v<T, bf16>) {
    for (int64_t k = 0; k < padded_dim; k += kPair) {
      float pairs[kPair];
      std::memcpy(pairs, x + k, sizeof pairs);
      for (int i = 0; i < kLanes; ++i) {
        x[k + 2 * i] = pairs[i];
        x[k + 2 * i + 1] = pairs[kLanes + i];
      }
    }
  }
}

// Sums of N vectors; a tree that is half empty is still cheaper than its vectors one by one.
template <int N>
static EXN_SIMD void fold_vectors(const f32v (&v)[N], float* out) {
  constexpr int kRest = N % kReduceTree;
  constexpr int kFill = 2 * kRest > kReduceTree - 4 && kRest > 0 ? kReduceTree - kRest : 0;
  if constexpr (kFill == 0) {
    reduce_add_all(v, out);
  } else {
    f32v filled[N + kFill];
    for (int i = 0; i < N; ++i) filled[i] = v[i];
    for (int i = N; i < N + kFill; ++i) filled[i] = zero();
    float sums[N + kFill];
    reduce_add_all(filled, sums);
    for (int i = 0; i < N; ++i) out[i] = sums[i];
  }
}

// How much of what comes next a block asks for: all, half or none of the bytes that it reads itself.
// Into L2: into L1, so far ahead, a line would push another out that is still wanted.
enum class Ask { kNothing, kHalf, kAll };

// One step's part of it.
template <Ask kAsk, int kBytes>
static EXN_SIMD void ask_for(const char*& next) {
  if constexpr (kAsk != Ask::kNothing) {
    constexpr int kPart = kAsk == Ask::kHalf ? kBytes / 2 : kBytes;
    for (int i = 0; i < kPart; i += 64) prefetch_far(next + i);
    next += kPart;
  }
}

// Accumulators of a product. Short vectors make long chains of additions, which a single row of
// weights would wait for.
constexpr int kChains = kLanes == 16 ? 1 : 2;

// out[x * out_stride + w] = <weight row w, input row x> for a block of kW x kX.
template <class T, int kW, int kX, Ask kAsk>
static EXN_SIMD void pair_block(const T* const* weight, const float* input, int64_t input_stride,
                                int64_t dim, float* out, int64_t out_stride, const char* next) {
  constexpr int kSums = kW * kX, kSecond = (kChains - 1) * kSums;
  f32v acc[kChains * kSums];
  for (f32v& v : acc) v = zero();
  int64_t k = 0;
  const auto step = [&](auto load_weight) EXN_FLAT {
    ask_for<kAsk, kW * kPair * static_cast<int>(sizeof(T))>(next);
    f32v a[kW], b[kW];
    for (int w = 0; w < kW; ++w) load_weight(weight[w] + k, a[w], b[w]);
    for (int x = 0; x < kX; ++x) {
      const f32v p = load(input + x * input_stride + k);
      const f32v q = load(input + x * input_stride + k + kLanes);
      for (int w = 0; w < kW; ++w) {
        f32v& first = acc[x * kW + w];
        f32v& second = acc[kSecond + x * kW + w];
        first = fma(a[w], p, first);
        second = fma(b[w], q, second);
      }
    }
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
template <int kW, int kX, Ask kAsk>
static EXN_SIMD void dot_block(const bf16* const* weight, const bf16* input, int64_t input_stride,
                               int64_t dim, float* out, int64_t out_stride, const char* next) {
  f32v acc[kW * kX];
  for (int i = 0; i < kW * kX; ++i) acc[i] = zero();
  int64_t k = 0;
  const auto step = [&](auto load_weight) EXN_FLAT {
    ask_for<kAsk, kW * kDotLanes * static_cast<int>(sizeof(bf16))>(next);
    bf16v v[kW];
    for (int w = 0; w < kW; ++w) v[w] = load_weight(weight[w] + k);
    for (int x = 0; x < kX; ++x) {
      const bf16v p = load_pairs(input + x * input_stride + k);
      for (int w = 0; w < kW; ++w) acc[x * kW + w] = dot_pairs(v[w], p, acc[x * kW + w]);
    }
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

template <class T, int kW, int kX, Ask kAsk>
static EXN_SIMD void any_block(const T* const* weight, const Inputs& in, int64_t first_input,
                               int64_t dim, float* out, int64_t out_stride, const char* next) {
  const int64_t at = first_input * in.stride;
#if defined(EXN_HAS_BF16_DOT)
  if constexpr (std::is_same_v<T, bf16>) {
    if (in.bf != nullptr) {
      dot_block<kW, kX, kAsk>(weight, in.bf + at, in.stride, dim, out, out_stride, next);
      return;
    }
  }
#endif
  pair_block<T, kW, kX, kAsk>(weight, in.f32 + at, in.stride, dim, out, out_stride, next);
}

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

// Inputs that stay in L1 beside the weights that pass by.
constexpr int64_t kInputBytes = int64_t{20} << 10;

// A single input that stays in L1: one row after another.
template <class T, class RowAt>
static EXN_SIMD void linear_rows(RowAt& row_at, int64_t count, const Inputs& in, int64_t dim,
                                 float* out, int64_t reach) {
  // Where the rows jump, the core has nothing to guess by: the beginning of what follows is asked
  // for.
  constexpr int kJumpLines = 24;
  for (int64_t w = 0; w < count; ++w) {
    const T* row = row_at(w);
    if (w + 1 < count + reach) {
      const char* next = reinterpret_cast<const char*>(row_at(w + 1));
      if (next != reinterpret_cast<const char*>(row + dim)) {
        for (int i = 0; i < kJumpLines; ++i) prefetch_far(next + i * 64);
      }
    }
    any_block<T, 1, 1, Ask::kNothing>(&row, in, 0, dim, out + w, 0, nullptr);
  }
}

// Weight rows of a block, and inputs that share it.
constexpr int kBlockRows = kRegisters == 32 ? 4 : 2;
constexpr int kBlockInputs = kChains == 1 ? 4 : 2;
// Weight rows side by side for a single input.
constexpr int kSideRows = kRegisters == 32 ? 8 : 4;

// Rows that lie about `bytes` further on, in whole blocks of rows.
static EXN_SIMD int64_t rows_ahead(int64_t bytes, int64_t row_bytes, int64_t block) {
  return (bytes / row_bytes / block + 1) * block;
}

// A single long input.
template <class T, class RowAt>
static EXN_SIMD void side_rows(RowAt& row_at, int64_t count, const Inputs& in, int64_t dim,
                               float* out, int64_t reach) {
  const int64_t ahead =
      rows_ahead(int64_t{128} << 10, dim * static_cast<int64_t>(sizeof(T)), kSideRows);
  int64_t w = 0;
  for (; w + kSideRows <= count; w += kSideRows) {
    const T* rows[kSideRows];
    for (int i = 0; i < kSideRows; ++i) rows[i] = row_at(w + i);
    if (w + ahead + kSideRows <= count + reach) {
      const char* next = reinterpret_cast<const char*>(row_at(w + ahead));
      any_block<T, kSideRows, 1, Ask::kAll>(rows, in, 0, dim, out + w, 0, next);
    } else {
      any_block<T, kSideRows, 1, Ask::kNothing>(rows, in, 0, dim, out + w, 0, nullptr);
    }
  }
  for (; w < count; ++w) {
    const T* row = row_at(w);
    any_block<T, 1, 1, Ask::kNothing>(&row, in, 0, dim, out + w, 0, nullptr);
  }
}

// Weight rows [first, last) with inputs [x, end) in groups of kX, the last of which may begin
// earlier. The blocks ask for the rows `ahead` further on, of which those before `limit` exist; with
// kHalf two groups share this, since all at once the requests would come in bursts with idle memory
// between them. A function of its own, where nothing else wants the registers.
template <class T, int kX, Ask kAsk, class RowAt>
static __attribute__((noinline)) void block_rows(const RowAt& row_at, int64_t first, int64_t last,
                                                 int64_t limit, int64_t ahead, const Inputs& in,
                                                 int64_t x, int64_t end, int64_t dim, float* out,
                                                 int64_t out_stride) {
  const int64_t half = kBlockRows * dim * static_cast<int64_t>(sizeof(T)) / 2;
  int64_t w = first;
  for (; w + kBlockRows <= last; w += kBlockRows) {
    const T* rows[kBlockRows];
    for (int i = 0; i < kBlockRows; ++i) rows[i] = row_at(w + i);
    const char* next = nullptr;
    if (kAsk != Ask::kNothing) {
      next = reinterpret_cast<const char*>(
          row_at(w + ahead + kBlockRows <= limit ? w + ahead : w));
    }
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      any_block<T, kBlockRows, kX, kAsk>(rows, in, begin, dim, out + begin * out_stride + w,
                                         out_stride, group == 0 ? next : next + half);
    }
  }
  for (; w < last; ++w) {
    const T* row = row_at(w);
    for (int64_t group = x; group < end; group += kX) {
      const int64_t begin = group + kX <= end ? group : end - kX;
      any_block<T, 1, kX, Ask::kNothing>(&row, in, begin, dim, out + begin * out_stride + w,
                                         out_stride, nullptr);
    }
  }
}

// The same, panel by panel: the weights of a panel stay in cache while group after group of more
// inputs than kBlockInputs passes by.
template <class T, class RowAt>
static EXN_SIMD void panel_rows(const RowAt& row_at, int64_t panel, int64_t count, int64_t limit,
                                int64_t ahead, const Inputs& in, int64_t inputs, int64_t dim,
                                float* out, int64_t out_stride) {
  constexpr int kX = kBlockInputs;
  for (int64_t first = 0; first < count; first += panel) {
    const int64_t last = first + panel < count ? first + panel : count;
    block_rows<T, kX, Ask::kHalf>(row_at, first, last, limit, ahead, in, 0, kX, dim, out,
                                  out_stride);
    for (int64_t x = kX; x < inputs; x += kX) {
      const int64_t begin = x + kX <= inputs ? x : inputs - kX;
      if (x == kX) {
        block_rows<T, kX, Ask::kHalf>(row_at, first, last, limit, ahead, in, begin, begin + kX, dim,
                                      out, out_stride);
      } else {
        block_rows<T, kX, Ask::kNothing>(row_at, first, last, limit, ahead, in, begin, begin + kX,
                                         dim, out, out_stride);
      }
    }
  }
}

// Where many inputs pass by, each weight is widened once, not once per block. The products are the
// same.
constexpr int64_t kWideFloats = 16384;
static EXN_SIMD bool worth_widening(int64_t inputs, int64_t dim) {
  return inputs > 16 && padded(dim) * kBlockRows <= kWideFloats;
}

template <class T, class RowAt>
static EXN_SIMD void widened_rows(RowAt& row_at, int64_t count, const Inputs& in, int64_t inputs,
                                  int64_t dim, float* out, int64_t out_stride) {
  alignas(64) float wide[kWideFloats];
  const int64_t stride = padded(dim);
  const int64_t panel = (4096 / stride / kBlockRows + 1) * kBlockRows;
  const int64_t rows = panel * stride <= kWideFloats ? panel : kBlockRows;
  for (int64_t first = 0; first < count; first += rows) {
    const int64_t last = first + rows < count ? first + rows : count;
    for (int64_t w = first; w < last; ++w) {
      const T* from = row_at(w);
      float* to = wide + (w - first) * stride;
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
    const auto wide_at = [&](int64_t w) EXN_FLAT {
      return static_cast<const float*>(wide + (w - first) * stride);
    };
    for (int64_t x = 0; x < inputs; x += kBlockInputs) {
      const int64_t begin = x + kBlockInputs <= inputs ? x : inputs - kBlockInputs;
      block_rows<float, kBlockInputs, Ask::kNothing>(wide_at, first, last, last, 0, in, begin,
                                                     begin + kBlockInputs, wide_dim, out,
                                                     out_stride);
    }
  }
}

// out[x * out_stride + w] for weight rows w in [0, count), given by row_at(w), and inputs
// [0, inputs), whose columns are in the order of pairs of T. The `reach` rows after them exist too
// and are needed next.
template <class T, class RowAt>
static EXN_SIMD void row_products(RowAt&& row_at, int64_t count, const Inputs& in, int64_t inputs,
                                  int64_t dim, float* out, int64_t out_stride, int64_t reach) {
  if (inputs == 0) return;
  if (inputs == 1) {
    if (in.stride * (in.bf != nullptr ? 2 : 4) < kInputBytes) {
      linear_rows<T>(row_at, count, in, dim, out, reach);
    } else {
      side_rows<T>(row_at, count, in, dim, out, reach);
    }
    return;
  }
  if constexpr (!std::is_same_v<T, float>) {
    if (in.bf == nullptr && worth_widening(inputs, dim)) {
      widened_rows<T>(row_at, count, in, inputs, dim, out, out_stride);
      return;
    }
  }
  const int64_t row_bytes = dim * static_cast<int64_t>(sizeof(T));
  const int64_t input_bytes = inputs * in.stride * (in.bf != nullptr ? 2 : 4);
  if (inputs <= 2 * kBlockInputs && (inputs <= kBlockInputs || input_bytes <= kInputBytes)) {
    const int64_t ahead = rows_ahead(int64_t{64} << 10, row_bytes, kBlockRows);
    const int64_t group = inputs <= kBlockInputs ? inputs : (inputs + 1) / 2;
    with_count<kBlockInputs>(group, [&](auto size) EXN_FLAT {
      constexpr int kX = decltype(size)::value;
      if (inputs <= kX) {
        block_rows<T, kX, Ask::kAll>(row_at, 0, count, count + reach, ahead, in, 0, kX, dim, out,
                                     out_stride);
      } else {
        block_rows<T, kX, Ask::kHalf>(row_at, 0, count, count + reach, ahead, in, 0, inputs, dim,
                                      out, out_stride);
      }
    });
    return;
  }
  // Where the inputs stay in L1, so do the weights of a panel; otherwise these stay in L2.
  const int64_t panel_bytes = int64_t{input_bytes <= kInputBytes ? 12 : 128} << 10;
  const int64_t panel = rows_ahead(panel_bytes, row_bytes, kBlockRows);
  const int64_t ahead = rows_ahead(int64_t{64} << 10, row_bytes, panel);
  panel_rows<T>(row_at, panel, count, count + reach, ahead, in, inputs, dim, out, out_stride);
}

}  // namespace exn::cpu::EXN_ISA
