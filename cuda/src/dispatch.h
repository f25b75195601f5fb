// SPDX-License-Identifier: Apache-2.0
//
// Turns values known at run time into compile-time ones.
#pragma once

#include <cstdint>

#include <exeunt/cuda/normalizer.cuh>
#include <exeunt/cuda/portable.cuh>
#include <exeunt/cuda/storage.cuh>
#include <exeunt/row_stats.h>

#include "base/args.h"

namespace exn::cuda {

template <class T>
struct Type {
  using type = T;
};

template <class Tag>
using type_of = typename Tag::type;

// Calls f(Type<T>{}) for the storage types that every op offers; the ABI layer has refused the
// rest.
template <class F>
void dispatch_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(Type<float>{});
    case DType::kF16:
      return f(Type<__half>{});
    default:
      return f(Type<__nv_bfloat16>{});
  }
}

// As dispatch_float, for ops that take f64 too.
template <class F>
void dispatch_real(DType dtype, F&& f) {
  if (dtype == DType::kF64) return f(Type<double>{});
  dispatch_float(dtype, f);
}

inline Storage storage_of(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return Storage::kF16;
    case DType::kBF16:
      return Storage::kBF16;
    default:
      return Storage::kF32;
  }
}

// Calls f(Type<Softmax<A>>{}) or f(Type<StableMax<A>>{}).
template <class A, class F>
void dispatch_normalizer(int32_t normalizer, F&& f) {
  if (normalizer == EXN_SOFTMAX) return f(Type<Softmax<A>>{});
  f(Type<StableMax<A>>{});
}

}  // namespace exn::cuda
