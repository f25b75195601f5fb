// SPDX-License-Identifier: Apache-2.0
// Compiled with multiplications and additions fused where the instruction set can.
#include "panels.h"

#include <exeunt/exeunt.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "ort_api.h"

namespace exn::ort {
namespace {

template <int kBytes>
struct Vectors;
#define EXN_VECTORS(bytes)                                                      \
  template <>                                                                   \
  struct Vectors<bytes> {                                                       \
    using Floats = float __attribute__((vector_size(bytes), aligned(bytes)));   \
    using Words = uint32_t __attribute__((vector_size(bytes), aligned(bytes))); \
  };
EXN_VECTORS(16)
EXN_VECTORS(32)
EXN_VECTORS(64)

// Bytes of input that a core's second cache holds beside a panel; the rows of the largest tile.
constexpr int64_t kNear = int64_t{512} << 10, kRowsAtOnce = 14;

#define EXN_INLINE inline __attribute__((always_inline))

struct Product {
  const float* x;
  int64_t x_stride;
  const char* panel;  // of 64-byte aligned rows
  const float* bias;  // kPanel of them
  float* out;
  int64_t out_stride;
  int64_t columns;  // of out, at most kPanel
  int64_t k;
  const char* ahead;   // of what comes next, a share of it
  int64_t ahead_step;  // bytes for each of the k
};

// Of a panel, `low` gets some of the first half of the outputs, `high` those 16 behind them.
template <int kBytes, bool kNarrow>
EXN_INLINE void load(const char* at, typename Vectors<kBytes>::Floats* low,
                     typename Vectors<kBytes>::Floats* high) {
  using Floats = typename Vectors<kBytes>::Floats;
  using Words = typename Vectors<kBytes>::Words;
  if constexpr (kNarrow) {
    const Words both = *reinterpret_cast<const Words*>(at);
    *low = reinterpret_cast<Floats>(both << 16);
    *high = reinterpret_cast<Floats>(both & 0xffff0000u);
  } else {
    *low = *reinterpret_cast<const Floats*>(at);
    *high = *reinterpret_cast<const Floats*>(at + 64);
  }
}

// kRows rows of two vectors of one panel, the first of which begins at output `begin`. Few rows are
// summed in several chains, so that each multiplication does not wait for the one before.
template <int kBytes, int kRows, bool kNarrow>
EXN_INLINE void strip(const Product& p, int64_t begin) {
  using Floats = typename Vectors<kBytes>::Floats;
  constexpr int64_t kStep = kPanel * (kNarrow ? 2 : 4);
  constexpr int kChains = kRows == 1 ? 4 : kRows < 4 ? 2 : 1;
  Floats low[kChains][kRows] = {}, high[kChains][kRows] = {};
  for (int m = 0; m < kRows; ++m) {
    std::memcpy(&low[0][m], p.bias + begin, kBytes);
    std::memcpy(&high[0][m], p.bias + begin + 16, kBytes);
  }
  const char *at = p.panel + begin * 4, *ahead = p.ahead;
  const auto step = [&](int64_t k, int chain) __attribute__((always_inline)) {
    Floats a, b;
    load<kBytes, kNarrow>(at, &a, &b);
    at += kStep;
    __builtin_prefetch(ahead, 0, 2);
    if (!kNarrow) __builtin_prefetch(ahead + 64, 0, 2);
    ahead += p.ahead_step;
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const float x = p.x[m * p.x_stride + k];
      low[chain][m] += x * a;
      high[chain][m] += x * b;
    }
  };
  int64_t k = 0;
  for (; k + kChains <= p.k; k += kChains) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) step(k + chain, chain);
  }
  for (; k < p.k; ++k) step(k, 0);
  for (int chain = 1; chain < kChains; ++chain) {
    for (int m = 0; m < kRows; ++m) {
      low[0][m] += low[chain][m];
      high[0][m] += high[chain][m];
    }
  }
  for (int m = 0; m < kRows; ++m) {
    float* to = p.out + m * p.out_stride;
    for (int half = 0; half < 2; ++half) {
      const int64_t first = begin + half * 16,
                    room = std::min<int64_t>(p.columns - first, kBytes / 4);
      const Floats& sums = half ? high[0][m] : low[0][m];
      if (room == kBytes / 4) {
        std::memcpy(to + first, &sums, kBytes);
      } else if (room > 0) {
        std::memcpy(to + first, &sums, static_cast<size_t>(room) * sizeof *to);
      }
    }
  }
}

// kRows rows of one panel.
template <int kBytes, int kRows, bool kNarrow>
EXN_INLINE void tile(Product p) {
  for (int64_t begin = 0; begin < 16; begin += kBytes / 4) {
    strip<kBytes, kRows, kNarrow>(p, begin);
    p.ahead += p.k * p.ahead_step;
  }
}

