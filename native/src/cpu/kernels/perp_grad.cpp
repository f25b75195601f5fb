// SPDX-License-Identifier: Apache-2.0
// perp_grad on the CPU: w and g are read twice and the result is written once, 5 * n * sizeof(element) bytes. Sums are f64 in every
// storage type: they cost nothing beside the memory, and they keep the projection of nearly parallel gradients.
#include <cmath>

#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

constexpr int64_t kTile = 16384;  // elements summed on their own before tiles are merged in ascending order

struct Dots {
  double ww = 0;
  double wg = 0;
  double gg = 0;
};

double wide(double x) { return x; }
template <class T>
double wide(T x) {
  return static_cast<double>(to_float(x));
}

void put(double* out, double x) { *out = x; }
template <class T>
void put(T* out, double x) {
  from_float(out, static_cast<float>(x));
}

// Eight interleaved sums: the compiler turns them into vectors, and the order is fixed.
template <class T>
Dots dots(const T* w, const T* g, int64_t n) {
  constexpr int kWays = 8;
  double ww[kWays] = {}, wg[kWays] = {}, gg[kWays] = {};
  int64_t i = 0;
  for (; i + kWays <= n; i += kWays) {
    for (int k = 0; k < kWays; ++k) {
      const double x = wide(w[i + k]), y = wide(g[i + k]);
      ww[k] += x * x;
      wg[k] += x * y;
      gg[k] += y * y;
    }
  }
  for (; i < n; ++i) {
    const double x = wide(w[i]), y = wide(g[i]);
    ww[0] += x * x;
    wg[0] += x * y;
    gg[0] += y * y;
  }
  Dots d;
  for (int k = 0; k < kWays; ++k) {
    d.ww += ww[k];
    d.wg += wg[k];
    d.gg += gg[k];
  }
  return d;
}

template <class T>
double perpendicular_square(const T* w, const T* g, double along, int64_t n) {
  double sums[8] = {};
  for (int64_t i = 0; i < n; ++i) {
    const double d = wide(g[i]) - along * wide(w[i]);
    sums[i % 8] += d * d;
  }
  double sum = 0;
  for (double s : sums) sum += s;
  return sum;
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
    for (int64_t i = begin; i < end; ++i) put(out + i, scale == 0 ? 0 : scale * (wide(g[i]) - along * wide(w[i])));
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
