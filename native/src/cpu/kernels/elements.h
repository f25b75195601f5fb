// SPDX-License-Identifier: Apache-2.0
// Calls a generic lambda with the storage type that a dtype stands for.
#pragma once

#include <type_traits>

#include "isa.h"

namespace exn::cpu::EXN_ISA {

// Whether products of two such operands are to be of bf16 pairs. It is up to the instruction set and
// not to the number of rows, so that a row has the same bits in every batch.
static EXN_SIMD bool in_pairs([[maybe_unused]] const Workspace& ws, [[maybe_unused]] DType one,
                              [[maybe_unused]] DType other) {
#if defined(EXN_HAS_BF16_DOT)
  return ws.pairs() && one == DType::kBF16 && other == DType::kBF16;
#else
  return false;
#endif
}

template <class F>
static EXN_SIMD void with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF16:
      f(static_cast<const f16*>(nullptr));
      break;
    case DType::kBF16:
      f(static_cast<const bf16*>(nullptr));
      break;
    default:
      f(static_cast<const float*>(nullptr));
  }
}

// The storage type of the pointer that with_float_type passes.
#define EXN_TYPE_OF(p) std::remove_const_t<std::remove_pointer_t<decltype(p)>>

template <class T>
static EXN_SIMD const T* row_of(const Matrix& m, int64_t row) {
  return static_cast<const T*>(m.data) + row * m.stride;
}

// Loops over [0, n) by vectors: f(i, kLanes) for whole ones, then f(i, rest) once for a tail.
template <class F>
static EXN_SIMD void for_vectors(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, static_cast<int>(n - i));
}

// A vector of which only the first n lanes count.
template <class T>
static EXN_SIMD f32v load_part(const T* p, int n, float fill) {
  return n == kLanes ? load(p) : load_n(p, n, fill);
}

template <class T>
static EXN_SIMD void store_part(T* p, f32v v, int n) {
  if (n == kLanes) {
    store(p, v);
  } else {
    store_n(p, v, n);
  }
}

}  // namespace exn::cpu::EXN_ISA