template <int kBytes, int kMost, bool kNarrow>
EXN_INLINE void tiles(Product p, int64_t rows) {
  // Of about the same height, as few as there can be. Each asks for its share of the next panel.
  int64_t left = (rows + kMost - 1) / kMost;
  const int64_t shares = left * (64 / kBytes);
  p.ahead_step = (kPanel * (kNarrow ? 2 : 4) + shares - 1) / shares;
  for (; left > 0; --left) {
    const int64_t height = (rows + left - 1) / left;
#define EXN_TILE(n)                                        \
  case n:                                                  \
    if constexpr (n <= kMost) tile<kBytes, n, kNarrow>(p); \
    break;
    switch (height) {
      EXN_TILE(1)
      EXN_TILE(2)
      EXN_TILE(3)
      EXN_TILE(4)
      EXN_TILE(5)
      EXN_TILE(6)
      EXN_TILE(7)
      EXN_TILE(8)
      EXN_TILE(9)
      EXN_TILE(10)
      EXN_TILE(11)
      EXN_TILE(12)
      EXN_TILE(13)
      EXN_TILE(14)
      default:
        break;
    }
    p.x += height * p.x_stride;
    p.out += height * p.out_stride;
    p.ahead += p.k * p.ahead_step * (64 / kBytes);
    rows -= height;
  }
}

template <int kBytes, int kMost>
EXN_INLINE void by_type(const Product& p, int64_t rows, bool narrow) {
  if (narrow) {
    tiles<kBytes, kMost, true>(p, rows);
  } else {
    tiles<kBytes, kMost, false>(p, rows);
  }
}

using Function = void (*)(const Product&, int64_t, bool);

void product_baseline(const Product& p, int64_t rows, bool narrow) {
  by_type<16, 6>(p, rows, narrow);
}
#if defined(__x86_64__)
__attribute__((target("arch=x86-64-v3"))) void product_avx2(const Product& p, int64_t rows,
                                                            bool narrow) {
  by_type<32, 6>(p, rows, narrow);
}
__attribute__((target("arch=x86-64-v4"))) void product_avx512(const Product& p, int64_t rows,
                                                              bool narrow) {
  by_type<64, kRowsAtOnce>(p, rows, narrow);
}
#endif

Function chosen() {
#if defined(__x86_64__)
  const std::string isa = exn_cpu_isa();
  if (isa == "avx2") return product_avx2;
  if (isa != "baseline") return product_avx512;
#endif
  return product_baseline;
}

int64_t panels_of(int64_t n) { return (n + kPanel - 1) / kPanel; }

template <class T>
void lay_out_as(const T* weights, bool transposed, int64_t n, int64_t k, bool pairs, T* to) {
  constexpr int64_t kHalf = kPanel / 2;
  for (int64_t p = 0; p < panels_of(n); ++p) {
    for (int64_t i = 0; i < k; ++i, to += kPanel) {
      for (int64_t j = 0; j < kPanel; ++j) {
        const int64_t at = p * kPanel + j;
        const T value = at >= n ? T{} : transposed ? weights[at * k + i] : weights[i * n + at];
        to[pairs ? j % kHalf * 2 + j / kHalf : j] = value;
      }
    }
  }
}

}  // namespace

int64_t panel_bytes(int32_t type, int64_t n, int64_t k) {
  return panels_of(n) * kPanel * k * (type == kFloat ? 4 : 2);
}

void lay_out(const void* weights, int32_t type, bool transposed, int64_t n, int64_t k,
             void* panels) {
  if (type == kFloat) {
    lay_out_as(static_cast<const uint32_t*>(weights), transposed, n, k, false,
               static_cast<uint32_t*>(panels));
  } else {
    lay_out_as(static_cast<const uint16_t*>(weights), transposed, n, k, type == kBfloat16,
               static_cast<uint16_t*>(panels));
  }
}

void multiply(const float* x, int64_t x_stride, const void* panels, int32_t type, const float* bias,
              float* out, int64_t out_stride, int64_t m, int64_t n, int64_t k) {
  static const Function product = chosen();
  const int64_t step = panel_bytes(type, 1, k);
  // Rows that stay near while all panels pass, of about as many each time.
  const int64_t most = std::max<int64_t>(kRowsAtOnce, kNear / (k * 4) / kRowsAtOnce * kRowsAtOnce);
  for (int64_t times = (m + most - 1) / most; times > 0; --times) {
    const int64_t rows = (m + times - 1) / times;
    for (int64_t j = 0; j < n; j += kPanel) {
      float own[kPanel] = {};
      const int64_t columns = std::min(kPanel, n - j);
      if (bias) std::memcpy(own, bias + j, static_cast<size_t>(columns) * sizeof *own);
      const char* panel = static_cast<const char*>(panels) + j / kPanel * step;
      product({x, x_stride, panel, own, out + j, out_stride, columns, k, panel + step, 0}, rows,
              type == kBfloat16);
    }
    x += rows * x_stride;
    out += rows * out_stride;
    m -= rows;
  }
}

}  // namespace exn::ort
