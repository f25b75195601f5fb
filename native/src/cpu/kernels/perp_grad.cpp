// SPDX-License-Identifier: Apache-2.0
// perp_grad on the CPU: w and g are read twice and the result is written once, 5 * n * sizeof(element) bytes. Sums are f64 in every
// storage type: they cost nothing beside the memory, and they keep the projection of nearly parallel gradients.
#include <cmath>
#include <cstring>

#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kTile = 16384;  // elements summed on their own before tiles are merged in ascending order

struct Dots {
  double ww = 0;
  double wg = 0;
  double gg = 0;
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
  for_vectors(n, [&](int64_t i, int part) EXN_FLAT {
    const Wide x = load_wide(w + i, part), y = load_wide(g + i, part);
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

// g - along * w
EXN_SIMD Wide perpendicular(const Wide& w, const Wide& g, double along) {
  const f64v minus = set1(-along);
  return {fma(minus, w.low, g.low), fma(minus, w.high, g.high)};
}

template <class T>
double perpendicular_square(const T* w, const T* g, double along, int64_t n) {
  Product square;
  for_vectors(n, [&](int64_t i, int part) EXN_FLAT {
    const Wide d = perpendicular(load_wide(w + i, part), load_wide(g + i, part), along);
    square.add_up(d, d);
  });
  return square.sum();
}

template <class T>
void write_perpendicular(const T* w, const T* g, double along, double scale, int64_t n, T* out) {
  const f64v factor = set1(scale);
  for_vectors(n, [&](int64_t i, int part) EXN_FLAT {
    const Wide d = perpendicular(load_wide(w + i, part), load_wide(g + i, part), along);
    store_wide(out + i, {mul(d.low, factor), mul(d.high, factor)}, part);
  });
}

// Half a unit in the last place of 1.
double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 0x1p-53;
    case DType::kF16:
      return 0x1p-11;
    case DType::kBF16:
      return 0x1p-8;
    default:
      return 0x1p-24;
  }
}

template <class F>
double sum_tiles(int64_t n, double* partial, F&& f) {
  const int64_t tiles = (n + kTile - 1) / kTile;
  parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kTile;
      partial[t] = f(first, n - first < kTile ? n - first : kTile);
    }
  });
  double sum = 0;
  for (int64_t t = 0; t < tiles; ++t) sum += partial[t];
  return sum;
}

template <class T>
void project(const PerpGradArgs& a, Dots* partial, double* partial_square) {
  const T* w = static_cast<const T*>(a.weight.data);
  const T* g = static_cast<const T*>(a.grad.data);
  T* out = static_cast<T*>(a.out.data);
  const int64_t n = a.weight.size, tiles = (n + kTile - 1) / kTile;
  parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * kTile;
      partial[t] = dots(w + first, g + first, n - first < kTile ? n - first : kTile);
    }
  });
  Dots all;
  for (int64_t t = 0; t < tiles; ++t) {
    all.ww += partial[t].ww;
    all.wg += partial[t].wg;
    all.gg += partial[t].gg;
  }
  const double along = all.wg / (all.ww + 1e-30);
  // |g - along w|^2 by Pythagoras, unless most of it would cancel: then by another pass.
  double square = all.gg - 2 * along * all.wg + along * along * all.ww;
  if (!(square > 1e-6 * all.gg) || a.weight.dtype == DType::kF64) {
    square = sum_tiles(n, partial_square, [&](int64_t first, int64_t count) {
      return perpendicular_square(w + first, g + first, along, count);
    });
  }
  const double norm = ::sqrt(all.gg), perpendicular = ::sqrt(square);
  double scale = a.form == EXN_PERP_CODE ? norm / (perpendicular + 1e-30) : 1;
  if (perpendicular <= unit_roundoff(a.weight.dtype) * norm) scale = 0;
  if (!std::isfinite(all.ww) || !std::isfinite(all.gg)) scale = __builtin_nan("");
  parallel_for(n, kTile, [&](int64_t begin, int64_t end) {
    if (scale == 0) {
      std::memset(out + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
    } else {
      write_perpendicular(w + begin, g + begin, along, scale, end - begin, out + begin);
    }
  });
}

}  // namespace

exn_status perp_grad(const PerpGradArgs& a, Workspace& ws) {
  const int64_t tiles = (a.weight.size + kTile - 1) / kTile;
  Dots* partial = ws.take<Dots>(tiles);
  double* partial_square = ws.take<double>(tiles);
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH("perp_grad"));
  if (a.weight.dtype == DType::kF64) {
    project<double>(a, partial, partial_square);
  } else {
    with_float_type(a.weight.dtype, [&](auto type) { project<EXN_TYPE_OF(type)>(a, partial, partial_square); });
  }
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
