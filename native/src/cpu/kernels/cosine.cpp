// SPDX-License-Identifier: Apache-2.0
// cosine on the CPU: both matrices read once, 2 * R * D * sizeof(element) bytes.
#include <cmath>

#include "base/args/cosine.h"
#include "elements.h"

namespace exn::cpu::EXN_ISA {
namespace {

// Squares of f32 overflow above 2^64 and vanish below 2^-75; such rows, and those with NaN or
// infinity, are done again in f64.
bool in_range(float norm) { return norm > 1e-20f && norm < 1e30f; }

template <class T>
float careful_cosine(const T* a, const T* b, int64_t dim) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < dim; ++i) {
    const double x = static_cast<double>(to_float(a[i])), y = static_cast<double>(to_float(b[i]));
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  if (!std::isfinite(aa) || !std::isfinite(bb)) return NAN;
  if (aa == 0 || bb == 0) return 0;
  const double c = ab / (::sqrt(aa) * ::sqrt(bb));
  return static_cast<float>(c > 1 ? 1 : c < -1 ? -1 : c);
}

template <class T>
float row_cosine(const T* a, const T* b, int64_t dim) {
  f32v ab[2] = {zero(), zero()}, aa[2] = {zero(), zero()}, bb[2] = {zero(), zero()};
  const auto visit = [&](int k, f32v x, f32v y) EXN_FLAT {
    ab[k] = fma(x, y, ab[k]);
    aa[k] = fma(x, x, aa[k]);
    bb[k] = fma(y, y, bb[k]);
  };
  int64_t i = 0;
  for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
    visit(0, load(a + i), load(b + i));
    visit(1, load(a + i + kLanes), load(b + i + kLanes));
  }
  for_vectors(dim - i, [&](int64_t j, int n) EXN_FLAT {
    visit(0, load_part(a + i + j, n, 0.0f), load_part(b + i + j, n, 0.0f));
  });
  const float dot = reduce_add(add(ab[0], ab[1]));
  const float norm_a = reduce_add(add(aa[0], aa[1]));
  const float norm_b = reduce_add(add(bb[0], bb[1]));
  if (!in_range(norm_a) || !in_range(norm_b)) return careful_cosine(a, b, dim);
  const float c = dot / (::sqrtf(norm_a) * ::sqrtf(norm_b));
  return c > 1 ? 1 : c < -1 ? -1 : c;
}

}  // namespace

exn_status cosine(const CosineArgs& a, Workspace& ws) {
  if (ws.counting()) return EXN_OK;
  ran(EXN_CPU_PATH(ws, "cosine"));
  const int64_t rows = a.a.rows, dim = a.a.cols;
  with_float_type(a.a.dtype, [&](auto type) {
    using T = EXN_TYPE_OF(type);
    parallel_for(rows, 32768 / dim + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        a.out[row] = row_cosine(row_of<T>(a.a, row), row_of<T>(a.b, row), dim);
      }
    });
  });
  return EXN_OK;
}

}  // namespace exn::cpu::EXN_ISA
