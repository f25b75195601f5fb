// SPDX-License-Identifier: Apache-2.0
// perp_grad on the CPU: w and g are read twice and the result is written once, 5 * n *
// sizeof(element) bytes, unless sums in f32 do not do (see below). The second pass over a large
// tensor begins where the first ended, with what the caches still hold, and stores past them.
//
// What is stored in less than f64 is summed and projected in f32 first. Sums of a block are short
// enough to tell a gradient that stands off the weights; one that lies close to them, of which
// little is left, and one whose squares f32 cannot hold are done again in f64.
#include <cmath>
#include <cstring>

#include "base/args/perp_grad.h"
#include "elements.h"
#include "moves.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Elements summed on their own before tiles are merged in ascending order.
constexpr int64_t kDotTile = 16384;
// Elements whose products are summed in f32: chains of 32 products in any instruction set.
constexpr int64_t kDotBlock = 64 * kLanes;
static_assert(kDotTile % kDotBlock == 0, "");

struct Dots {
  double ww = 0;
  double wg = 0;
  double gg = 0;

  EXN_SIMD void operator+=(const Dots& d) {
    ww += d.ww;
    wg += d.wg;
    gg += d.gg;
  }
};

// kLanes elements in f64; beyond the first n lanes 0.
struct Wide {
  f64v low, high;
};

template <class T>
EXN_SIMD Wide load_wide(const T* p, int n) {
  const f32v v = load_part(p, n, 0.0f);
  return {low_f64(v), high_f64(v)};
}
EXN_SIMD Wide load_wide(const double* p, int n) {
  if (n == kLanes) return {load(p), load(p + kLanes / 2)};
  double lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return {load(lanes), load(lanes + kLanes / 2)};
}

template <class T>
EXN_SIMD void store_wide(T* p, const Wide& v, int n) {
  store_part(p, narrow(v.low, v.high), n);
}
EXN_SIMD void store_wide(double* p, const Wide& v, int n) {
  double lanes[kLanes];
  store(lanes, v.low);
  store(lanes + kLanes / 2, v.high);
  std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(double));
}

// Sum of products, one chain for each half of a vector: the order is fixed by the instruction set.
struct Product {
  f64v low = zero_f64(), high = zero_f64();
  EXN_SIMD void add_up(const Wide& a, const Wide& b) {
    low = fma(a.low, b.low, low);
    high = fma(a.high, b.high, high);
  }
  EXN_SIMD double sum() const { return reduce_add(add(low, high)); }
};

template <class T>
Dots dots(const T* w, const T* g, int64_t n) {
  Product ww, wg, gg;
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const Wide x = load_wide(w + i, lanes), y = load_wide(g + i, lanes);
    ww.add_up(x, x);
    wg.add_up(x, y);
    gg.add_up(y, y);
  });
  Dots d;
  d.ww = ww.sum();
  d.wg = wg.sum();
  d.gg = gg.sum();
  return d;
}

// Sum of products of blocks in f32, two chains in each, and of the blocks in f64.
struct ShortProduct {
  f32v even = zero(), odd = zero();
  f64v blocks = zero_f64();
  EXN_SIMD void end_block() {
    const f32v block = add(even, odd);
    blocks = add(blocks, add(low_f64(block), high_f64(block)));
    even = odd = zero();
  }
};

template <class T>
Dots short_dots(const T* w, const T* g, int64_t n) {
  ShortProduct ww, wg, gg;
  for (int64_t first = 0; first < n; first += kDotBlock) {
    const int64_t end = n - first < kDotBlock ? n : first + kDotBlock;
    int64_t i = first;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      const f32v x = load(w + i), y = load(g + i);
      ww.even = fma(x, x, ww.even);
      wg.even = fma(x, y, wg.even);
      gg.even = fma(y, y, gg.even);
      const f32v u = load(w + i + kLanes), v = load(g + i + kLanes);
      ww.odd = fma(u, u, ww.odd);
      wg.odd = fma(u, v, wg.odd);
      gg.odd = fma(v, v, gg.odd);
    }
    for_vectors(end - i, [&](int64_t j, int lanes) EXN_FLAT {
      const f32v x = load_part(w + i + j, lanes, 0.0f), y = load_part(g + i + j, lanes, 0.0f);
      ww.even = fma(x, x, ww.even);
      wg.even = fma(x, y, wg.even);
      gg.even = fma(y, y, gg.even);
    });
    ww.end_block();
    wg.end_block();
    gg.end_block();
  }
  Dots d;
  d.ww = reduce_add(ww.blocks);
  d.wg = reduce_add(wg.blocks);
  d.gg = reduce_add(gg.blocks);
  return d;
}

// g - along * w
EXN_SIMD Wide perpendicular(const Wide& w, const Wide& g, double along) {
  const f64v minus = set1(-along);
  return {fma(minus, w.low, g.low), fma(minus, w.high, g.high)};
}

template <class T>
double perpendicular_square(const T* w, const T* g, double along, int64_t n) {
  Product square;
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const Wide d = perpendicular(load_wide(w + i, lanes), load_wide(g + i, lanes), along);
    square.add_up(d, d);
  });
  return square.sum();
}

template <class T>
void write_perpendicular(const T* w, const T* g, double along, double scale, int64_t n, T* out) {
  const f64v factor = set1(scale);
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const Wide d = perpendicular(load_wide(w + i, lanes), load_wide(g + i, lanes), along);
    store_wide(out + i, {mul(d.low, factor), mul(d.high, factor)}, lanes);
  });
}

