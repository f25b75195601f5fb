// SPDX-License-Identifier: Apache-2.0
// RMSNorm and LayerNorm of a row.
#pragma once

#include <cmath>

#include <exeunt/norm.h>

#include "elements.h"

namespace exn::cpu::EXN_ISA {

template <class T>
static EXN_SIMD T* out_row(const Matrix& m, int64_t row) {
  return static_cast<T*>(m.data) + row * m.stride;
}

// to[i] = from[i] in another type.
template <class T, class U>
static EXN_SIMD void convert(const T* from, int64_t n, U* to) {
  for_vectors(n, [&](int64_t i, int lanes)
                     EXN_FLAT {
    store_part(to + i, load_part(from + i, lanes, 0.0f), lanes);
  });
}

// Sum of f(vector) over a row, in four chains so that additions do not wait for each other; what
// lies beyond the row reads as `fill`. The order depends on n alone.
template <class T, class F>
static EXN_SIMD float sum_row(const T* x, int64_t n, float fill, F&& f) {
  f32v acc[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 2 * kPair <= n; i += 2 * kPair) {
    f32v v[4];
    for (int k = 0; k < 4; k += 2) load_pair(x + i + k * kLanes, v[k], v[k + 1]);
    for (int k = 0; k < 4; ++k) acc[k] = f(v[k], acc[k]);
  }
  for_vectors(n - i, [&](int64_t j, int lanes)
                         EXN_FLAT {
    acc[0] = f(load_part(x + i + j, lanes, fill), acc[0]);
  });
  return reduce_add(add(add(acc[0], acc[1]), add(acc[2], acc[3])));
}

struct Moments {
  float centre = 0;
  float scale = 1;
};

// A call of its own: it is the same for every type that a row may be written in.
template <class T>
static __attribute__((noinline)) Moments moments_of(const T* x, int64_t dim, int32_t norm,
                                                    float eps) {
  Moments m;
  if (norm == EXN_NORM_NONE) return m;
  const float count = static_cast<float>(dim);
  float square;
  if (norm == EXN_NORM_LAYER) {
    m.centre = sum_row(x, dim, 0.0f, [](f32v v, f32v acc) EXN_FLAT { return add(acc, v); }) / count;
    const f32v centre = set1(m.centre);
    square = sum_row(x, dim, m.centre, [&](f32v v, f32v acc) EXN_FLAT {
      const f32v d = sub(v, centre);
      return fma(d, d, acc);
    });
  } else {
    square = sum_row(x, dim, 0.0f, [](f32v v, f32v acc) EXN_FLAT { return fma(v, v, acc); });
  }
  m.scale = 1 / ::sqrtf(square / count + eps);
  return m;
}

// to = (x - centre) * scale * weight + bias; without a weight x itself, without a bias 0.
template <class T, class U>
static EXN_SIMD void normalise_row(const T* x, int64_t dim, const Moments& m, const float* weight,
                                   const float* bias, U* to) {
  if (weight == nullptr) {
    convert(x, dim, to);
    return;
  }
  const f32v centre = set1(m.centre), scale = set1(m.scale);
  const auto run = [&](auto centred, auto biased) EXN_FLAT {
    const auto normal = [&](int64_t i, int n) EXN_FLAT {
      f32v v = load_part(x + i, n, 0.0f);
      if constexpr (decltype(centred)::value) v = sub(v, centre);
      v = mul(mul(v, scale), load_part(weight + i, n, 0.0f));
      if constexpr (decltype(biased)::value) v = add(v, load_part(bias + i, n, 0.0f));
      return v;
    };
    int64_t i = 0;
    for (; i + 2 * kLanes <= dim; i += 2 * kLanes)
      store_two(to + i, normal(i, kLanes), normal(i + kLanes, kLanes));
    for_vectors(dim - i,
                [&](int64_t j, int n) EXN_FLAT { store_part(to + i + j, normal(i + j, n), n); });
  };
  const std::true_type yes;
  const std::false_type no;
  if (bias != nullptr) {
    run(yes, yes);
  } else if (m.centre != 0) {  // NaN is not
    run(yes, no);
  } else {
    run(no, no);
  }
}

// To a 16-bit type and back.
static EXN_SIMD void round_row(DType dtype, float* x, int64_t dim) {
  with_float_type(dtype, [&](auto type) {
    for (int64_t i = 0; i < dim; ++i) {
      EXN_TYPE_OF(type) rounded;
      from_float(&rounded, x[i]);
      x[i] = to_float(rounded);
    }
  });
}

}  // namespace exn::cpu::EXN_ISA
