// SPDX-License-Identifier: Apache-2.0
//
// Elements whose type is known at run time only. For the few values at the end of a
// kernel: a branch that all threads take alike costs less there than another compiled
// copy of the whole kernel.
#pragma once

#include "elements.cuh"

namespace exn::cuda {

enum class Storage : int { kF32, kF16, kBF16 };

__device__ __forceinline__ float load_as(Storage storage, const void* base, int64_t index) {
  switch (storage) {
    case Storage::kF16:
      return widen(static_cast<const __half*>(base)[index]);
    case Storage::kBF16:
      return widen(static_cast<const __nv_bfloat16*>(base)[index]);
    default:
      return static_cast<const float*>(base)[index];
  }
}

// Four elements of 16 bits, which lie in the first half of `raw`; or it is four of f32.
template <class T>
__device__ __forceinline__ float4 widen_quad(const float4& raw) {
  float x[4];
  unpack_pair(T(), __float_as_uint(raw.x), x);
  unpack_pair(T(), __float_as_uint(raw.y), x + 2);
  return make_float4(x[0], x[1], x[2], x[3]);
}
__device__ __forceinline__ float4 widen_quad_as(Storage storage, const float4& raw) {
  switch (storage) {
    case Storage::kF16:
      return widen_quad<__half>(raw);
    case Storage::kBF16:
      return widen_quad<__nv_bfloat16>(raw);
    default:
      return raw;
  }
}

__device__ __forceinline__ void store_as(Storage storage, void* base, int64_t index, float value) {
  switch (storage) {
    case Storage::kF16:
      static_cast<__half*>(base)[index] = narrow<__half>(value);
      break;
    case Storage::kBF16:
      static_cast<__nv_bfloat16*>(base)[index] = narrow<__nv_bfloat16>(value);
      break;
    default:
      static_cast<float*>(base)[index] = value;
  }
}

// Four elements from `index` on.
__device__ __forceinline__ void store_quad_as(Storage storage, void* base, int64_t index,
                                              const float (&values)[4]) {
  switch (storage) {
    case Storage::kF16:
      store_quad(static_cast<__half*>(base) + index, values);
      break;
    case Storage::kBF16:
      store_quad(static_cast<__nv_bfloat16*>(base) + index, values);
      break;
    default:
      store_quad(static_cast<float*>(base) + index, values);
  }
}

}  // namespace exn::cuda