template <class T>
void write_short(const T* w, const T* g, double along, double scale, int64_t n, T* out) {
  const f32v of_w = set1(static_cast<float>(-along * scale));
  const f32v of_g = set1(static_cast<float>(scale));
  for_vectors(n, [&](int64_t i, int lanes) EXN_FLAT {
    const f32v x = load_part(w + i, lanes, 0.0f), y = load_part(g + i, lanes, 0.0f);
    store_part(out + i, fma(of_w, x, mul(of_g, y)), lanes);
  });
}

// The same past the caches, whatever out's alignment.
template <class T>
void stream_short(const T* w, const T* g, double along, double scale, int64_t n, T* out) {
  alignas(64) T block[kDotBlock];
  for (int64_t i = 0; i < n; i += kDotBlock) {
    const int64_t count = n - i < kDotBlock ? n - i : kDotBlock;
    write_short(w + i, g + i, along, scale, count, block);
    move_entry<true, false>(reinterpret_cast<char*>(out + i), reinterpret_cast<const char*>(block),
                            count * static_cast<int64_t>(sizeof(T)), nullptr);
  }
}

// The share of |g| up to which |g_perp| is rounding noise: the storage's unit roundoff. What is
// computed in f64 is finer than that, unless it is stored so, too; then sums and quotient count.
double noise_share(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 0x1p-50;
    case DType::kF16:
      return 0x1p-11;
    case DType::kBF16:
      return 0x1p-8;
    default:
      return 0x1p-24;
  }
}

// f(t, first element, elements) for all tiles, or for the last tile first.
template <class F>
void for_tiles(int64_t n, bool backwards, F&& f) {
  const int64_t tiles = (n + kDotTile - 1) / kDotTile;
  parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t t = backwards ? tiles - 1 - i : i, first = t * kDotTile;
      f(t, first, n - first < kDotTile ? n - first : kDotTile);
    }
    end_stream();  // if f did
  });
}

template <class Sum, class F>
Sum sum_tiles(int64_t n, Sum* partial, F&& f) {
  for_tiles(n, false,
            [&](int64_t t, int64_t first, int64_t count) { partial[t] = f(first, count); });
  Sum sum = {};
  for (int64_t t = 0; t < (n + kDotTile - 1) / kDotTile; ++t) sum += partial[t];
  return sum;
}

// |g - along w|^2 by Pythagoras.
double square_of(const Dots& d, double along) {
  return d.gg - 2 * along * d.wg + along * along * d.ww;
}

// Whether f32 sums tell the projection: nothing that counts has left f32's range, and at least a
// quarter of the gradient is left, so that their errors weigh no more than four times as much.
bool suffices(const Dots& d) {
  const auto within = [](double square) { return square >= 0x1p-60 && square <= 0x1p100; };
  return within(d.ww) && within(d.gg) && square_of(d, d.wg / d.ww) >= d.gg / 16;
}

template <class T>
void project(const PerpGradArgs& a, Dots* partial, double* partial_square) {
  const T* w = static_cast<const T*>(a.weight.data);
  const T* g = static_cast<const T*>(a.grad.data);
  T* out = static_cast<T*>(a.out.data);
  const int64_t n = a.weight.size;
  Dots all;
  bool in_f32 = false;
  if constexpr (sizeof(T) < sizeof(double)) {
    all = sum_tiles(n, partial, [&](int64_t first, int64_t count) {
      return short_dots(w + first, g + first, count);
    });
    in_f32 = suffices(all);
  }
  if (!in_f32) {
    all = sum_tiles(n, partial, [&](int64_t first, int64_t count) {
      return dots(w + first, g + first, count);
    });
  }
  const double along = all.wg / (all.ww + 1e-30);
  double square = square_of(all, along);
  // Most of it would cancel: by another pass.
  if (!(square > 1e-6 * all.gg) || a.weight.dtype == DType::kF64) {
    square = sum_tiles(n, partial_square, [&](int64_t first, int64_t count) {
      return perpendicular_square(w + first, g + first, along, count);
    });
  }
  const double norm = ::sqrt(all.gg), perpendicular = ::sqrt(square);
  double scale = a.form == EXN_PERP_CODE ? norm / (perpendicular + 1e-30) : 1;
  if (perpendicular <= noise_share(a.weight.dtype) * norm) scale = 0;
  if (!std::isfinite(all.ww) || !std::isfinite(all.gg)) scale = __builtin_nan("");
  const bool large = n * static_cast<int64_t>(sizeof(T)) >= kStreamed;
  for_tiles(n, large, [&](int64_t, int64_t first, int64_t count) {
    if (scale == 0) {
      std::memset(out + first, 0, static_cast<size_t>(count) * sizeof(T));
      return;
    }
    if constexpr (sizeof(T) < sizeof(double)) {
      const auto write = large && out != g ? stream_short<T> : write_short<T>;
      if (in_f32) return write(w + first, g + first, along, scale, count, out + first);
    }
    write_perpendicular(w + first, g + first, along, scale, count, out + first);
  });
}

}  // namespace

exn_status perp_grad(const PerpGradArgs& a, Workspace& ws) {
  const int64_t tiles = (a.weight.size + kDotTile - 1) / kDotTile;
  Dots* partial = ws.take<Dots>(tiles);
  double* partial_square = ws.take<double>(tiles);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "perp_grad"));
  if (a.weight.dtype == DType::kF64) {
    project<double>(a, partial, partial_square);
  } else {
    with_float_type(a.weight.dtype,
                    [&](auto type) { project<EXN_TYPE_OF(type)>(a, partial, partial_square); });
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
